"""The table of trainers agrees with the setting TRAINER, and with the trainers' modules."""

import inspect
import subprocess
import sys
import typing

import pytest

from sycophancy.config import macros
from sycophancy.config.load import load_config
from sycophancy.config.schema import Config
from sycophancy.engine import imports
from sycophancy.errors import UserError
from sycophancy.training.t5x import requirements
from sycophancy.training.trainers import TRAINERS, Finetune


def configured(*bindings):
    return load_config("mini_base", "demo", list(bindings))


def test_the_table_has_exactly_the_names_that_the_setting_allows():
    hint = typing.get_type_hints(Config)["trainer"]
    assert typing.get_args(hint) == tuple(TRAINERS)


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainers_function_has_the_common_signature(name):
    expected = inspect.signature(Finetune.__call__).parameters
    actual = inspect.signature(TRAINERS[name].load()).parameters
    assert [(p.name, p.kind) for p in actual.values()] == [
        (p.name, p.kind) for p in expected.values() if p.name != "self"
    ]
    assert all(actual[word].default is not inspect.Parameter.empty for word in ("report", "note"))


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainers_code_and_gin_files_exist_and_include_its_module(name):
    trainer = TRAINERS[name]
    files = imports.closure(*trainer.code)
    assert imports.closure(trainer.module) <= files
    assert {path.parent.name for path in files} >= {"tasks", "training"}
    assert all((macros.root() / file).is_file() for file in trainer.gin_files)


def test_checking_a_trainer_imports_neither_jax_nor_tensorflow(tmp_path):
    """The checks run before JAX starts."""
    program = (
        "import sys, pathlib\n"
        "from sycophancy.config.load import load_config\n"
        "from sycophancy.errors import UserError\n"
        "from sycophancy.training.trainers import TRAINERS\n"
        "config = load_config('mini_base', 'demo')\n"
        "for trainer in TRAINERS.values():\n"
        "    try:\n"
        "        trainer.check(config, pathlib.Path(sys.argv[1]))\n"
        "    except UserError:\n"
        "        pass\n"
        "print({'jax', 'tensorflow', 't5x'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("bindings", "folder", "words"),
    [
        *(
            ([], name, "takes *, ? and [ in a folder's name for a pattern")
            for name in ("a[b]", "a*b", "a?")
        ),
        (["MLP_ACTIVATIONS=('gelu_exact', 'linear')"], "run", "T5X has no gelu_exact"),
        ([], "run", "no_such_package"),
    ],
)
def test_t5x_refuses_what_it_cannot_do_and_the_in_tree_trainer_does_not(
    tmp_path, monkeypatch, bindings, folder, words
):
    monkeypatch.setattr(requirements, "NEEDED", ("no_such_package",))
    config = configured(*bindings)
    with pytest.raises(UserError) as caught:
        TRAINERS["t5x"].check(config, tmp_path / folder)
    assert words in str(caught.value)
    TRAINERS["jax"].check(config, tmp_path / folder)


def test_a_t5x_checkpoint_of_another_step_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(requirements, "NEEDED", ())
    (tmp_path / "checkpoint_77").mkdir()
    (tmp_path / "checkpoint_77" / "checkpoint").touch()
    checkpoint = f"INITIAL_CHECKPOINT_PATH={tmp_path / 'checkpoint_77'}"
    with pytest.raises(UserError, match="set PRETRAINED_STEP to 77"):
        TRAINERS["t5x"].check(configured(checkpoint), tmp_path / "run")
    TRAINERS["t5x"].check(configured(checkpoint, "PRETRAINED_STEP=77"), tmp_path / "run")
