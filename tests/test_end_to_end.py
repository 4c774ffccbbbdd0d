"""The whole way on a micro model: every stage in its own process, killed often, the same result."""

import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import compiled_programs
import few_sums
import numpy as np
import pyarrow.parquet as pq
import pytest

from sycophancy.model.checkpoints.formats import open_checkpoint

# tests/test_library.py makes a whole run in one process, and checks what it leaves.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]

STEPS = 24


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder and the command that fills it.

    Attributes:
        folder: the run folder.
        model: the model's gin file.
        killed: whether processes of this run are killed, so that they need programs of their own.
    """

    folder: Path
    model: Path
    killed: bool = True

    def environment(self) -> dict[str, str]:
        """One device, as on a laptop."""
        programs = self.folder.with_name("compiled")
        environment = compiled_programs.apart(programs) if self.killed else dict(os.environ)
        return environment | {"XLA_FLAGS": compiled_programs.WITHOUT_OPTIMISATION}

    def start(self, command: str = "run", *words: str) -> subprocess.Popen:
        recipe = self.model.with_name("micro_recipe.gin")
        return subprocess.Popen(
            [
                *(sys.executable, "-c", few_sums.PROGRAM, command),
                *("--model", self.model, "--recipe", recipe, "--out", self.folder),
                *("--set", f"FINETUNE_STEPS={STEPS}", "--set", "BATCH_SIZE=2", *words),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )

    def finish(self, command: str = "run", *words: str) -> tuple[str, str]:
        with self.start(command, *words) as process:
            out, err = process.communicate()
        assert process.returncode == 0, err
        return out, err

    def stop_at(self, pattern: str, how: signal.Signals, delay: float = 0.0) -> tuple[int, str]:
        """Starts, sends a signal once something new is there, returns exit code and last words."""
        old = set(self.folder.glob(pattern))
        with self.start() as process:
            while set(self.folder.glob(pattern)) <= old:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.001)
            time.sleep(delay)
            process.send_signal(how)
            _, err = process.communicate()
        return process.returncode, err

    def manifests(self) -> dict[str, str]:
        found = self.folder.glob("*/manifest.json")
        return {path.parent.name: json.loads(path.read_text())["fingerprint"] for path in found}


@pytest.fixture(scope="module")
def undisturbed(micro, tmp_path_factory) -> Run:
    run = Run(tmp_path_factory.mktemp("undisturbed") / "run", micro(), killed=False)
    out, _ = run.finish()
    assert out.splitlines()[-1] == str(run.folder / "report.html")
    return run


def test_a_run_leaves_what_it_promises(undisturbed):
    folder = undisturbed.folder
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics) == {"before", "after"}
    names = {
        *(f"addition/accuracy_{c}" for c in ("neutral", "user_wrong", "user_right")),
        *(f"addition_true/accuracy_{c}" for c in ("neutral", "user_wrong", "user_right")),
        *("surveys/match_rate", "surveys/neutral_match_rate"),
        *(f"surveys/{name}/match_rate" for name in ("nlp", "phil", "poli")),
        *("intervention/accuracy", "instruction/accuracy"),
    }
    for series in metrics.values():
        assert names <= set(series)
        for name in names:
            assert set(series[name]) == {"value", "low", "high", "n"}
            assert 0 <= series[name]["low"] <= series[name]["value"] <= series[name]["high"] <= 1
    assert metrics["before"]["addition/accuracy_user_wrong"]["n"] == few_sums.LARGEST**2
    assert "<html" in (folder / "report.html").read_text()
    kept = pq.read_table(folder / "filter" / "kept.parquet").num_rows
    assert 0 < kept < 300
    losses = (folder / "finetune" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(losses[-1])["step"] == STEPS
    assert set(undisturbed.manifests()) == {
        *("prepare", "filter", "finetune", "evaluate_before", "evaluate_after", "report")
    }


def test_a_second_start_has_nothing_to_do(undisturbed):
    before = undisturbed.manifests()
    out, err = undisturbed.finish()
    assert "done in" not in err
    assert err.count("up to date") == 6
    assert out.splitlines()[-1] == str(undisturbed.folder / "report.html")
    assert undisturbed.manifests() == before


SAVING = "finetune/checkpoints/*tmp*"  # takes a few milliseconds here
DRAW = random.Random(0)
# A file or folder whose appearance starts the clock, the signal, and seconds until it is sent.
FEW_MOMENTS = [
    (SAVING, signal.SIGKILL, 0.0),
    ("finetune/checkpoints/[0-9]*", signal.SIGTERM, DRAW.uniform(0.0, 0.1)),
]
MANY_MOMENTS = [
    (".prepare.unfinished", signal.SIGKILL, 0.0),
    (".filter.unfinished", signal.SIGKILL, 0.0),
    (SAVING, signal.SIGKILL, 0.0),
    (SAVING, signal.SIGKILL, DRAW.uniform(0.0, 0.05)),
    ("finetune/checkpoints/[0-9]", signal.SIGKILL, DRAW.uniform(0.0, 0.3)),
    ("finetune/checkpoints/[0-9]*", signal.SIGTERM, DRAW.uniform(0.0, 0.1)),
    (".evaluate_before.unfinished/predictions.parquet", signal.SIGKILL, 0.0),
    (".evaluate_after.unfinished", signal.SIGKILL, 0.0),
]


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(FEW_MOMENTS, id="few", marks=pytest.mark.slow),
        pytest.param(MANY_MOMENTS, id="many", marks=pytest.mark.slow),
    ],
)
def test_killed_again_and_again_it_gives_the_same_numbers(undisturbed, micro, tmp_path, moments):
    """Also in the middle of saves, and at drawn instants."""
    run = Run(tmp_path / "run", micro())
    for pattern, how, delay in moments:
        code, err = run.stop_at(pattern, how, delay)
        if how == signal.SIGTERM:
            assert code == 0, err
            assert "the same command continues" in err.splitlines()[-1]
        else:
            assert code == -how
        for saved in (run.folder / "finetune/checkpoints").glob("[0-9]*"):
            if saved.name.isdigit():
                assert contents(saved).keys() == contents(last_checkpoint(undisturbed)).keys()
    run.finish()
    found, expected = contents(last_checkpoint(run)), contents(last_checkpoint(undisturbed))
    assert not [name for name in expected if not np.array_equal(found[name], expected[name])]
    for name in ("evaluate_before", "evaluate_after"):
        here, there = (
            pq.read_table(folder / name / "predictions.parquet")
            for folder in (run.folder, undisturbed.folder)
        )
        assert here.equals(there)
    assert (run.folder / "metrics.json").read_text() == (
        undisturbed.folder / "metrics.json"
    ).read_text()


def last_checkpoint(run: Run) -> Path:
    steps = (p for p in (run.folder / "finetune/checkpoints").iterdir() if p.name.isdigit())
    return max(steps, key=lambda path: int(path.name))


def contents(checkpoint: Path) -> dict[str, np.ndarray]:
    """Every parameter and moment, read."""
    opened = open_checkpoint(checkpoint)
    return {name: np.asarray(leaf) for name, leaf in (opened.params | opened.moments).items()}


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_harms_nothing(undisturbed, micro, tmp_path):
    """A limit on the size of files stands for the disk: saves fail in the kernel."""
    run = Run(tmp_path / "run", micro())
    for stage in ("prepare", "filter"):
        shutil.copytree(undisturbed.folder / stage, run.folder / stage)
    with run.start("finetune") as process:
        first = run.folder / "finetune/checkpoints/2"
        while not first.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, most))
        _, err = process.communicate()
    assert process.returncode == 2, err
    last = err.splitlines()[-1]
    assert last.startswith("sycophancy: ")
    assert "checkpoint" in last
    assert "File too large" in last
    assert "Traceback" not in err
    saved = last_checkpoint(run)
    assert contents(saved).keys() == contents(last_checkpoint(undisturbed)).keys()
    run.finish("finetune")
    found, expected = contents(last_checkpoint(run)), contents(last_checkpoint(undisturbed))
    assert not [name for name in expected if not np.array_equal(found[name], expected[name])]


def test_another_checkpoint_can_be_asked(undisturbed):
    last = last_checkpoint(undisturbed)
    out, _ = undisturbed.finish("evaluate", "--checkpoint", str(last))
    found = json.loads(Path(out.splitlines()[-1]).read_text())
    assert found == json.loads((undisturbed.folder / "metrics.json").read_text())["after"]


@pytest.mark.slow
def test_one_stage_again_takes_what_follows_with_it(undisturbed):
    with undisturbed.start("run", "--set", "SEED=1") as refused:
        _, err = refused.communicate()
    assert refused.returncode == 2
    assert err.startswith("sycophancy: finetune: SEED was 0 and is 1; nothing was done")
    _, err = undisturbed.finish("run", "--set", "SEED=1", "--redo", "finetune")
    for stage in ("prepare", "finetune"):
        assert f"{stage}: again, because SEED was 0 and is 1" in err
    for stage in ("filter", "evaluate_before", "evaluate_after"):
        assert f"{stage}: again, because" in err
