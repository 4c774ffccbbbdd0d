"""A shell that asks for completions gets the names of models, recipes and macros."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sycophancy.cli import completion
from sycophancy.config import macros
from sycophancy.config.declarations import declarations

ROOT = Path(__file__).resolve().parents[2]


def test_models_and_recipes_are_the_files_that_ship():
    for kind, complete in (("models", completion.models), ("recipes", completion.recipes)):
        files = (macros.root() / kind).rglob("*.gin")
        shipped = {
            path.relative_to(macros.root() / kind).with_suffix("").as_posix() for path in files
        }
        assert set(complete("")) == shipped
    assert completion.models("mini_b") == ["mini_base", "mini_base_pretrained"]
    assert "ablations/no_filtration" in completion.recipes("ablations/no")


def test_macros_complete_in_upper_and_lower_case():
    assert set(completion.macros("")) == set(declarations())
    assert completion.macros("learn") == completion.macros("LEARN") == ["LEARNING_RATE"]
    assert completion.assignments("SEE") == ["SEED="]


def test_the_last_entry_of_a_list_is_completed():
    assert completion.model_lists("mini_small,mini_large_") == ["mini_small,mini_large_pretrained"]
    assert completion.recipe_lists("qu") == ["quick"]


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> dict[str, str]:
    """An environment in which a shell finds the command `sycophancy` of this checkout."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "sycophancy"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sycophancy "$@"\n')
    command.chmod(0o755)
    return os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",  # tests may run outside a shell
    }


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_after_sourcing_what_the_command_prints(commands):
    """One session of a real bash: each line completes the last of the given words."""
    asked = {
        "run --model mini_b": "mini_base mini_base_pretrained",
        "run --set BATCH": "BATCH_SIZE=",
        "sweep --models mini_small,mini_large_": "mini_small,mini_large_pretrained",
        "repo": "report",
        "prepare --data-m": "--data-mirror",
    }
    script = ['eval "$(sycophancy --show-completion bash)"']
    for words in asked:
        count = len(words.split())
        script.append(f"COMP_WORDS=(sycophancy {words}); COMP_CWORD={count}")
        script.append('COMPREPLY=(); _sycophancy_completion sycophancy; echo "${COMPREPLY[*]}"')
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        env=commands,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert dict(zip(asked, done.stdout.splitlines(), strict=True)) == asked


def test_completion_is_installed_in_the_home_folder(commands):
    home = Path(commands["HOME"])
    done = subprocess.run(
        ["sycophancy", "--install-completion", "bash"], env=commands, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (script,) = (home / ".bash_completions").iterdir()
    assert "_SYCOPHANCY_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (home / ".bashrc").read_text()


def test_completing_loads_no_heavy_package_and_touches_no_cache(tmp_path):
    code = (
        "import os, sys\n"
        "os.environ |= {'_SYCOPHANCY_COMPLETE': 'complete_bash', 'COMP_CWORD': '3',\n"
        "               'COMP_WORDS': 'sycophancy run --set SEE'}\n"
        "from sycophancy.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('jax', 'numpy', 'gin', 'rich') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["SEED=", "[]"]
    assert not any(tmp_path.iterdir())
