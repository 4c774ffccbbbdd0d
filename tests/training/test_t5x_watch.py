"""What watches T5X between its steps, with T5X's metrics made up."""

import json
import os
import signal
import subprocess
import sys
import time
import types

import jax.numpy as jnp
import pytest
from clu import values

from sycophancy.config.load import load_config
from sycophancy.errors import UserError
from sycophancy.training import journal
from sycophancy.training.step import empty_window
from sycophancy.training.t5x import recipe
from sycophancy.training.t5x import watch as t5x_watch

MEASURED = {
    "loss": 0.6,
    "z_loss": 0.04,
    "accuracy": 0.75,
    "learning_rate/current": 1e-3,
    "timing/steps_per_second": 2.0,
    "effective_batch_size/decoder": 20.0,
    "non_padding_fraction/overall": 0.5,
}
CONFIG = load_config(
    "mini_base", "demo", ["PRETRAINED_STEP=100", "MICROBATCHES=2", "FINETUNE_STEPS=50"]
)


@pytest.fixture
def watch(monkeypatch, tmp_path):
    monkeypatch.setattr(recipe, "configuration", lambda: CONFIG)
    monkeypatch.setattr(recipe, "steps_done", lambda model_dir: 0)
    handler = signal.getsignal(signal.SIGTERM)
    yield lambda: t5x_watch.Watch(str(tmp_path))
    signal.signal(signal.SIGTERM, handler)


def after(step, **measured):
    found = {name: values.Scalar(value) for name, value in (MEASURED | measured).items()}
    return types.SimpleNamespace(step=jnp.asarray(step)), {"train": found}


def test_metrics_have_the_names_of_the_in_tree_trainer():
    found = t5x_watch.metrics_of(MEASURED, CONFIG, 30)
    ours = journal.metrics_of(empty_window(), 1e-3, journal.Pace(0), 50, 10)
    assert found.keys() == ours.keys()
    assert found["loss"] == pytest.approx(0.3)  # T5X adds up two microbatches
    assert found["examples_per_second"] == pytest.approx(40.0)
    rows = CONFIG.training.batch_size
    assert found["tokens_per_second"] == pytest.approx(0.5 * rows * (80 + 8) * 2.0)
    assert found["seconds_left"] == pytest.approx(10.0)


def test_steps_are_written_as_finetuning_counts_them(watch, tmp_path):
    assert watch().run(*after(120)) is False
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 20


def test_sigterm_asks_t5x_to_stop(watch):
    watching = watch()
    signal.raise_signal(signal.SIGTERM)
    assert watching.run(*after(120)) is True


def test_a_loss_that_is_no_number_ends_the_run(watch):
    with pytest.raises(UserError, match="not finite in the steps before 20"):
        watch().run(*after(120, loss=float("nan")))


def test_a_second_writer_is_refused(watch, tmp_path):
    hold = (
        "import fcntl, sys; file = open(sys.argv[1], 'a+'); fcntl.lockf(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, tmp_path / ".t5x.lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="is being written by another process"):
            watch()
        holder.stdin.close()
    watch()


def test_t5x_stops_when_what_started_it_is_gone(watch, monkeypatch):
    monkeypatch.setattr(t5x_watch, "PARENT_SECONDS", 0.01)
    monkeypatch.setenv("SYCOPHANCY_PARENT", str(os.getppid()))
    watching = watch()
    time.sleep(0.05)
    assert watching.run(*after(110)) is False
    monkeypatch.setattr(os, "getppid", lambda: 1)
    time.sleep(0.2)
    assert watching.run(*after(120)) is True
