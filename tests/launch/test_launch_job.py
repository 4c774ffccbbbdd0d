"""The command line becomes runs, and every word reaches them unchanged."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from sycophancy.errors import UserError
from sycophancy.launch import job, local

RECORD = """import json, os, pathlib, sys
variables = {k: v for k, v in os.environ.items() if k.startswith("SYCOPHANCY_")}
file = pathlib.Path(os.environ["RECORD"]) / f"{variables.get('SYCOPHANCY_PROCESS_ID', 0)}"
with file.open("a") as log:
    log.write(json.dumps([sys.argv[1:], variables, os.getcwd()]) + "\\n")
"""


def stand_in(path: Path, text: str = RECORD) -> Path:
    path.write_text(f"#!{sys.executable} -IS\n{text}")
    path.chmod(0o755)
    return path


def execute(script: job.Script, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", job.write(script, folder / "job.sh")],
        env={"PATH": "/usr/bin:/bin", "RECORD": str(folder), **more},
        capture_output=True,
        text=True,
        timeout=60,
    )


def recorded(folder: Path, process: int = 0) -> list:
    return [json.loads(line) for line in (folder / str(process)).read_text().splitlines()]


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "it's $HOME"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(local, "program", lambda: str(stand_in(folder / "a program")))
    return folder


printable = strategies.text(max_size=12).filter(str.isprintable)
words = printable.filter(lambda word: not word.startswith(("--name", "--out")))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(strategies.lists(words, max_size=6))
def test_any_word_reaches_the_run_unchanged(tmp_path_factory, arguments):
    folder = tmp_path_factory.mktemp("words")
    with mock.patch.object(local, "program", lambda: str(stand_in(folder / "program"))):
        script = local.render(job.plan_runs("a", ["run", *arguments]))
    done = execute(script, folder)
    assert done.returncode == 0, done.stderr
    assert recorded(folder)[0][0] == ["run", *arguments, "--name", "a"]


@pytest.mark.parametrize("word", ["a\nb", "a\rb", "a\tb", "\0", "\x85", "\u2028", "\udcff"])
def test_words_that_are_not_printable_are_refused(word):
    with pytest.raises(UserError, match="printable characters"):
        job.plan_runs("a", ["run", "--set", word])
    with pytest.raises(UserError):
        job.plan_runs("a", ["run"], [f"SEED={word},1"])
    with pytest.raises(UserError):
        job.settings(setup=word)


def test_a_sweep_runs_every_combination_in_its_own_folder():
    runs = job.plan_runs(
        "job",
        ["run", "--name", "xl"],
        ["SEED=0,1", "MODEL=mini_base,x/my.gin", "LEARNING_RATE=1e-4"],
    )
    assert [run.arguments for run in runs[:2]] == [
        ("run", "--seed", "0", "--model", model, "--set", "LEARNING_RATE=1e-4", "--name", name)
        for model, name in (
            ("mini_base", "xl-seed0-mini-base-learning-rate1e-4"),
            ("x/my.gin", "xl-seed0-my-learning-rate1e-4"),
        )
    ]
    assert len({run.folder for run in runs}) == len(runs) == 4
    assert runs[0].folder == f"runs/{runs[0].name}"


@pytest.mark.parametrize(
    ("arguments", "sweeps", "problem"),
    [
        ([], [], "after -- comes a command"),
        (["launch", "tpu"], [], "not launch"),
        (["run", "--out", "x"], ["SEED=0,1"], "--name instead of --out"),
        (["run", "--name"], [], "needs a value"),
        (["run"], ["SEED"], "expected MACRO="),
        (["run"], ["SEED=0,,1"], "expected MACRO="),
        (["run"], ["seed=0"], "expected MACRO="),
        (["run"], ["SEED=0", "SEED=1"], "given twice"),
        (["run"], ["SEED=0,0"], "both be named"),
        (["reproduce"], ["SEED=0,1"], "many runs already"),
    ],
)
def test_bad_runs_are_refused(arguments, sweeps, problem):
    with pytest.raises(UserError, match=problem):
        job.plan_runs("a", arguments, sweeps)


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a-", "1a", "a" * 64, "a;b", "é"])
def test_names_that_a_cluster_would_refuse_are_refused(name):
    with pytest.raises(UserError, match="--name"):
        job.check_name(name)


def test_one_process_gets_no_variables_of_a_shared_run(here):
    done = execute(local.render(job.plan_runs("a", ["run"])), here)
    assert done.returncode == 0, done.stderr
    assert recorded(here) == [[["run", "--name", "a"], {}, str(here)]]


def test_several_processes_get_the_variables_of_a_shared_run(here):
    script = local.render(job.plan_runs("a", ["run"], ["SEED=0,1"]), processes=3, port=4321)
    done = execute(script, here)
    assert done.returncode == 0, done.stderr
    for process in range(3):
        seeds = [ran[0][2] for ran in recorded(here, process)]
        assert seeds == ["0", "1"]
        assert recorded(here, process)[0][1] == {
            "SYCOPHANCY_COORDINATOR": "127.0.0.1:4321",
            "SYCOPHANCY_NUM_PROCESSES": "3",
            "SYCOPHANCY_PROCESS_ID": str(process),
        }


ONE_FAILS = """import os, signal, sys, time
if os.environ["SYCOPHANCY_PROCESS_ID"] == "0":
    sys.exit(3)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others(here):
    script = local.render(job.plan_runs("a", ["run"]), processes=3)
    stand_in(here / "a program", ONE_FAILS)
    assert execute(script, here).returncode == 3


def test_the_process_that_ended_first_is_named_whenever_the_others_end(here):
    script = local.render(job.plan_runs("a", ["run"]), processes=3)
    ends = "import os, sys\nsys.exit([3, 7, 3][int(os.environ['SYCOPHANCY_PROCESS_ID'])])\n"
    stand_in(here / "a program", ends)
    done = execute(script, here)
    assert done.returncode == 7
    assert done.stderr.splitlines()[1:] == [
        "launch: process 1 ended first, with 7",
        "launch: a ended with 7; the same script continues it",
    ]


SAVES = """import os, pathlib, signal, sys
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
pathlib.Path(os.environ["RECORD"], "up").touch()
signal.pause()
pathlib.Path(os.environ["RECORD"], "saved" + os.environ.get("SYCOPHANCY_PROCESS_ID", "")).touch()
"""


def test_sigterm_reaches_every_process_and_is_not_reported_as_success(here):
    script = local.render(job.plan_runs("a", ["run"]), processes=2)
    stand_in(here / "a program", SAVES)
    started = subprocess.Popen(
        ["bash", job.write(script, here / "job.sh")],
        env={"PATH": "/usr/bin:/bin", "RECORD": str(here)},
        stderr=subprocess.PIPE,
    )
    wait_for(here / "up")
    started.terminate()
    assert b"same script continues" in started.communicate(timeout=60)[1]
    assert started.returncode == 75
    assert (here / "saved0").exists()
    assert (here / "saved1").exists()


def test_sigterm_to_the_command_reaches_the_script(here):
    script = local.render(job.plan_runs("a", ["run"]))
    stand_in(here / "a program", SAVES)
    job.write(script, here / "job.sh")
    code = (
        "import sys\nfrom sycophancy.cli.main import main\nfrom sycophancy.launch import local\n"
        f"local.program = lambda: {str(here / 'a program')!r}\n"
        "sys.argv = 'sycophancy launch local --go -- run --model mini_base'.split()\nmain()"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "RECORD": str(here)}, cwd=here
    )
    wait_for(here / "up")
    started.terminate()
    assert started.wait(timeout=60) == 143
    assert (here / "saved").exists()


def wait_for(path: Path) -> None:
    import time

    for _ in range(600):
        if path.exists():
            time.sleep(0.3)  # the others too
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} does not appear")


def test_without_go_the_command_prints_the_script_and_starts_nothing(sycophancy, here):
    outcome = sycophancy("launch", "local", "--", "run", "--model", "mini_base")
    assert outcome.code == 0
    assert outcome.out.startswith("#!/usr/bin/env bash")
    assert outcome.err == "launch: --go runs: bash FILE\n"
    assert not (here / "runs").exists()
    written = sycophancy(
        "launch", "local", "--write", "x/y.sh", "--", "run", "--model", "mini_base"
    )
    assert written.out == "x/y.sh\n"
    assert (here / "x/y.sh").read_text() == outcome.out


def test_a_grid_on_this_machine_is_one_command(sycophancy, here):
    shown = sycophancy("launch", "local", "--", "sweep", "--models", "a,b", "--name", "grid")
    assert "arguments=(sweep --models a,b --name grid)" in shown.out
    assert "--cell" not in shown.out


def test_go_runs_the_script(sycophancy, here, monkeypatch):
    monkeypatch.setenv("RECORD", str(here))
    words = ("launch", "local", "--name", "try", "--go", "--", "run", "--model", "mini_base")
    assert sycophancy(*words).code == 0
    assert recorded(here)[0][0] == ["run", "--model", "mini_base", "--name", "try"]
    assert (here / "runs/launch/try.sh").exists()
    stand_in(here / "a program", "raise SystemExit(7)")
    monkeypatch.setattr(local, "program", lambda: str(here / "a program"))
    assert sycophancy(*words).code == 7


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--", "run", "--modle", "x"], "no such option"),
        (["--", "run", "--seed", "x"], "--seed"),
        (["--name", "a b", "--", "run"], "--name a b"),
        (["--", "sweep", "--models", "m", "--seeds", "x"], "--seeds"),
        (["--write", "/dev/null/x", "--", "run", "--model", "m"], "cannot write"),
        (["--", "run", "--model", "m", "--set", "BATCH_SIZ=3"], "'BATCH_SIZE'"),
        (["--", "run", "--model", "m", "--set", "BATCH_SIZE=0"], "at least 1"),
        (["--", "run", "--model", "m", "--recipe", "papr"], "'paper'"),
        (["--", "run", "--model", "m", "--mesh", "data=1,data=2"], "twice"),
        (["--", "run", "--model", "m", "--name", "../x"], "--name '../x'"),
        (["--", "reproduce", "--set", "SEED=-1"], "SEED"),
        (["--", "reproduce", "--seeds", "100000"], "--seeds 100000"),
        (["--processes", "100000", "--", "run", "--model", "m"], "--processes"),
        (["--sweep", f"SEED={','.join(map(str, range(10_001)))}", "--", "run"], "10,001 runs"),
    ],
)
def test_options_of_the_run_are_checked_before_it_is_launched(sycophancy, here, words, problem):
    outcome = sycophancy("launch", "local", *words)
    assert outcome.code == 2
    assert problem in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_checkout_is_needed_to_install_elsewhere(tmp_path):
    assert (job.source_folder(None) / "sycophancy").is_dir()
    with pytest.raises(UserError, match="--source"):
        job.source_folder(str(tmp_path))


def test_shellcheck_finds_nothing(here):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if (shellcheck := shutil.which("shellcheck", path=path)) is None:
        pytest.skip("shellcheck is not installed")
    script = local.render(job.plan_runs("a", ["run", "$odd '"]), processes=2)
    done = subprocess.run(
        [shellcheck, "--exclude=SC2016", job.write(script, here / "job.sh")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
