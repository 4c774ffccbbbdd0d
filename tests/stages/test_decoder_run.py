"""A decoder-only folder goes through every stage of a run, and its result is a folder again."""

import json
import shutil

import decoder_runs
import numpy as np
import pytest

from sycophancy.evaluation.items import read_predictions
from sycophancy.model.checkpoints.formats import open_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return decoder_runs.make_model(tmp_path_factory.mktemp("decoder") / "tiny")


def test_a_folder_goes_through_every_stage_and_comes_out_as_a_folder(model, tmp_path, sycophancy):
    run = tmp_path / "run"
    done = sycophancy(*decoder_runs.words("run", model, run))
    assert done.code == 0, done.err
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics) == {"before", "after"}
    assert metrics["before"] != metrics["after"]
    assert (run / "report.html").is_file()
    lines = [json.loads(line) for line in (run / "finetune/metrics.jsonl").read_text().splitlines()]
    losses = [line["validation_loss"] for line in lines if "validation_loss" in line]
    assert len(losses) == 3 and losses[-1] < losses[0]
    trained = open_checkpoint(run / "finetune/checkpoints/4")
    start = open_checkpoint(model)
    assert trained.shape() == start.shape()
    assert all(
        not np.array_equal(trained.params[path], start.params[path]) for path in start.params
    )

    folder = tmp_path / "finetuned"
    convert = ("convert", run / "finetune/checkpoints/4", folder, "--to", "hf")
    assert sycophancy(*convert, "--vocabulary", model).code == 0
    for name in ("tokenizer.json", "chat_template.jinja", "config.json"):
        assert (folder / name).is_file()
    alone = tmp_path / "alone"
    assert sycophancy(*decoder_runs.words("evaluate", folder, alone)).code == 0
    after, again = (
        {p.item_id: p.log_likelihoods for p in read_predictions(path / "predictions.parquet")}
        for path in (run / "evaluate_after", alone / "evaluate_before")
    )
    assert after.keys() == again.keys()
    for item_id, values in after.items():
        np.testing.assert_allclose(again[item_id], values, rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--trainer", "t5x"), "T5X's decoder has the relative positions of T5"),
        (("--set", "EMBED_DIM=16"), "EMBED_DIM is the shape of an encoder-decoder"),
        (("--chat", "yes"), "'yes' is now called 'template'"),
        (("--set", "TASK_FEATURE_LENGTHS={'inputs': 20, 'targets': 4}"), "inputs 20 is too short"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(model, tmp_path, sycophancy, words, line):
    done = sycophancy(*decoder_runs.words("run", model, tmp_path / "run"), *words)
    assert done.code == 2
    assert line in done.err and done.err.count("\n") == 1


def test_an_architecture_that_is_not_computed_here_is_only_evaluated(model, tmp_path, sycophancy):
    other = tmp_path / "gpt2"
    shutil.copytree(model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    done = sycophancy(*decoder_runs.words("run", other, tmp_path / "run"))
    assert done.code == 2
    assert "'gpt2'" in done.err and "Llama 2 and 3" in done.err and done.err.count("\n") == 1
