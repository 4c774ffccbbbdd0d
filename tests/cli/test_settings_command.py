"""`sycophancy settings` describes every macro, and shows which place set which value."""

import re
import subprocess
import sys

import pytest

from sycophancy.config import load, reference
from sycophancy.config.conversion import as_gin
from sycophancy.config.declarations import GROUPS, declarations

ALL = declarations()


def test_the_list_has_each_macro_once_with_its_type_and_default(sycophancy):
    outcome = sycophancy("settings")
    assert (outcome.code, outcome.err) == (0, "")
    listed = re.findall(r"^  ([A-Z_]+): (.+)$", outcome.out, re.MULTILINE)
    assert sorted(macro for macro, _ in listed) == sorted(ALL)
    facts = dict(listed)
    assert facts["BATCH_SIZE"] == "a whole number from 1 to 65,536; default 32"
    assert facts["VOCAB_SIZE"] == "a whole number from 1 to 10,000,000; no default"
    assert facts["SAMPLING"] == "one of 'uniform', 'balanced'; default 'uniform'"
    groups = re.findall(r"^(\w+): ", outcome.out, re.MULTILINE)
    assert groups == list(GROUPS)
    assert all(len(line) <= 100 for line in outcome.out.splitlines() if line.startswith("    "))


@pytest.mark.parametrize("name", ["LEARNING_RATE", "learning_rate"])
def test_one_macro_is_described_alone(sycophancy, name):
    outcome = sycophancy("settings", name)
    assert "  LEARNING_RATE: a number from 0 to 1,000,000; default 0.0005" in outcome.out
    assert ALL["LEARNING_RATE"].help.split()[0] in outcome.out
    assert len(outcome.out.splitlines()) < 8


def test_the_markdown_page_has_a_row_for_each_macro(sycophancy):
    page = sycophancy("settings", "--markdown").out
    assert page == reference.markdown()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+) \| (.*) \| (.+) \|$", page, re.MULTILINE)
    assert sorted(row[0] for row in rows) == sorted(ALL)
    for macro, _, default, text in rows:
        declared = ALL[macro]
        assert text.startswith(declared.help)
        assert default == ("" if declared.is_required else f"`{as_gin(declared.default)}`")
    assert page.count("\n## ") == len(GROUPS)


def test_the_values_of_a_run_come_with_the_place_that_set_them(sycophancy):
    words = ["settings", "--model", "mini_base", "--recipe", "demo", "--set", "Z_LOSS=0"]
    outcome = sycophancy(*words)
    lines = dict(line.rsplit("  # ", 1) for line in outcome.out.splitlines())
    origins = {text.split(" = ")[0]: origin for text, origin in lines.items()}
    assert origins["Z_LOSS"] == "--set Z_LOSS=0"
    assert re.fullmatch(r"recipes/demo\.gin:\d+", origins["BATCH_SIZE"])
    assert re.fullmatch(r"models/mini_base\.gin:\d+", origins["LEARNING_RATE"])
    assert origins["MESH"] == "the default"
    # The lines are gin text that reads back as the run's configuration.
    again = load.load_operative(outcome.out, "the printed lines")
    assert again == load.load_config("mini_base", "demo", ["Z_LOSS=0"])
    assert sycophancy(*words, "Z_LOSS").out == "Z_LOSS = 0.0  # --set Z_LOSS=0\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["BATCHSIZE"], "unknown macro 'BATCHSIZE'; did you mean 'BATCH_SIZE'?"),
        (["--recipe", "demo"], "--recipe needs --model beside it"),
        (["--set", "SEED=1"], "--set needs --model beside it"),
        (["--markdown", "SEED"], "leave MACRO and --model out"),
        (["--model", "mini_bse"], "did you mean 'mini_base'?"),
        (["--model", "mini_base", "--set", "SEED=x"], "--set SEED=x: SEED: expected a whole"),
    ],
)
def test_wrong_words_are_refused_in_one_line(sycophancy, words, message):
    outcome = sycophancy("settings", *words)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert message in line


def test_the_list_loads_no_heavy_package():
    code = (
        "import sys; sys.argv[1:] = ['settings', '--markdown']\n"
        "from sycophancy.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('jax', 'numpy', 'gin', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
