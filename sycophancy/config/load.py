"""From a model, a recipe and flags to the typed configuration of a run."""

from __future__ import annotations

import dataclasses
import functools
import pprint
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from sycophancy import errors
from sycophancy.config import bounds, macros
from sycophancy.config.bounds import Keys, Place
from sycophancy.config.schema import (
    BATCH_TOKENS,
    PACKAGE,
    Config,
    DataConfig,
    Length,
    ModelConfig,
    NetworkConfig,
    TrainingConfig,
)

_CLASSES = (NetworkConfig, ModelConfig, DataConfig, TrainingConfig, Config)
# What has a training split (tasks/__init__.py).
_MIXTURE = re.compile(
    r"sycophancy_intervention|instruction_tuning|"
    r"sycophancy_mix(_(?!0+to0+$)[0-9]{1,6}to[0-9]{1,6})?"
)


@functools.cache
def macro_types() -> dict[str, Any]:
    """The type and limits of every macro: of the field that `trainers/jax.gin` binds it to."""
    hints: dict[str, dict[str, Any]] = {
        cls.__name__: typing.get_type_hints(cls, include_extras=True) for cls in _CLASSES
    }
    hints["TrainingConfig"]["task_feature_lengths"] = Annotated[
        dict[str, Length], Keys(("inputs", "targets")), "tokens of a packed row"
    ]
    return {field.macro: hints[field.owner][field.field] for field in macros.bindings()}


@functools.cache
def _defaults() -> dict[str, Any]:
    known = {
        (cls.__name__, field.name): field.default
        for cls in _CLASSES
        for field in dataclasses.fields(cls)
        if field.default is not dataclasses.MISSING
    }
    lengths = {"inputs": TrainingConfig.input_length, "targets": TrainingConfig.target_length}
    known["TrainingConfig", "task_feature_lengths"] = lengths
    found: dict[str, Any] = {"FILTRATION": True, "TRAINER": "jax"}
    for field in reversed(macros.bindings()):  # of two fields of one macro, the first decides
        if (field.owner, field.field) in known:
            found[field.macro] = known[field.owner, field.field]
    # Both dropout rates are one macro; the network's own default, no dropout, is for scoring.
    return found | {"DROPOUT_RATE": TrainingConfig.dropout_rate}


def load_config(
    model: str,
    recipe: str,
    bindings: Sequence[str] = (),
    overrides: Mapping[str, macros.Setting] | None = None,
) -> Config:
    """One run's configuration: a model's gin file, a recipe's, then what the user said.

    Args:
        model: a shipped model's name, the path of a gin file, or a checkpoint: a folder, an
            address in a bucket, or `hf:owner/name`.
        recipe: a shipped recipe's name, or the path of a gin file.
        bindings: "MACRO=VALUE" each; the last word.
        overrides: macros from other flags, with the flag as origin.

    Raises:
        UserError: an unknown macro or a value that does not fit, with the file and line or flag.

    Example:
        >>> load_config("mini_base", "quick", ["BATCH_SIZE=4"]).training.batch_size
        4
    """
    from sycophancy.model import references  # which needs this module

    bounds.check("--model", model, Place())
    if references.is_checkpoint(model):
        of_model = references.settings(model)
    else:
        of_model = macros.read_file(macros.find("model", model))
    recipe_file = macros.find("recipe", recipe)
    settings = {
        "MODEL_NAME": macros.Setting(references.short_name(model), f"--model {model}"),
        **of_model,
        "RECIPE": macros.Setting(
            recipe_file.stem if recipe.endswith(".gin") else recipe, f"--recipe {recipe}"
        ),
        **macros.read_file(recipe_file),
    }
    amended = _amend(settings, bindings, overrides)
    if "VOCABULARY" not in amended and references.is_checkpoint(model):
        raise errors.UserError(
            f"--model {model}: VOCABULARY is not set: there is no spiece.model, and no other form "
            "of a vocabulary (tokenizer.json) is read; give the SentencePiece model that it was "
            "trained with, as in --set VOCABULARY=FILE"
        )
    return _build(amended, f"model {model} and recipe {recipe}")


def load_operative(
    text: str,
    source: str,
    bindings: Sequence[str] = (),
    overrides: Mapping[str, macros.Setting] | None = None,
) -> Config:
    """The configuration whose `operative` text this is, changed as the user says."""
    return _build(_amend(macros.read_text(text, source), bindings, overrides), source)


def check_flags(bindings: Sequence[str], overrides: Mapping[str, macros.Setting]) -> None:
    """Checks what flags set, each for itself, where the model's and the recipe's files may be
    absent; see `load_config`.
    """
    for name, setting in _amend({}, bindings, overrides).items():
        _checked(name, setting, macro_types()[name])


def _amend(
    settings: Mapping[str, macros.Setting],
    bindings: Sequence[str],
    overrides: Mapping[str, macros.Setting] | None,
) -> dict[str, macros.Setting]:
    flags = dict(macros.read_flag(binding, macro_types()) for binding in bindings)
    return {**settings, **(overrides or {}), **flags}


def _build(settings: Mapping[str, macros.Setting], source: str) -> Config:
    known = macro_types()
    for name, setting in settings.items():
        if name not in known:
            raise errors.UserError(
                f"{setting.origin}: unknown macro '{name}'{macros.closest(name, known)}"
            )
    values = {}
    for name, annotation in known.items():
        setting = settings.get(name) or macros.Setting(_default(name, source), "the default")
        values[name] = _checked(name, setting, annotation)
    _check_together(values)
    return _assemble(values)


def _checked(name: str, setting: macros.Setting, annotation: Any) -> Any:
    try:
        return macros.convert(setting.value, annotation)
    except (TypeError, ValueError) as error:
        raise errors.UserError(f"{setting.origin}: {name}: {error}") from None


def _check_together(values: Mapping[str, Any]) -> None:
    """Refuses settings that fit alone and not together."""
    batch, parts, lengths = (
        values[name] for name in ("BATCH_SIZE", "MICROBATCHES", "TASK_FEATURE_LENGTHS")
    )
    if batch % parts:
        raise errors.UserError(f"MICROBATCHES = {parts} does not divide BATCH_SIZE = {batch}")
    if (tokens := batch * sum(lengths.values())) > BATCH_TOKENS:
        raise errors.UserError(
            f"BATCH_SIZE = {batch} rows of TASK_FEATURE_LENGTHS = {lengths} are {tokens:,} tokens "
            f"a batch; at most {BATCH_TOKENS:,} can be held"
        )
    mixture = values["MIXTURE_OR_TASK_NAME"]
    if values["TRAINER"] == "jax" and not _MIXTURE.fullmatch(mixture):  # T5X knows others, too
        raise errors.UserError(
            f"MIXTURE_OR_TASK_NAME = {mixture!r}: expected sycophancy_mix, sycophancy_mix_1to1 "
            "(any ratio), sycophancy_intervention or instruction_tuning"
        )
    save, keep = values["SAVE_PERIOD"], values["KEEP_PERIOD"]
    if keep is not None and keep % save and save % keep:
        raise errors.UserError(
            f"KEEP_PERIOD = {keep}: checkpoints are saved at multiples of SAVE_PERIOD = {save}, so "
            f"most steps divisible by {keep} are never saved; make one a multiple of the other"
        )


def _default(name: str, source: str) -> Any:
    if name not in _defaults():
        raise errors.UserError(
            f"{source}: {name} is not set; set it in the model's gin file, or with "
            f"--set {name}=VALUE"
        )
    return _defaults()[name]


def macro_values(config: Config) -> dict[str, Any]:
    """The macros of a configuration; `load_operative` makes it of them again."""
    objects = {
        "Config": config,
        "ModelConfig": config.model,
        "NetworkConfig": config.model.network,
        "DataConfig": config.data,
        "TrainingConfig": config.training,
    }
    lengths = {"inputs": config.training.input_length, "targets": config.training.target_length}
    return {
        field.macro: lengths
        if field.field == "task_feature_lengths"
        else getattr(objects[field.owner], field.field)
        for field in macros.bindings()
    }


def _assemble(values: Mapping[str, Any]) -> Config:
    fields: dict[str, dict[str, Any]] = {cls.__name__: {} for cls in _CLASSES}
    for field in macros.bindings():
        fields[field.owner][field.field] = values[field.macro]
    training, model = fields["TrainingConfig"], fields["ModelConfig"]
    lengths = training.pop("task_feature_lengths")
    model |= {name: inside_package(model[name]) for name in ("checkpoint", "vocabulary")}
    return Config(
        model=ModelConfig(network=NetworkConfig(**fields["NetworkConfig"]), **model),
        data=DataConfig(**fields["DataConfig"]),
        training=TrainingConfig(
            input_length=lengths["inputs"], target_length=lengths["targets"], **training
        ),
        operative="".join(
            f"{name} = {pprint.pformat(value, width=10**6, sort_dicts=True)}\n"
            for name, value in values.items()
        ),
        **fields["Config"],
    )


def inside_package(path: str) -> str:
    """A path that begins with `package:`, in the installed package; another one as it is."""
    if not path.startswith(PACKAGE):
        return path
    return str(Path(__file__).resolve().parents[1] / path.removeprefix(PACKAGE))
