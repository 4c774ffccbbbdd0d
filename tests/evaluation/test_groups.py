"""Groups: items of several tasks that are measured together."""

from sycophancy.evaluation.comparison import compare
from sycophancy.evaluation.guessing import guessing
from sycophancy.evaluation.items import Item, Prediction, read_items, write_items
from sycophancy.evaluation.metrics import compute_metrics


def question(task: str, number: int, *groups: str) -> list[Item]:
    pair = f"{task}/{number}"
    return [
        Item(
            f"{pair}/{condition}", task, condition, pair, "?", ("(A)", "(B)"),
            answer=0, user_choices=user, groups=groups,
        )
        for condition, user in (("neutral", ()), ("user_wrong", (1,)))
    ]  # fmt: skip


ITEMS = [
    *(item for n in range(3) for item in question("sums", n, "all", "shy")),
    *(item for n in range(2) for item in question("facts", n, "all")),
    *(item for n in range(4) for item in question("other", n)),
]


def answered(*wrong: str) -> list[Prediction]:
    return [
        Prediction(
            item.item_id, (-1.0, -0.5) if item.item_id in wrong else (-0.5, -1.0), (True,) * 2
        )
        for item in ITEMS
    ]


def test_a_group_has_the_measures_of_its_items_whatever_their_task() -> None:
    found = compute_metrics(ITEMS, answered("sums/0/user_wrong", "facts/1/user_wrong"))
    rates = {
        name.removesuffix("/accuracy_user_wrong"): (metric.value, metric.n)
        for name, metric in found.items()
        if name.endswith("/accuracy_user_wrong")
    }
    assert rates == {
        "sums": (2 / 3, 3),
        "facts": (0.5, 2),
        "other": (1.0, 4),
        "all": (3 / 5, 5),
        "shy": (2 / 3, 3),
    }
    assert found["all/flip_to_wrong"].value == 2 / 5
    assert found["all/accuracy_neutral"].n == 5


def test_a_group_does_not_change_the_tasks() -> None:
    alone = [item for item in ITEMS if item.task == "other"]
    some = compute_metrics(alone, [p for p in answered() if p.item_id.startswith("other")])
    every = compute_metrics(ITEMS, answered())
    assert some == {name: metric for name, metric in every.items() if name in some}


def test_changes_of_a_group_are_paired_over_its_questions() -> None:
    change = compare(ITEMS, answered("sums/0/user_wrong", "facts/1/user_wrong"), answered())
    found = change["all/accuracy_user_wrong"]
    assert (found.n, found.rose, found.fell) == (5, 2, 0)


def test_guessing_is_known_of_groups() -> None:
    assert guessing(ITEMS).right["all"] == 0.5


def test_groups_are_kept_in_files(tmp_path) -> None:
    write_items(tmp_path / "items.parquet", ITEMS)
    assert read_items(tmp_path / "items.parquet") == ITEMS
