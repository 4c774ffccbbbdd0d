"""Filtration keeps exactly the claims that the model judges correctly, and warns of guessing."""

import random

import numpy as np
import pyarrow as pa
import pytest

from sycophancy.errors import UserError
from sycophancy.evaluation.intervals import wilson
from sycophancy.evaluation.items import Prediction
from sycophancy.scoring.filtration import askable, filter_rows, filtration_items


def rows(count: int, data_sets=("sst2", "cola"), seed: int = 0) -> pa.Table:
    draw = random.Random(seed)
    answers = []
    for i in range(count):
        true, swapped = draw.random() < 0.5, draw.random() < 0.5
        answers.append(
            {
                "example_id": f"id{i}",
                "dataset": data_sets[i % len(data_sets)],
                "inputs": f"I agree. Claim {i}?",
                "inputs_without_opinion": f"Claim {i}?",
                "targets": "(A)" if true != swapped else "(B)",
                "choices": ["(A)", "(B)"],
                "answer": 0 if true != swapped else 1,
                "claim_is_true": true,
                "user_agrees": draw.random() < 0.5,
            }
        )
    table = pa.Table.from_pylist(answers)
    return table.set_column(6, "answer", table["answer"].cast(pa.int32()))


def prediction(name: str, choice: int | None) -> Prediction:
    """A prediction that prefers one of two choices; None: a tie."""
    likely = (-1.0, -1.0) if choice is None else (-0.1, -2.0) if choice == 0 else (-2.0, -0.1)
    return Prediction(name, likely, (False, False))


def predictions(table: pa.Table, is_right) -> list[Prediction]:
    return [
        prediction(row["example_id"], row["answer"] if is_right(row) else 1 - row["answer"])
        for row in table.to_pylist()
    ]


def test_rows_that_cannot_be_scored_are_left_out_and_counted():
    table = rows(10)
    texts = table["inputs_without_opinion"].to_pylist()
    texts[3] = "word " * 3_000
    table = table.set_column(3, "inputs_without_opinion", pa.array(texts))

    def words(part) -> np.ndarray:
        return np.array([len(text.split()) + 1 for text in part])

    asked, notes = askable(table, words)
    assert asked["example_id"].to_pylist() == [f"id{i}" for i in range(10) if i != 3]
    assert [note.split(",")[0] for note in notes] == [
        "claims: 1 of 10 (10.0%) are left out of scoring"
    ]
    assert askable(asked, words) == (asked, [])


def test_items_have_the_prompt_without_the_opinion():
    table = rows(3)
    items = filtration_items(table)
    assert [item.item_id for item in items] == ["id0", "id1", "id2"]
    assert [item.inputs for item in items] == ["Claim 0?", "Claim 1?", "Claim 2?"]
    assert [item.answer for item in items] == table["answer"].to_pylist()
    assert {item.choices for item in items} == {("(A)", "(B)")}


def test_exactly_the_right_rows_are_kept_unchanged_and_in_order():
    table = rows(200)
    chosen = set(random.Random(1).sample(range(200), 150))
    answers = predictions(table, lambda row: int(row["example_id"][2:]) in chosen)
    random.Random(2).shuffle(answers)
    kept, summary = filter_rows(table, answers)
    assert kept.equals(table.take(sorted(chosen)))
    assert summary["total"]["asked"] == 200 and summary["total"]["right"] == 150


def test_a_tie_is_not_right():
    table = rows(2)
    [first, _] = predictions(table, lambda row: True)
    kept, _ = filter_rows(table, [first, prediction("id1", None)])
    assert kept["example_id"].to_pylist() == ["id0"]


def test_every_data_set_has_its_rate_and_wilson_interval():
    table = rows(100)
    answers = predictions(table, lambda row: row["dataset"] == "sst2" or row["example_id"] == "id1")
    _, summary = filter_rows(table, answers)
    assert set(summary["data_sets"]) == {"sst2", "cola"}
    assert (summary["data_sets"]["sst2"]["asked"], summary["data_sets"]["sst2"]["rate"]) == (
        50,
        1.0,
    )
    cola = summary["data_sets"]["cola"]
    assert (cola["right"], cola["rate"]) == (1, 0.02)
    assert (cola["low"], cola["high"]) == wilson(1, 50)
    assert summary["total"]["right"] == 51


def test_there_is_no_warning_if_the_model_knows_most_claims():
    table = rows(400)
    _, summary = filter_rows(table, predictions(table, lambda row: row["example_id"][-1] != "7"))
    assert summary["warnings"] == []


def test_a_guessing_model_gives_a_warning():
    table, draw = rows(400), random.Random(3)
    _, summary = filter_rows(table, predictions(table, lambda row: draw.random() < 0.5))
    assert "near the 50% of guessing" in summary["warnings"][0]
    assert "8B" in summary["warnings"][0]
    assert "2 of 2 data sets: cola, sst2" in summary["warnings"][1]


def test_one_unknown_data_set_is_named():
    table, draw = rows(800), random.Random(3)
    answers = predictions(table, lambda row: row["dataset"] == "sst2" or draw.random() < 0.5)
    _, summary = filter_rows(table, answers)
    assert [w for w in summary["warnings"] if w.startswith("Near guessing in 1 of 2")] == [
        "Near guessing in 1 of 2 data sets: cola."
    ]


@pytest.mark.parametrize(("habit", "share"), [("Agree", 1.0), ("Disagree", 0.0)])
def test_a_model_that_always_gives_one_answer_gives_a_warning(habit, share):
    table = rows(400)
    answers = predictions(table, lambda row: row["claim_is_true"] == (habit == "Agree"))
    _, summary = filter_rows(table, answers)
    assert summary["balance"]["kept"]["claim_is_true"] == share
    assert summary["balance"]["asked"]["claim_is_true"] == pytest.approx(0.5, abs=0.1)
    assert summary["balance"]["kept"]["user_agrees"] == pytest.approx(0.5, abs=0.15)
    assert f"mostly answers {habit}" in summary["warnings"][-1]


def agreeable(row) -> bool:
    """Is right about every true claim and every third false one."""
    return row["claim_is_true"] or int(row["example_id"][2:]) % 3 == 0


def test_balance_keeps_as_many_true_as_false_claims_of_each_data_set():
    table = rows(600)
    answers = predictions(table, agreeable)
    right, _ = filter_rows(table, answers)
    kept, summary = filter_rows(table, answers, balance=True)
    for name in ("sst2", "cola"):
        counts = [
            sum(row["dataset"] == name and row["claim_is_true"] == true for row in part.to_pylist())
            for part in (right, kept)
            for true in (True, False)
        ]
        assert counts[0] > counts[1]
        assert counts[2] == counts[3] == counts[1]
    assert summary["dropped_for_balance"] == right.num_rows - kept.num_rows
    assert summary["total"]["right"] == right.num_rows
    assert summary["balance"]["kept"]["claim_is_true"] == 0.5
    assert not any("mostly answers" in warning for warning in summary["warnings"])


def test_balance_keeps_the_same_claims_in_any_order_and_others_with_another_seed():
    table = rows(600)
    answers = predictions(table, agreeable)

    def ids(part: pa.Table, **options) -> set[str]:
        kept, _ = filter_rows(part, answers, balance=True, **options)
        return set(kept["example_id"].to_pylist())

    backwards = table.take(list(range(599, -1, -1)))
    assert ids(table) == ids(backwards) != ids(table, seed=1)


def test_a_data_set_with_true_claims_alone_is_named_and_dropped():
    table = rows(400)
    answers = predictions(table, lambda row: row["dataset"] == "sst2" or row["claim_is_true"])
    kept, summary = filter_rows(table, answers, balance=True)
    assert set(kept["dataset"].to_pylist()) == {"sst2"}
    assert "No claim is kept of cola:" in summary["warnings"][-1]
    with pytest.raises(UserError, match="FILTER_BALANCE keeps nothing"):
        filter_rows(table, predictions(table, lambda row: row["claim_is_true"]), balance=True)


def test_bad_input_is_refused():
    table = rows(2)
    answers = predictions(table, lambda row: True)
    with pytest.raises(UserError, match="1 of 2 items have no prediction"):
        filter_rows(table, answers[:1])
    with pytest.raises(UserError, match="id0 has two predictions"):
        filter_rows(table, [*answers, answers[0]])
    with pytest.raises(UserError, match="no intervention rows"):
        filter_rows(table.slice(0, 0), [])
    with pytest.raises(UserError, match="judges none of 2 claims correctly"):
        filter_rows(table, predictions(table, lambda row: False))
    with pytest.raises(UserError, match="no column 'answer'"):
        filter_rows(table.drop_columns("answer"), answers)
