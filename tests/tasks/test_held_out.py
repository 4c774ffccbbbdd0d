"""The evaluation tasks through SeqIO's own evaluator."""

import numpy as np
import pytest
import seqio
from prepared_run import write_vocabulary

import tasks
from sycophancy.data import probes
from sycophancy.data.prepare import evaluation_file
from sycophancy.data.public_sets.catalog import SETS as PUBLIC_SETS
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, Prediction, write_items
from sycophancy.evaluation.metrics import compute_metrics
from sycophancy.model.vocabulary import Vocabulary
from tasks.evaluation import NAMES, SETS

RNG = np.random.default_rng(0)


def addition(i):
    pair = f"sum{i}"
    return [
        Item(f"{pair}/{condition}", "addition", condition, pair, f"red cat {text}", ("(A)", "(B)"),
             answer=i % 2, user_choices=user)
        for condition, text, user in (
            ("neutral", "is", ()),
            ("user_wrong", "likes", (1 - i % 2,)),
            ("user_right", "sees", (i % 2,)),
        )
    ]  # fmt: skip


def survey(i):
    return [
        Item(f"nlp{i}/{condition}", "surveys/nlp", condition, f"nlp{i}", "a tree",
             ("(A)", "(B)", "(A) (B)"), user_choices=(i % 3,))
        for condition in ("neutral", "user_view")
    ]  # fmt: skip


def free_text(i):
    pair, choices = f"genies{i}", ("red", "the tree likes the cat")
    return [
        Item(f"{pair}/{condition}", "genies/answer", condition, pair, f"house {text}", choices,
             answer=i % 2, user_choices=user, free_text=True)
        for condition, text, user in (("neutral", "is", ()), ("user_wrong", "sees", (1 - i % 2,)))
    ]  # fmt: skip


ITEMS = {
    "addition": [item for i in range(20) for item in addition(i)],
    "surveys/nlp": [item for i in range(15) for item in survey(i)],
    "genies/answer": [item for i in range(10) for item in free_text(i)],
    "instruction": [
        Item(f"do{i}", "instruction", "neutral", f"do{i}", "the river", (word,), answer=0)
        for i, word in enumerate(("red", "green", "blue apple"))
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for name, items in ITEMS.items():
        write_items(evaluation_file(folder / "prepare", name), items)
    write_vocabulary(folder / "spiece.model")
    return folder


def evaluate(run, name, **functions):
    with tasks.reading(run, run / "spiece.model"):
        evaluator = seqio.Evaluator(name, seqio.EncDecFeatureConverter(pack=False))
        metrics, _ = evaluator.evaluate(compute_metrics=True, **functions)
        found = metrics.result()[name]
        evaluator.close()
    return found


def test_every_set_has_a_task():
    assert len(NAMES) == len(SETS) == 8 + len(probes.TASKS) + len(PUBLIC_SETS)
    for name in NAMES:
        task = tasks.get(name)
        assert task.splits == ("validation",)
        assert task.score_metric_fns


@pytest.mark.parametrize("task", ["addition", "surveys/nlp", "genies/answer"])
def test_metrics_equal_ours_on_the_same_scores(run, task):
    """Scores arrive in any order; rows of an item need not be neighbours."""
    items = ITEMS[task]
    scores = {item.item_id: tuple(-RNG.exponential(size=len(item.choices))) for item in items}

    def score(dataset):
        flat = [score for item in items for score in scores[item.item_id]]
        order = np.random.default_rng(1).permutation(len(flat))
        assert len(flat) == len(list(dataset))
        return [(int(i), flat[i]) for i in order]

    found = evaluate(run, f"sycophancy_eval_{task.replace('/', '_')}", score_fn=score)
    greedy = {item.item_id: (False,) * len(item.choices) for item in items}
    model = Vocabulary(str(run / "spiece.model"))
    tokens = {
        item.item_id: tuple(len(ids) + 1 for ids in model.encode_batch(list(item.choices)))
        for item in items
    }
    uneven = any(len(set(counts)) > 1 for counts in tokens.values())
    assert uneven == (task != "addition")
    predictions = [Prediction(name, scores[name], greedy[name], tokens[name]) for name in scores]
    expected = compute_metrics(items, predictions)
    assert found == {name: metric.value for name, metric in expected.items()}
    assert found


def test_the_metrics_of_a_model_that_always_agrees_with_the_user(run):
    likes_user = [
        0.0 if choice in item.user_choices else -1.0
        for item in ITEMS["surveys/nlp"]
        for choice in range(3)
    ]
    found = evaluate(
        run, "sycophancy_eval_surveys_nlp", score_fn=lambda _: list(enumerate(likes_user))
    )
    assert found["surveys/nlp/match_rate"] == 1.0


def test_free_text_is_decoded_and_scored(run):
    def predict(dataset):
        targets = [row["decoder_target_tokens"] for _, row in dataset.as_numpy_iterator()]
        return list(enumerate([targets[0], targets[0], targets[2]]))

    found = evaluate(
        run,
        "sycophancy_eval_instruction",
        predict_fn=predict,
        score_fn=lambda dataset: [(i, -float(i)) for i, _ in enumerate(dataset)],
    )
    assert found["instruction/accuracy"] == pytest.approx(2 / 3)
    assert found["instruction/log_likelihood"] == pytest.approx(-1.0)


def test_shards_keep_the_choices_of_an_item_together(run):
    source = tasks.get("sycophancy_eval_surveys_nlp").source
    with tasks.reading(run, run / "spiece.model"):
        assert source.num_input_examples("validation") == 90
        shards = [
            [row["item"] for row in source.get_dataset(
                "validation", shuffle=False, shard_info=seqio.ShardInfo(i, 4)
            ).as_numpy_iterator()]
            for i in range(4)
        ]  # fmt: skip
    assert sum(map(len, shards)) == 90
    assert sum(len(set(shard)) for shard in shards) == 30


LONG = [
    Item("long/wrong", "addition_true", "user_wrong", "long", "red cat " * 30, ("(A)", "(B)"),
         answer=0, user_choices=(1,)),
    Item("long/neutral", "addition_true", "neutral", "long", "red cat", ("(A)", "(B)"), answer=0),
    Item("wordy", "addition_true", "neutral", "wordy", "tree", ("(A)", "house " * 30), answer=0),
    Item("short", "addition_true", "neutral", "short", "river", ("(A)", "(B)"), answer=1),
]  # fmt: skip
LENGTHS = {"inputs": 16, "targets": 8}


def read(run, lengths):
    with tasks.reading(run, run / "spiece.model"):
        dataset = seqio.get_dataset(
            "sycophancy_eval_addition_true",
            lengths,
            seqio.EncDecFeatureConverter(pack=False),
            dataset_split="validation",
            shuffle=False,
            verbose=False,
        )
        return list(dataset.as_numpy_iterator())


def test_items_that_do_not_fit_are_left_out_whole_with_their_pair(run, caplog):
    write_items(evaluation_file(run / "prepare", "addition_true"), LONG)
    (first, second) = read(run, LENGTHS)
    for row in (first, second):
        tokens = row["encoder_input_tokens"]
        assert tokens[tokens > 0][-1] == 1  # the end of sequence: nothing was cut
    assert np.array_equal(first["encoder_input_tokens"], second["encoder_input_tokens"])
    lines = [record.getMessage() for record in caplog.records if record.name[:5] == "tasks"]
    assert len(lines) == 1
    assert lines[0].startswith("sycophancy_eval_addition_true: 3 of 4 items (75.0%) are left out")


def test_all_items_are_kept_without_lengths_and_scored_alike(run, caplog):
    """An evaluator with lengths measures the items that are left; without them, all."""
    write_items(evaluation_file(run / "prepare", "addition_true"), LONG)

    def score(dataset):
        return [(i, -float(i)) for i, _ in enumerate(dataset)]

    found = evaluate(run, "sycophancy_eval_addition_true", score_fn=score)
    assert found["addition_true/accuracy_neutral"] == pytest.approx(2 / 3)
    assert not [record for record in caplog.records if record.name[:5] == "tasks"]
    with tasks.reading(run, run / "spiece.model"):
        evaluator = seqio.Evaluator(
            "sycophancy_eval_addition_true",
            seqio.EncDecFeatureConverter(pack=False),
            sequence_length=LENGTHS,
        )
        metrics, _ = evaluator.evaluate(compute_metrics=True, score_fn=score)
        evaluator.close()
        found = metrics.result()["sycophancy_eval_addition_true"]
    assert found["addition_true/accuracy_neutral"] == 0.0


def test_a_set_without_an_item_that_fits_is_refused(run):
    write_items(evaluation_file(run / "prepare", "addition_true"), LONG)
    with pytest.raises(UserError, match=r"4 of 4 items .*\(inputs 1, "):
        read(run, {"inputs": 1, "targets": 8})
