"""The sbatch file, run by stand-ins for SLURM's commands."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sycophancy.errors import UserError
from sycophancy.launch import job, slurm

SBATCH = """import json, os, pathlib, sys
pathlib.Path(os.environ["RECORD"], "sbatch").write_text(json.dumps(sys.argv[1:]))
print("4711;cluster")
"""
# Two tasks, as srun starts them: each with its number, and srun ends with the highest status.
SRUN = """import json, os, pathlib, subprocess, sys
folder = pathlib.Path(os.environ["RECORD"])
options = sys.argv[1 : sys.argv.index("bash")]
(folder / "srun").write_text(json.dumps(options))
command = sys.argv[sys.argv.index("bash"):]
tasks = [
    subprocess.Popen(command, env={**os.environ, "SLURM_PROCID": str(n)}) for n in range(2)
]
(folder / "tasks").write_text(" ".join(str(task.pid) for task in tasks))
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """import os, pathlib, sys
pathlib.Path(os.environ["RECORD"], "scontrol").write_text(" ".join(sys.argv[1:]))
"""
PROGRAM = """import json, os, pathlib, signal, sys
folder, task = pathlib.Path(os.environ["RECORD"]), os.environ["SLURM_PROCID"]
signal.signal(signal.SIGTERM, lambda *_: (folder / f"saved-{task}").touch())
record = [sys.argv[1:], os.getcwd(), os.environ.get("JAX_LOCAL_DEVICE_IDS")]
(folder / f"ran-{task}").write_text(json.dumps(record))
if (folder / "wait").exists():
    signal.pause()  # then ends with 0, as sycophancy does when it has saved
if (folder / "code").exists():
    sys.exit(int((folder / "code").read_text()))
"""
ODD = ("it's", '"$HOME"', "`id`", "$(id)", "a  b", "\\", "*", "~", "#SBATCH", "é", "a;b|c", "")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    folder = tmp_path / "it's $HOME"
    (folder / "bin").mkdir(parents=True)
    for name, text in (
        ("sbatch", SBATCH),
        ("srun", SRUN),
        ("scontrol", SCONTROL),
        ("my program", PROGRAM),
    ):
        (folder / "bin" / name).write_text(f"#!{sys.executable} -IS\n{text}")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RECORD", str(folder))
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setattr(slurm, "program", lambda: str(folder / "bin" / "my program"))
    return folder


def render(words=("run", *ODD), sweeps=(), **given) -> job.Script:
    return slurm.render("xl", job.plan_runs("xl", words, sweeps), slurm.Cluster(**given))


def start(script: job.Script, folder: Path, **more: str) -> subprocess.Popen[str]:
    """As slurmd does: a copy elsewhere, in the folder it was submitted from."""
    path = job.write(script, folder / "spool" / "slurm_script")
    return subprocess.Popen(
        ["bash", path], cwd="/", env={**os.environ, **more}, stderr=subprocess.PIPE, text=True
    )


def finish(started: subprocess.Popen[str]) -> int:
    started.communicate(timeout=60)
    return started.returncode


def directives(script: job.Script) -> list[str]:
    return re.findall(r"^#SBATCH --(.*)$", script.text, re.MULTILINE)


def test_every_task_gets_every_word_unchanged(cluster):
    assert finish(start(render(), cluster)) == 0
    for task in (0, 1):
        ran = json.loads((cluster / f"ran-{task}").read_text())
        assert ran == [["run", *ODD, "--name", "xl"], str(cluster), None]
    assert not (cluster / "scontrol").exists()


def test_the_directives_come_first_and_have_the_requested_values():
    script = render(nodes=2, gpus=8, tasks="gpu", time="1-00:00:00", options=("partition=a,b",))
    assert directives(script) == [
        "job-name=xl",
        "nodes=2",
        "ntasks-per-node=8",
        "requeue",
        "signal=TERM@60",
        "open-mode=append",
        "output=xl-%j.log",
        "gpus-per-node=8",
        "time=1-00:00:00",
        "partition=a,b",
    ]
    before = script.text.partition("#SBATCH")[0]  # sbatch stops reading at the first command
    assert before == "#!/usr/bin/env bash\n"


def test_one_task_for_each_node_sees_all_devices(cluster):
    assert finish(start(render(nodes=2, gpus=4), cluster)) == 0
    assert json.loads((cluster / "ran-0").read_text())[2] == "0,1,2,3"
    assert finish(start(render(nodes=2, gpus=4, tasks="gpu"), cluster)) == 0
    assert json.loads((cluster / "ran-0").read_text())[2] is None


def test_a_sweep_is_an_array(cluster):
    script = render(("run", "--model", "m"), ["SEED=5,6,7"])
    assert "array=0-2" in directives(script)
    assert "output=xl-%A_%a.log" in directives(script)
    assert finish(start(script, cluster, SLURM_ARRAY_TASK_ID="1")) == 0
    ran = json.loads((cluster / "ran-0").read_text())[0]
    assert ran == ["run", "--model", "m", "--seed", "6", "--name", "xl-seed6"]
    assert finish(start(script, cluster, SLURM_ARRAY_TASK_ID="3")) == 2


@pytest.mark.parametrize(
    ("words", "cells"),
    [
        (("reproduce", "--family", "mini", "--seeds", "2"), 38),
        (("reproduce", "--family=flan_t5"), 27),
        (("sweep", "--models", "a, b", "--recipes", "demo,quick", "--seeds", "3"), 12),
    ],
)
def test_a_grid_is_an_array_of_its_cells_in_one_folder(sycophancy, cluster, words, cells):
    shown = sycophancy("launch", "slurm", "--name", "xl", "--", *words)
    assert shown.code == 0
    script = job.Script(shown.out, ".sbatch", ())
    assert f"array=0-{cells - 1}" in directives(script)
    for cell in (0, cells - 1):
        assert finish(start(script, cluster, SLURM_ARRAY_TASK_ID=str(cell))) == 0
        ran = json.loads((cluster / "ran-0").read_text())[0]
        assert ran == [*words, "--name", "xl", "--cell", str(cell)]
    assert finish(start(script, cluster, SLURM_ARRAY_TASK_ID=str(cells))) == 2


def test_one_cell_of_a_grid_is_one_job(sycophancy, cluster):
    shown = sycophancy("launch", "slurm", "--name", "xl", "--", "reproduce", "--cell", "3")
    script = job.Script(shown.out, ".sbatch", ())
    assert not [line for line in directives(script) if line.startswith("array")]
    assert finish(start(script, cluster)) == 0
    ran = json.loads((cluster / "ran-0").read_text())[0]
    assert ran == ["reproduce", "--cell", "3", "--name", "xl"]


def told(cluster, script, *, batch_too: bool = False, **more: str) -> int:
    """Starts it, and sends SIGTERM to its tasks as --signal does, or to all as scancel does."""
    (cluster / "wait").touch()
    started = start(script, cluster, **more)
    while not all((cluster / f"ran-{task}").exists() for task in (0, 1)):
        assert started.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    if batch_too:
        started.terminate()
    for task in (cluster / "tasks").read_text().split():
        os.kill(int(task), signal.SIGTERM)
    return finish(started)


def test_at_the_time_limit_every_task_saves_and_the_job_is_queued_again(cluster):
    assert told(cluster, render()) == 75
    assert (cluster / "saved-0").exists()
    assert (cluster / "saved-1").exists()
    assert (cluster / "scontrol").read_text() == "requeue 4711"


def test_in_an_array_only_the_stopped_task_is_queued_again(cluster):
    script = render(("run",), ["SEED=0,1"])
    told(cluster, script, SLURM_ARRAY_JOB_ID="4711", SLURM_ARRAY_TASK_ID="1")
    assert (cluster / "scontrol").read_text() == "requeue 4711_1"


def test_a_cancelled_job_is_not_queued_again(cluster):
    assert told(cluster, render(), batch_too=True) == 75
    assert not (cluster / "scontrol").exists()


def test_a_job_is_queued_again_at_most_restarts_times(cluster):
    assert told(cluster, render(restarts=3), SLURM_RESTART_COUNT="3") == 75
    assert not (cluster / "scontrol").exists()


def test_a_failure_is_not_queued_again(cluster):
    (cluster / "code").write_text("2")
    assert finish(start(render(), cluster)) == 2
    assert not (cluster / "scontrol").exists()


def test_a_crashed_task_does_not_end_tasks_that_save(cluster):
    assert finish(start(render(), cluster)) == 0
    options = json.loads((cluster / "srun").read_text())
    assert options == ["--kill-on-bad-exit=0", "--wait=0"]


def test_go_submits_and_prints_the_id_and_how_to_watch(sycophancy, cluster):
    outcome = sycophancy("launch", "slurm", "--name", "xl", "--go", "--", "run", "--model", "m")
    assert outcome.code == 0
    assert outcome.out == "4711\n"
    assert "scancel 4711" in outcome.err
    assert "tail -F xl-4711.log" in outcome.err
    assert json.loads((cluster / "sbatch").read_text()) == ["--parsable", "runs/launch/xl.sbatch"]
    assert (cluster / "runs/launch/xl.sbatch").exists()


def test_without_sbatch_one_line_names_the_way_out(sycophancy, cluster):
    (cluster / "bin/sbatch").unlink()
    outcome = sycophancy("launch", "slurm", "--name", "xl", "--go", "--", "run", "--model", "m")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "log in to a node" in outcome.err


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"tasks": "gpu"}, "--gpus N"),
        ({"tasks": "core"}, "expected node or gpu"),
        ({"options": ("comment=a b",)}, "no spaces"),
        ({"options": ("x\n#SBATCH --uid=0",)}, "no spaces"),
        ({"time": "1 day"}, "no spaces"),
    ],
)
def test_bad_input_is_refused(given, problem):
    with pytest.raises(UserError, match=problem):
        render(**given)


def test_shellcheck_finds_nothing(cluster):
    where = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if (shellcheck := shutil.which("shellcheck", path=where)) is None:
        pytest.skip("shellcheck is not installed")
    path = job.write(render(nodes=2, gpus=8), cluster / "x.sh")
    done = subprocess.run([shellcheck, "--exclude=SC2016", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
