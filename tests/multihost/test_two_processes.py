"""Two processes with devices of their own, against one process."""

from __future__ import annotations

import json
import platform
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import decoder_runs
import numpy as np
import pyarrow.parquet as pq
import pytest
from several_processes import SECONDS, Start, starting

from sycophancy.evaluation.items import read_predictions
from sycophancy.model.checkpoints.formats import open_checkpoint


@pytest.fixture
def start() -> Iterator[Start]:
    with starting() as start:
        yield start


def words(micro, out: Path, *more: str) -> list[object]:
    """Prepares, filters and trains six steps; filtration uses the same scorer as evaluation."""
    model = micro()
    recipe = model.with_name("micro_recipe.gin")
    return ["finetune", "--model", model, "--recipe", recipe, "--out", out, *more]


def losses(run: Path) -> np.ndarray:
    lines = [line for line in journal(run) if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return np.array([line["loss"] for line in lines])


def validations(run: Path) -> np.ndarray:
    lines = [line for line in journal(run) if "validation_loss" in line]
    assert [line["step"] for line in lines] == [0, 3, 6]
    return np.array([list(line.values()) for line in lines])


def journal(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "finetune/metrics.jsonl").read_text().splitlines()]


WITHOUT_DROPOUT = ("--set", "DROPOUT_RATE=0", "--set", "SAVE_PERIOD=3")
SPLIT = ("--mesh", "data=1,fsdp=2,model=2")


@pytest.fixture(scope="module")
def uninterrupted(micro, tmp_path_factory) -> Path:
    """The run folder that two processes with two devices each fill.

    Parameters are split between the processes: each has half of every matrix.
    """
    run = tmp_path_factory.mktemp("two") / "run"
    command = words(micro, run, *WITHOUT_DROPOUT, *SPLIT)
    with starting() as start:
        leader, other = start(*command, processes=2, devices=2).ended()
    assert leader.code == 0, leader.err
    assert other.code == 0, other.err
    assert other.out.count("\n") <= other.out.count("[Gloo]")  # it prints nothing of its own
    assert leader.out.splitlines()[-1] == str(run / "finetune")
    return run


def assert_equal_runs(one: Path, two: Path) -> None:
    """What was kept, how prompts were scored, and what was trained, but for rounding."""
    kept = [pq.read_table(run / "filter/kept.parquet")["example_id"] for run in (one, two)]
    assert kept[0].equals(kept[1])
    a, b = (read_predictions(run / "filter/predictions.parquet") for run in (one, two))
    assert [p.item_id for p in a] == [p.item_id for p in b]
    found, expected = (np.array([p.log_likelihoods for p in rows]) for rows in (a, b))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(losses(one), losses(two), rtol=1e-5)
    np.testing.assert_allclose(validations(one), validations(two), rtol=1e-5)
    params = [open_checkpoint(run / "finetune/checkpoints").params for run in (one, two)]
    for path, array in params[0].items():
        np.testing.assert_allclose(array, params[1][path], rtol=1e-3, atol=1e-5, err_msg=path)


def test_two_processes_give_the_result_of_one(micro, tmp_path, sycophancy, uninterrupted):
    one, two = tmp_path / "one", uninterrupted
    done = sycophancy(*words(micro, one, *WITHOUT_DROPOUT))
    assert done.code == 0, done.err
    assert_equal_runs(one, two)


@pytest.mark.slow
def test_two_processes_give_the_result_of_one_for_a_decoder_only_model(tmp_path, start, sycophancy):
    model = decoder_runs.make_model(tmp_path / "tiny")
    one, two = tmp_path / "one", tmp_path / "two"
    few = {"FINETUNE_STEPS": 6, "NUM_EXAMPLES": 24, "SAVE_PERIOD": 3}
    command = decoder_runs.words("finetune", model, two, **few, MESH=(1, 2, 1))
    ended = start(*command, processes=2, devices=1).ended()
    assert [process.code for process in ended] == [0, 0], [process.err for process in ended]
    done = sycophancy(*decoder_runs.words("finetune", model, one, **few))
    assert done.code == 0, done.err
    assert_equal_runs(one, two)


@pytest.mark.slow
def test_when_one_process_is_killed_the_other_ends_and_names_it(micro, tmp_path, start):
    # Only a process's own devices report their memory, by which an automatic mesh is chosen.
    endless = words(micro, tmp_path / "run", "--set", "FINETUNE_STEPS=100000", "--mesh", "auto")
    processes = start(*endless, processes=2, devices=1)
    journal = tmp_path / "run/finetune/metrics.jsonl"
    deadline = time.monotonic() + SECONDS
    while not journal.exists() and time.monotonic() < deadline:
        assert all(process.poll() is None for process in processes.processes)
        time.sleep(0.2)
    leader, other = processes.processes
    other.kill()
    _, err = leader.communicate(timeout=10)
    assert leader.returncode == 3
    (line,) = [line for line in err.splitlines() if "process 1" in line]
    assert line == err.splitlines()[-1]
    assert line.startswith(f"sycophancy: process 1 on {platform.node()} ")
    assert "Check failure stack trace" not in err


@pytest.mark.parametrize(
    ("mistake", "line"),
    [
        pytest.param(
            "raise UserError('no memory here')",
            "sycophancy: no memory here",
            marks=pytest.mark.slow,
        ),
        pytest.param("raise ValueError('a bug')", "ValueError: a bug", marks=pytest.mark.slow),
        ("os.kill(os.getpid(), 9)", "sycophancy: process 1 on HOST was killed by SIGKILL"),
    ],
)
def test_a_process_that_ends_alone_is_named_by_the_other_with_its_error(
    micro, tmp_path, start, mistake, line
):
    """Process 1 ends at the start of the stage, while process 0 prepares alone."""
    words = ["prepare", "--model", micro(), "--recipe", micro().with_name("micro_recipe.gin")]
    processes = start(*words, "--out", tmp_path / "run", processes=2, devices=1, mistake=mistake)
    leader, other = processes.ended()
    assert leader.code == 3
    assert other.code != 0
    line = line.replace("HOST", platform.node())
    assert other.err.splitlines()[-1].startswith(line)
    told = [text for text in leader.err.splitlines() if text.startswith("sycophancy:")]
    assert len(told) == 1
    assert told[0].startswith(f"sycophancy: process 1 on {platform.node()} ")
    assert line.removeprefix("sycophancy: process 1 on ").removeprefix("sycophancy: ") in told[0]
    assert told[0] == leader.err.splitlines()[-1]


def test_bad_input_ends_every_process_with_the_same_line(micro, tmp_path, start):
    processes = start(
        *words(micro, tmp_path / "run", "--set", "VOCABULARY=gone"), processes=2, devices=1
    )
    leader, other = processes.ended()
    assert leader.code == other.code == 2
    lines = [
        [line for line in ended.err.splitlines() if line.startswith("sycophancy:")]
        for ended in (leader, other)
    ]
    assert lines[0] == lines[1]
    assert "vocabulary gone: no such file" in lines[0][0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_sigterm_to_one_process_stops_all_and_they_continue_bit_for_bit(
    micro, tmp_path, start, uninterrupted
):
    """SIGTERM reaches one host before training, while JAX starts there."""
    run = tmp_path / "run"
    processes = start(*words(micro, run, *WITHOUT_DROPOUT, *SPLIT), processes=2, devices=2)
    deadline = time.monotonic() + SECONDS
    while not (run / "filter/manifest.json").exists() and time.monotonic() < deadline:
        assert all(process.poll() is None for process in processes.processes)
        time.sleep(0.01)
    processes.processes[1].send_signal(signal.SIGTERM)
    leader, other = processes.ended()
    assert leader.code == other.code == 0, leader.err + other.err
    stopped = re.search(r"stopped by SIGTERM after step (\d) of 6", leader.err)
    assert stopped, leader.err
    saved = [path.name for path in (run / "finetune/checkpoints").iterdir() if path.name.isdigit()]
    assert max(saved) == stopped[1]

    again = start(*words(micro, run, *WITHOUT_DROPOUT, *SPLIT), processes=2, devices=2).ended()
    assert [ended.code for ended in again] == [0, 0], again[0].err
    assert list(losses(run)) == list(losses(uninterrupted))
    np.testing.assert_array_equal(validations(run), validations(uninterrupted))
    found, expected = (
        open_checkpoint(folder / "finetune/checkpoints") for folder in (run, uninterrupted)
    )
    for kind in ("params", "moments"):
        for path, array in getattr(expected, kind).items():
            np.testing.assert_array_equal(getattr(found, kind)[path], array, err_msg=path)
