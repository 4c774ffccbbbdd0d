"""The command line starts fast, describes its commands, and can continue after it was stopped."""

import ast
import re
import signal
import subprocess
import sys

import pytest

from sycophancy import __version__

COMMANDS = ["prepare", "filter", "finetune", "evaluate", "report", "run"]


def test_help_loads_this_package_typer_and_the_standard_library_alone():
    code = (
        "import sys; before = set(sys.modules); sys.argv = ['sycophancy', '--help']\n"
        "from sycophancy.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(loaded - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    assert loaded <= {"sycophancy", "typer", "annotated_doc", "shellingham", "click"}


def test_help_names_every_command(sycophancy):
    outcome = sycophancy("--help")
    assert outcome.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in outcome.out


def test_every_command_describes_itself_as_the_list_does(sycophancy):
    words = re.findall(r"^  ([a-z]+) +([A-Z].*?)\.+$", sycophancy("--help").out, re.MULTILINE)
    assert len(words) > 20
    for command, description in words:
        lines = " ".join(sycophancy(command, "--help").out.split())
        assert description in lines, command


@pytest.mark.parametrize("words", [[], ["launch"]])
def test_without_a_command_the_help_is_printed(sycophancy, words):
    outcome = sycophancy(*words)
    assert (outcome.code, outcome.out) == (0, sycophancy(*words, "--help").out)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_lists_the_run_options(sycophancy, command):
    outcome = sycophancy(command, "--help")
    assert outcome.code == 0
    for option in ("--model", "--recipe", "--name", "--data-mirror", "--set", "--seed"):
        assert option in outcome.out


def test_version(sycophancy):
    assert sycophancy("--version").out == f"{__version__}\n"


def test_prepare_writes_and_shows_rows(sycophancy, tmp_path):
    words = ["prepare", "--model", "mini_base", "--recipe", "quick", "--out", tmp_path / "run"]
    outcome = sycophancy(*words, "--show", 2, "--set", "NUM_EXAMPLES=100", "--data-sets", "sst2")
    assert outcome.code == 0
    assert outcome.out.count("Human: Hello, my name is") == 2
    assert outcome.out.endswith(f"{tmp_path / 'run' / 'prepare'}\n")
    assert "prepare: done in" in outcome.err
    # Without --model, the existing run continues with its own settings.
    again = sycophancy("prepare", "--out", tmp_path / "run")
    assert (again.code, again.err) == (0, "prepare: up to date\n")


def test_a_run_lies_in_the_folder_of_its_name(sycophancy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--set", "NUM_EXAMPLES=50", "--data-sets", "sst2", "--recipe", "quick"]
    assert (
        sycophancy("prepare", "--model", "mini_base", *words).out
        == "runs/mini_base-quick-seed0/prepare\n"
    )
    assert sycophancy("prepare", "--model", "mini_base", "--name", "x", *words).code == 0
    assert (tmp_path / "runs" / "x" / "config.gin").exists()


def test_relative_paths_are_stored_as_absolute_paths(sycophancy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(
        "".join(f'{{"inputs": "say {n}", "targets": "{n}", "task": "t"}}\n' for n in range(100))
    )
    words = ["--set", "NUM_EXAMPLES=50", "--data-sets", "sst2", "--instructions", "rows.jsonl"]
    outcome = sycophancy(
        "prepare", "--model", "mini_base", "--recipe", "quick", "--out", "r", *words
    )
    assert outcome.code == 0, outcome.err
    assert f"INSTRUCTIONS = '{tmp_path}/rows.jsonl'" in (tmp_path / "r" / "config.gin").read_text()
    monkeypatch.chdir(tmp_path / "r")
    assert sycophancy("prepare", "--out", ".").err == "prepare: up to date\n"


SLEEPS = """
import os, signal, sys
sys.argv = ["sycophancy", "prepare", "--model", "mini_base", "--out", sys.argv[1]]
from sycophancy.cli import main
from sycophancy.stages.prepare import Prepare

def prepare(*_):
    os.kill(os.getpid(), getattr(signal, NAME))
    signal.sigtimedwait([], 5)

Prepare.work = prepare
main.main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stopped_command_says_how_to_continue(tmp_path, name, code):
    done = subprocess.run(
        [sys.executable, "-c", SLEEPS.replace("NAME", repr(name)), str(tmp_path / "run")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    assert done.stderr.splitlines() == [
        "sycophancy: stopped; complete stages are kept, and the same command continues from there"
    ]
    assert signal.Signals[name]
    assert not list((tmp_path / "run").glob(".prepare*"))


@pytest.mark.parametrize(
    "words",
    [
        ("prepare", "--model", "mini_base", "--name", "a\udcff"),
        ("prepare", "--model", "mini_base", "--instructions", "a\udcff"),
        ("convert", "a\udcff", "b", "--to", "hf"),
        ("doctor", "--model", "a\udcff"),
        ("convert", "a" * 300, "b", "--to", "hf"),
        ("launch", "tpu", "--name", "a", "--accelerator", "v4-8", "--zone", "z", "--source",
         "a" * 300, "--", "run", "--model", "mini_base"),
        ("prepare", "--model", "mini_base", "--seed", "9" * 5_000),
        ("plan", "--model", "mini_base", "--topology", f"v4:{'9' * 5_000}"),
        ("plan", "--model", "mini_base", "--topology", "v4-8", "--mesh", "rows=1"),
        ("prepare", "--model", "mini_base", "--show", "9" * 30),
    ],
)  # fmt: skip
def test_impossible_names_are_refused_in_one_line(sycophancy, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    outcome = sycophancy(*words)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert len(line) < 700
    assert not any(tmp_path.iterdir())
