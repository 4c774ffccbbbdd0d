"""Each setting is declared once, as a field; everything else about it follows from that field."""

import dataclasses
import json
import subprocess
import sys
import typing
from typing import Annotated

import pytest

from sycophancy.config import bounds, conversion, declarations, load, macros
from sycophancy.config.bounds import Between
from sycophancy.config.declarations import GROUPS, OPERATIONAL_SETTINGS, result_settings
from sycophancy.config.markers import ByContent, Label, SameAs
from sycophancy.config.schema import (
    Config,
    DataConfig,
    Lengths,
    ModelConfig,
    NetworkConfig,
    TrainingConfig,
)

ALL = declarations.declarations()
# Fields that hold other parts of the configuration, or its text.
NO_SETTINGS = {
    ModelConfig: {"encoder_decoder", "shape_of"},
    Config: {"model", "data", "training", "operative"},
}


@pytest.mark.parametrize("owner", GROUPS.values(), ids=lambda owner: owner.__name__)
def test_each_field_is_filled_by_a_macro_or_is_a_part_of_the_configuration(owner):
    fields = {field.name for field in dataclasses.fields(owner)}
    filled = set(declarations.macros_by_field(owner))
    assert filled | NO_SETTINGS.get(owner, set()) == fields
    assert not filled & NO_SETTINGS.get(owner, set())


def test_each_macro_is_declared_by_one_field():
    declared = []
    for owner in GROUPS.values():
        for field, macro in declarations.macros_by_field(owner).items():
            annotation = declarations._annotations(owner)[field]
            if declarations._marker(annotation, SameAs) is None:
                declared.append(macro)
    assert sorted(declared) == sorted(ALL)


def test_each_setting_has_a_sentence_of_help_and_a_default_within_its_limits():
    for macro, declared in ALL.items():
        assert declared.macro == macro == macro.upper()
        assert declared.help[0].isupper(), macro
        assert declared.help.endswith("."), macro
        if not declared.is_required:
            plain = conversion.plain(declared.default)
            assert conversion.convert(plain, declared.annotation) == declared.default


def test_a_value_that_two_classes_hold_has_one_setting():
    config = load.load_config("mini_base", "quick", ["SEED=7", "DROPOUT_RATE=0.25"])
    assert config.data.seed == config.training.seed == 7
    assert config.training.dropout_rate == config.model.network.dropout_rate == 0.25
    assert load.load_config("mini_base", "quick").model.network.dropout_rate == 0.05
    assert {"SEED", "DROPOUT_RATE"} <= result_settings(TrainingConfig)
    assert "SEED" in result_settings(DataConfig)
    assert "DROPOUT_RATE" in result_settings(NetworkConfig)


def test_the_settings_that_decide_how_a_run_proceeds_are_these():
    assert {
        *("MESH", "LOG_PERIOD", "SAVE_PERIOD", "SAVE_MINUTES", "KEEP_CHECKPOINTS", "KEEP_PERIOD"),
        *("REMAT_POLICY", "WANDB_PROJECT"),
    } == OPERATIONAL_SETTINGS
    assert {macro for macro, declared in ALL.items() if declared.has(Label)} == {
        "MODEL_NAME",
        "RECIPE",
    }
    by_content = {macro for macro, declared in ALL.items() if declared.has(ByContent)}
    places = {
        macro
        for macro, declared in ALL.items()
        if "a file, a folder or an address" in conversion.describe(declared.annotation)
    }
    assert by_content == places
    assert {"DATA_MIRROR", "SURVEYS", "INSTRUCTIONS", "VOCABULARY"} < places
    deciding = frozenset().union(*map(result_settings, GROUPS.values()))
    assert deciding == ALL.keys() - OPERATIONAL_SETTINGS - by_content - {"MODEL_NAME", "RECIPE"}


def test_both_lengths_are_one_setting():
    bindings = ["TASK_FEATURE_LENGTHS={'targets': 9, 'inputs': 33}"]
    config = load.load_config("mini_base", "quick", bindings)
    assert config.training.task_feature_lengths == Lengths(inputs=33, targets=9)
    assert (config.training.input_length, config.training.target_length) == (33, 9)
    assert "TASK_FEATURE_LENGTHS = {'inputs': 33, 'targets': 9}\n" in config.operative
    assert load.macro_values(config)["TASK_FEATURE_LENGTHS"] == {"inputs": 33, "targets": 9}


def test_macro_values_are_plain_and_in_the_order_of_the_run_file():
    config = load.load_config("mini_base", "quick")
    values = load.macro_values(config)
    assert list(values) == [line.split(" = ")[0] for line in config.operative.splitlines()]
    assert json.loads(json.dumps(values)).keys() == values.keys()
    # The macros themselves give the configuration again, and paths of the package are resolved.
    given = {macro: macros.Setting(value, macro) for macro, value in values.items()}
    again = load.load_operative("", "no file", overrides=given)
    assert dataclasses.replace(again, operative=config.operative) == config


def test_the_resolved_settings_say_which_place_set_them(tmp_path):
    recipe = tmp_path / "mine.gin"
    recipe.write_text("include 'recipes/quick.gin'\nSAVE_PERIOD = 50\n")
    overrides = {"SEED": macros.Setting(3, "--seed 3")}
    resolved = load.resolve("mini_base", str(recipe), ["Z_LOSS=0"], overrides)
    assert resolved.keys() == ALL.keys()
    assert resolved["SAVE_PERIOD"] == macros.Setting(50, f"{recipe}:2")
    assert resolved["SEED"] == macros.Setting(3, "--seed 3")
    assert resolved["Z_LOSS"] == macros.Setting(0.0, "--set Z_LOSS=0")
    assert resolved["VOCAB_SIZE"].origin.startswith("models/mini_base.gin:")
    assert resolved["MESH"] == macros.Setting((-1, 1, 1), "the default")


@dataclasses.dataclass(frozen=True)
class Pair:
    first: Annotated[int, Between(1, 5)]
    second: float = 0.5


def test_a_dictionary_becomes_a_dataclass_with_checked_fields():
    assert conversion.convert({"second": 2, "first": 5}, Pair) == Pair(5, 2.0)
    assert conversion.plain(Pair(5, 2.0)) == {"first": 5, "second": 2.0}
    assert conversion.describe(Pair) == "{'first': a whole number from 1 to 5, 'second': a number}"
    for bad in ({"first": 5}, {"first": 5, "second": 1, "third": 1}, (5, 1.0), None):
        with pytest.raises(TypeError, match=r"expected \{'first': a whole number"):
            conversion.convert(bad, Pair)
    with pytest.raises(ValueError, match="expected at most 5, got 6"):
        conversion.convert({"first": 6, "second": 0}, Pair)


def test_each_number_and_each_text_has_a_limit():
    """Every number and text that a user can set is refused when it is too large or too long."""

    def without_limit(annotation):
        arguments = typing.get_args(annotation)
        if typing.get_origin(annotation) is Annotated:
            limited = any(isinstance(item, bounds.Limit) for item in arguments[1:])
            return [] if limited else without_limit(arguments[0])
        if dataclasses.is_dataclass(annotation):
            arguments = typing.get_type_hints(annotation, include_extras=True).values()
        if annotation in (int, float, str):
            return [annotation]
        types = [part for part in arguments if not isinstance(part, str) and part is not Ellipsis]
        return [name for part in types for name in without_limit(part)]

    assert without_limit(Annotated[str, "A text."]) == [str]
    assert without_limit(Pair) == [float]
    assert without_limit(tuple[float, Annotated[int, Between(1, 2)]]) == [float]
    for macro, declared in ALL.items():
        assert not without_limit(declared.annotation), macro


def test_the_declarations_load_neither_jax_nor_numpy_nor_gin():
    code = (
        "import sys; import sycophancy.config.declarations\n"
        "print([name for name in ('jax', 'numpy', 'gin', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
