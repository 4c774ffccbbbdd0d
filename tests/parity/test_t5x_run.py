"""Real T5X end to end on a tiny run: `python -m t5x.train`, and `finetune --trainer t5x`."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn
from prepared_run import write_run
from several_processes import starting
from t5x_side import needs_t5x

from sycophancy.config import macros
from sycophancy.config.load import load_config
from sycophancy.model.checkpoints import layout, orbax, trees
from sycophancy.model.checkpoints.formats import load_checkpoint
from sycophancy.model.network import Transformer
from sycophancy.training.preemption import Preempted
from sycophancy.training.t5x import command
from sycophancy.training.trainer import finetune

MODEL = """
include 'models/mini_base.gin'
VOCAB_SIZE = 80
EMBED_DIM = 16
NUM_HEADS = 2
HEAD_DIM = 8
MLP_DIM = 32
NUM_ENCODER_LAYERS = 2
NUM_DECODER_LAYERS = 1
INITIAL_CHECKPOINT_PATH = '{folder}/initial'
VOCABULARY = '{folder}/spiece.model'
PRETRAINED_STEP = 100
BATCH_SIZE = 8
TASK_FEATURE_LENGTHS = {{'inputs': 48, 'targets': 12}}
FINETUNE_STEPS = 12
SAVE_PERIOD = 4
LOG_PERIOD = 2
MIXTURE_OR_TASK_NAME = 'sycophancy_mix_3to2'
"""
SECONDS = 300  # that T5X may take to start, on a busy machine


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder with data, a model's gin file and its checkpoint in our own format."""
    folder = write_run(tmp_path_factory.mktemp("run"), kept=400, instructions=100)
    (folder / "tiny.gin").write_text(MODEL.format(folder=folder))
    config = load_config(str(folder / "tiny.gin"), "demo")
    tokens = np.zeros((1, 2), np.int32)
    variables = Transformer(config.model.network).init(jax.random.key(0), tokens, tokens, tokens)
    params = jax.tree.map(np.asarray, nn.unbox(variables["params"]))
    orbax.save_params(folder / "initial", params, config.model.network)
    (folder / "config.gin").write_text(config.operative)
    return folder


@pytest.fixture(autouse=True)
def plain_jax(monkeypatch):
    """T5X promotes dtypes, and on a CPU it splits matrices over every device there is."""
    for name in ("JAX_NUMPY_DTYPE_PROMOTION", "JAX_NUMPY_RANK_PROMOTION", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)


def train(run: Path, model_dir: Path, *more: str) -> subprocess.Popen[bytes]:
    """The command of docs/t5x.md."""
    words = [
        sys.executable, "-m", "t5x.train", f"--gin_search_paths={macros.root()}",
        f"--gin_file={run / 'tiny.gin'}", "--gin_file=recipes/demo.gin",
        "--gin_file=trainers/t5x.gin",
        f"--gin.MODEL_DIR='{model_dir}'", f"--gin.DATA_DIR='{run}'",
        # The recipe's file comes after the model's and has its own.
        "--gin.BATCH_SIZE=8", "--gin.FINETUNE_STEPS=12", "--gin.SAVE_PERIOD=4",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 48, 'targets': 12}",
        "--gin.MIXTURE_OR_TASK_NAME='sycophancy_mix_3to2'", *more,
    ]  # fmt: skip
    with (run / f"{model_dir.name}.log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)


def ends(process: subprocess.Popen[bytes], run: Path, model_dir: Path) -> None:
    code = process.wait(SECONDS)
    log = run / f"{model_dir.name}.log"
    assert code == 0, command.last_error(log)


def steps(model_dir: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (model_dir / "metrics.jsonl").open()]


def state(checkpoint: Path) -> dict[str, np.ndarray]:
    found = layout.flatten(trees.read(checkpoint / "state"))
    return {path: np.asarray(array) for path, array in found.items()}


def wait_for(done, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + SECONDS
    while not done():
        assert process.poll() is None, "T5X ended early"
        assert time.monotonic() < until, "T5X did not get so far"
        time.sleep(0.02)


@needs_t5x
@pytest.mark.timeout(1200)
def test_a_killed_run_continues_bit_for_bit(run):
    whole, broken = run / "whole", run / "broken"
    ends(train(run, whole), run, whole)
    assert [path.name for path in whole.glob("checkpoint_*")] == ["checkpoint_112"]
    assert (whole / "initial" / "checkpoint_100").is_dir()  # converted from our format
    assert steps(whole) == [2, 4, 6, 8, 10, 12]

    process = train(run, broken)
    wait_for((broken / "checkpoint_104").is_dir, process)
    process.kill()
    process.wait()
    assert not (broken / "checkpoint_112").exists()
    ends(train(run, broken), run, broken)
    assert steps(broken) == steps(whole)

    expected, found = state(whole / "checkpoint_112"), state(broken / "checkpoint_112")
    assert expected.keys() == found.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


@needs_t5x
@pytest.mark.timeout(1200)
def test_without_dropout_both_trainers_give_the_same_result(run, tmp_path):
    said = [
        "BATCH_SIZE=8", "FINETUNE_STEPS=6", "SAVE_PERIOD=6", "LOG_PERIOD=1", "DROPOUT_RATE=0.0",
        "TASK_FEATURE_LENGTHS={'inputs': 48, 'targets': 12}",
    ]  # fmt: skip
    config = load_config(str(run / "tiny.gin"), "demo", said)
    (run / "config.gin").write_text(config.operative)
    seen = []
    out = tmp_path / "t5x"
    out.mkdir()
    last = command.finetune(config, run, out, report=lambda step, m: seen.append((step, m["loss"])))
    assert last == out / "checkpoint_106"
    assert not (out / "initial").exists()
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]

    reported = []
    best = finetune(
        config, run, tmp_path / "ours", report=lambda step, m: reported.append(m["loss"])
    )
    np.testing.assert_allclose([loss for _, loss in seen], reported, rtol=1e-5)
    model = config.model
    theirs = load_checkpoint(dataclasses.replace(model, checkpoint=str(last)))
    mine = load_checkpoint(dataclasses.replace(model, checkpoint=str(best)))
    for path, array in layout.flatten(mine).items():
        np.testing.assert_allclose(
            np.asarray(layout.flatten(theirs)[path]), np.asarray(array), atol=2e-5, err_msg=path
        )


@needs_t5x
@pytest.mark.timeout(1200)
def test_two_processes_train_as_one_does(micro, tmp_path):
    """Each process of a run starts a T5X, and these meet; the rows are split between them."""
    model = micro()
    words = ["finetune", "--model", model, "--recipe", model.with_name("micro_recipe.gin")]
    said = ["--trainer", "t5x", "--set", "FILTRATION=false", "--set", "DROPOUT_RATE=0.0"]
    found = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        with starting() as start:
            ended = start(*words, *said, "--out", out, processes=processes, devices=1).ended()
        assert [process.code for process in ended] == [0] * processes, ended[-1].err
        logs = {path.name for path in (out / "finetune").glob("t5x*.log")}
        assert logs == ({"t5x.log", "t5x.1.log"} if processes == 2 else {"t5x.log"})
        lines = (out / "finetune" / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["loss"] for line in lines]
        found.append((losses, state(out / "finetune" / "checkpoint_6")))
    (alone, expected), (together, parameters) = found
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert len(alone) == 6
    assert expected.keys() == parameters.keys()
    for path, array in expected.items():
        np.testing.assert_allclose(parameters[path], array, atol=1e-5, err_msg=path)


@needs_t5x
@pytest.mark.timeout(1200)
def test_sigterm_saves_and_the_next_start_continues(run, tmp_path):
    said = ["FINETUNE_STEPS=4000", "SAVE_PERIOD=2000", "BATCH_SIZE=8"]
    said.append("TASK_FEATURE_LENGTHS={'inputs': 48, 'targets': 12}")
    config = load_config(str(run / "tiny.gin"), "demo", said)
    (run / "config.gin").write_text(config.operative)

    def stop(step: int, metrics) -> None:
        if step == 20:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted) as caught:
        command.finetune(config, run, tmp_path, report=stop)
    saved = caught.value.step
    assert 20 <= saved < 2000
    assert (tmp_path / f"checkpoint_{100 + saved}").is_dir()
    shutil.rmtree(tmp_path)


@needs_t5x
@pytest.mark.timeout(600)
def test_a_checkpoint_of_another_step_is_refused_in_one_line(run, tmp_path):
    source = run / "whole" / "checkpoint_112"
    if not source.is_dir():
        pytest.skip("needs the checkpoint of test_a_killed_run_continues_bit_for_bit")
    said = [f"INITIAL_CHECKPOINT_PATH={source}", "BATCH_SIZE=8"]
    config = load_config(str(run / "tiny.gin"), "demo", said)
    (run / "config.gin").write_text(config.operative)
    with pytest.raises(Exception, match="set PRETRAINED_STEP to 112; its log is"):
        command.finetune(config, run, tmp_path)


@needs_t5x
@pytest.mark.timeout(1200)
def test_the_command_line_finetunes_with_t5x_and_measures_it(sycophancy, micro, tmp_path):
    model, folder = micro(), tmp_path / "run"
    words = ("--model", model, "--recipe", model.with_name("micro_recipe.gin"), "--out", folder)
    said = ("--trainer", "t5x", "--set", "FILTRATION=false")
    outcome = sycophancy("run", *words, *said)
    assert outcome.code == 0, outcome.err
    assert "-m t5x.train" in outcome.err
    manifest = json.loads((folder / "finetune" / "manifest.json").read_text())
    assert manifest["counts"] == {"steps": 6, "checkpoint": "checkpoint_6", "notes": []}
    assert manifest["ingredients"]["settings"]["TRAINER"] == "t5x"
    assert "TRAINER = 't5x'" in (folder / "config.gin").read_text()
    assert steps(folder / "finetune") == [1, 2, 3, 4, 5, 6]
    assert (folder / "finetune" / "t5x.log").exists()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["before"].keys() == metrics["after"].keys()
    assert (folder / "report.html").exists()

    again = sycophancy("run", *words, *said)
    assert "finetune: up to date" in again.err
    ours = sycophancy("finetune", *words, "--set", "FILTRATION=false")
    assert ours.code == 2
    assert "finetune: TRAINER was 't5x' and is 'jax'" in ours.err
    ours = sycophancy("finetune", *words, "--set", "FILTRATION=false", "--redo", "finetune")
    assert "finetune: again, because TRAINER was 't5x' and is 'jax'" in ours.err
