"""Makes the typed configuration of a run from a model, a recipe and flags."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

from sycophancy import errors
from sycophancy.config import bounds, conversion, macros
from sycophancy.config.bounds import Place
from sycophancy.config.conversion import Annotation, Value
from sycophancy.config.declarations import (
    GROUPS,
    NETWORK_SHAPE,
    declarations,
    macros_by_field,
)
from sycophancy.config.macros import Setting
from sycophancy.config.schema import (
    BATCH_TOKENS,
    Config,
    DataConfig,
    ModelConfig,
    NetworkConfig,
    TrainingConfig,
    inside_package,
)

SHAPE = frozenset(NETWORK_SHAPE.values())

# The tasks and mixtures of `tasks/` that have a training split.
_MIXTURE = re.compile(
    r"sycophancy_intervention|instruction_tuning|"
    r"sycophancy_mix(_(?!0+to0+$)[0-9]{1,6}to[0-9]{1,6})?"
)


@functools.cache
def macro_types() -> dict[str, Annotation]:
    """The type and limits of every macro."""
    return {macro: declared.annotation for macro, declared in declarations().items()}


def load_config(
    model: str,
    recipe: str,
    bindings: Sequence[str] = (),
    overrides: Mapping[str, Setting] | None = None,
) -> Config:
    """Loads the configuration of a run: a model's settings, a recipe's, then those of flags.

    Args:
        model: a shipped model's name, the path of a gin file, or a checkpoint: a folder, an
            address in a bucket, or `hf:owner/name`.
        recipe: a shipped recipe's name, or the path of a gin file.
        bindings: "MACRO=VALUE" each; they win over everything else.
        overrides: settings from other flags.

    Raises:
        UserError: a macro is unknown or a value does not fit; the message names the file and line
            or the flag.

    Example:
        >>> load_config("mini_base", "quick", ["BATCH_SIZE=4"]).training.batch_size
        4
    """
    return _build(resolve(model, recipe, bindings, overrides))


def resolve(
    model: str,
    recipe: str,
    bindings: Sequence[str] = (),
    overrides: Mapping[str, Setting] | None = None,
) -> dict[str, Setting]:
    """The checked value of every macro, and the place that set it; see `load_config`.

    Raises:
        UserError: as for `load_config`.
    """
    from sycophancy.model import references  # takes long to import

    bounds.check("--model", model, Place())
    if references.is_checkpoint(model):
        of_model = references.settings(model)
    else:
        of_model = macros.read_file(macros.find("model", model))
    recipe_file = macros.find("recipe", recipe)
    recipe_name = recipe_file.stem if recipe.endswith(".gin") else recipe
    settings = {
        "MODEL_NAME": Setting(references.short_name(model), f"--model {model}"),
        **of_model,
        "RECIPE": Setting(recipe_name, f"--recipe {recipe}"),
        **macros.read_file(recipe_file),
    }
    settings = _with_flags(settings, bindings, overrides)
    if "VOCABULARY" not in settings and references.is_checkpoint(model):
        raise errors.UserError(
            f"--model {model}: VOCABULARY is not set: there is no spiece.model, and no other form "
            "of a vocabulary (tokenizer.json) is read; give the SentencePiece model that it was "
            "trained with, as in --set VOCABULARY=FILE"
        )
    return _complete(settings, f"model {model} and recipe {recipe}")


def load_operative(
    text: str,
    source: str,
    bindings: Sequence[str] = (),
    overrides: Mapping[str, Setting] | None = None,
) -> Config:
    """Loads the configuration that a run's `config.gin` holds, changed by flags.

    Args:
        text: the text of the file.
        source: the file's name, for messages.
        bindings: as for `load_config`.
        overrides: as for `load_config`.

    Raises:
        UserError: as for `load_config`.
    """
    settings = _with_flags(macros.read_text(text, source), bindings, overrides)
    return _build(_complete(settings, source))


def check_flags(bindings: Sequence[str], overrides: Mapping[str, Setting]) -> None:
    """Checks each setting of flags alone, without the files of a model and a recipe.

    Raises:
        UserError: a macro is unknown or a value does not fit.
    """
    for name, setting in _with_flags({}, bindings, overrides).items():
        _check(name, setting)


def macro_values(config: Config) -> dict[str, Value]:
    """The value of every macro in a configuration, as gin writes it, but with absolute paths."""
    parts: dict[type, object] = {
        NetworkConfig: config.model.encoder_decoder,
        ModelConfig: config.model,
        DataConfig: config.data,
        TrainingConfig: config.training,
        Config: config,
    }
    values = {
        macro: conversion.plain(getattr(parts[owner], field))
        for owner in GROUPS.values()
        if parts[owner] is not None
        for field, macro in macros_by_field(owner).items()
    }
    return {macro: values[macro] for macro in declarations() if macro in values}


def _with_flags(
    settings: Mapping[str, Setting],
    bindings: Sequence[str],
    overrides: Mapping[str, Setting] | None,
) -> dict[str, Setting]:
    flags = dict(macros.read_flag(binding, macro_types()) for binding in bindings)
    return {**settings, **(overrides or {}), **flags}


def _complete(settings: Mapping[str, Setting], source: str) -> dict[str, Setting]:
    """Checks settings and adds the defaults of the others, in the order of `config.gin`."""
    known = declarations()
    for name, setting in settings.items():
        if name not in known:
            raise errors.UserError(
                f"{setting.origin}: unknown macro '{name}'{errors.did_you_mean(name, known)}"
            )
    complete = {}
    architecture = settings.get("ARCHITECTURE")
    for name, declared in known.items():
        if architecture and architecture.value == "decoder-only" and name in SHAPE:
            if name in settings:
                raise errors.UserError(
                    f"{settings[name].origin}: {name} is the shape of an encoder-decoder, but "
                    f"{architecture.origin} makes the model decoder-only"
                )
            continue
        if name not in settings and declared.is_required:
            raise errors.UserError(
                f"{source}: {name} is not set; set it in the model's gin file, or with "
                f"--set {name}=VALUE"
            )
        default = Setting(conversion.plain(declared.default), "the default")
        complete[name] = _check(name, settings.get(name, default))
    _check_data_sets(complete)
    _check_together({name: setting.value for name, setting in complete.items()})
    return complete


def _check(name: str, setting: Setting) -> Setting:
    """The setting with its value converted to the macro's type."""
    try:
        return Setting(conversion.convert(setting.value, macro_types()[name]), setting.origin)
    except (TypeError, ValueError) as error:
        raise errors.UserError(f"{setting.origin}: {name}: {error}") from None


def _check_data_sets(settings: Mapping[str, Setting]) -> None:
    """Refuses an unknown data set, unless a TOML file, which is read later, may describe it."""
    from sycophancy.data.catalog import SOURCES, choose

    if settings["DATA_SET_FILES"].value:
        return
    try:
        choose(settings["DATA_SETS"].value, SOURCES)
    except errors.UserError as error:
        raise errors.UserError(f"{settings['DATA_SETS'].origin}: {error}") from None


def _check_together(values: Mapping[str, Value]) -> None:
    """Refuses settings that fit alone but not together."""
    batch, parts, lengths = (
        values[name] for name in ("BATCH_SIZE", "MICROBATCHES", "TASK_FEATURE_LENGTHS")
    )
    if batch % parts:
        raise errors.UserError(f"MICROBATCHES = {parts} does not divide BATCH_SIZE = {batch}")
    if (tokens := batch * (lengths.inputs + lengths.targets)) > BATCH_TOKENS:
        raise errors.UserError(
            f"BATCH_SIZE = {batch} rows of TASK_FEATURE_LENGTHS = {conversion.plain(lengths)} are "
            f"{tokens:,} tokens a batch; at most {BATCH_TOKENS:,} can be held"
        )
    if values["FILTER_BALANCE"] and not values["FILTRATION"]:
        raise errors.UserError(
            "FILTER_BALANCE = True balances what FILTRATION keeps, but FILTRATION = False; "
            "balanced claims without filtration are CLAIM_MODE = 'balanced'"
        )
    mixture = values["MIXTURE_OR_TASK_NAME"]
    if values["TRAINER"] == "jax" and not _MIXTURE.fullmatch(mixture):  # T5X can load others
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


def _build(settings: Mapping[str, Setting]) -> Config:
    """The configuration of complete settings."""

    def fields(owner: type) -> dict[str, Value]:
        filled = macros_by_field(owner).items()
        return {field: settings[macro].value for field, macro in filled}

    of_model = fields(ModelConfig)
    of_model |= {name: inside_package(of_model[name]) for name in ("checkpoint", "vocabulary")}
    is_decoder = of_model["architecture"] == "decoder-only"
    network = None if is_decoder else NetworkConfig(**fields(NetworkConfig))
    if is_decoder:
        from sycophancy.model import references  # takes long to import

        of_model["shape_of"] = references.decoder_network
    return Config(
        model=ModelConfig(encoder_decoder=network, **of_model),
        data=DataConfig(**fields(DataConfig)),
        training=TrainingConfig(**fields(TrainingConfig)),
        operative="".join(
            f"{name} = {conversion.as_gin(setting.value)}\n" for name, setting in settings.items()
        ),
        **fields(Config),
    )
