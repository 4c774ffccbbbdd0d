"""What a run is told: frozen dataclasses, filled from gin macros at the edge."""

from __future__ import annotations

import dataclasses
import functools
import pprint
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sycophancy import errors, macros

ClaimMode = Literal["paper", "balanced"]
Sampling = Literal["uniform", "balanced"]


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Shape of a T5 1.1 encoder-decoder; gin macros carry the same names as T5X's."""

    vocab_size: int
    emb_dim: int
    num_heads: int
    num_encoder_layers: int
    num_decoder_layers: int
    head_dim: int
    mlp_dim: int
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    logits_via_embedding: bool = False
    dropout_rate: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"  # activations; parameters are float32
    remat_policy: Literal["none", "dots", "full"] = "none"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A checkpoint to start from: its name, its shape and where its files are."""

    name: str
    network: NetworkConfig
    checkpoint: str
    vocabulary: str
    pretrained_step: int = 0


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What `prepare` reads and how many rows it writes."""

    origin: Literal["hub", "mirror", "miniature"] = "miniature"
    mirror: str | None = None  # folder in the hub's layout, for origin "mirror"
    surveys: str | None = None  # folder of the three survey jsonl files; None: by origin
    instructions: str | None = None  # jsonl or parquet file; None: by origin
    data_sets: tuple[str, ...] = ()  # names of sources.SOURCES; empty means all 17
    num_examples: int = 100_000
    num_instructions: int = 20_000
    num_validation: int = 1_000  # rows of intervention and of instruction validation, each
    num_survey_items: int = 1_000  # per survey
    claim_mode: ClaimMode = "paper"
    sampling: Sampling = "uniform"
    opinions: bool = True  # whether the users of training rows say what they think of the claim
    on_bad_row: Literal["drop", "stop"] = "drop"  # leave bad rows out, up to a share, or refuse
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The finetuning recipe."""

    finetune_steps: int = 1_000
    batch_size: int = 32  # packed rows
    input_length: int = 512  # TASK_FEATURE_LENGTHS["inputs"], tokens
    target_length: int = 64  # TASK_FEATURE_LENGTHS["targets"], tokens
    packing: bool = True
    learning_rate: float = 5e-4
    dropout_rate: float = 0.05
    z_loss: float = 1e-4
    microbatches: int = 1
    mixture_or_task_name: str = "sycophancy_mix"
    mixture_ratio: tuple[float, float] = (5.0, 1.0)  # intervention : instruction tuning
    save_period: int = 250  # steps
    save_minutes: float | None = None  # saves at a logged step, too, when so long ago was the last
    keep_checkpoints: int | None = 1  # the latest so many; None: all
    keep_period: int | None = None  # and every one whose step this divides
    log_period: int = 20
    mesh: tuple[int, int, int] = (-1, 1, 1)  # data, fsdp, model; -1: the rest; (-1, -1, 1): auto
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Config:
    """One run, whole."""

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    filtration: bool
    recipe: str
    trainer: Literal["jax", "t5x"]  # our own, or the real T5X in a process of its own
    operative: str  # the gin macros of the run, as text that gin parses back to the same run


_CLASSES = (NetworkConfig, ModelConfig, DataConfig, TrainingConfig, Config)
_PACKAGE = "package:"  # a path that starts so lies inside the installed package
# Whole numbers of at least 1; numbers of at least 0.
_COUNTS = frozenset(
    """VOCAB_SIZE EMBED_DIM NUM_HEADS NUM_ENCODER_LAYERS NUM_DECODER_LAYERS HEAD_DIM MLP_DIM
    NUM_EXAMPLES NUM_INSTRUCTIONS NUM_VALIDATION NUM_SURVEY_ITEMS FINETUNE_STEPS BATCH_SIZE
    MICROBATCHES SAVE_PERIOD KEEP_CHECKPOINTS KEEP_PERIOD LOG_PERIOD""".split()
)
_RATES = frozenset(
    {"PRETRAINED_STEP", "SEED", "DROPOUT_RATE", "LEARNING_RATE", "Z_LOSS", "SAVE_MINUTES"}
)


@functools.cache
def macro_types() -> dict[str, Any]:
    """The type of every macro, from the dataclass field that `trainers/jax.gin` binds it to."""
    hints: dict[str, dict[str, Any]] = {
        cls.__name__: typing.get_type_hints(cls) for cls in _CLASSES
    }
    hints["TrainingConfig"]["task_feature_lengths"] = dict[str, int]
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
    from sycophancy.model import named  # which needs this module

    if named.is_checkpoint(model):
        of_model = named.settings(model)
    else:
        of_model = macros.read_file(macros.find("model", model))
    recipe_file = macros.find("recipe", recipe)
    settings = {
        "MODEL_NAME": macros.Setting(named.short_name(model), f"--model {model}"),
        **of_model,
        "RECIPE": macros.Setting(
            recipe_file.stem if recipe.endswith(".gin") else recipe, f"--recipe {recipe}"
        ),
        **macros.read_file(recipe_file),
    }
    return _build(_amend(settings, bindings, overrides), f"model {model} and recipe {recipe}")


def load_operative(
    text: str,
    source: str,
    bindings: Sequence[str] = (),
    overrides: Mapping[str, macros.Setting] | None = None,
) -> Config:
    """The configuration whose `operative` text this is, changed as the user says."""
    return _build(_amend(macros.read_text(text, source), bindings, overrides), source)


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
        try:
            values[name] = macros.convert(setting.value, annotation)
            _check(name, values[name])
        except (TypeError, ValueError) as error:
            raise errors.UserError(f"{setting.origin}: {name}: {error}") from None
    if values["BATCH_SIZE"] % values["MICROBATCHES"]:
        raise errors.UserError(
            f"MICROBATCHES = {values['MICROBATCHES']} does not divide "
            f"BATCH_SIZE = {values['BATCH_SIZE']}"
        )
    return _assemble(values)


def _default(name: str, source: str) -> Any:
    if name not in _defaults():
        raise errors.UserError(
            f"{source}: {name} is not set; set it in the model's gin file, or with "
            f"--set {name}=VALUE"
        )
    return _defaults()[name]


def _check(name: str, value: Any) -> None:
    least = 1 if name in _COUNTS else 0 if name in _RATES else None
    if None not in (least, value) and not value >= least:  # so written, it refuses nan too
        raise ValueError(f"expected at least {least}, got {value!r}")
    match name:
        case "DROPOUT_RATE" if value >= 1:
            raise ValueError(f"expected less than 1, got {value!r}")
        case "TASK_FEATURE_LENGTHS" if (
            set(value) != {"inputs", "targets"} or min(value.values()) < 1
        ):
            raise ValueError(f"expected {{'inputs': N, 'targets': M}}, got {value!r}")
        case "MIXTURE_RATIO" if min(value) < 0 or not 0 < sum(value) < float("inf"):
            raise ValueError(f"expected two rates, at least one of them positive, got {value!r}")
        case "MESH" if value != (-1, -1, 1) and (
            any(size < 1 and size != -1 for size in value) or value.count(-1) > 1
        ):
            raise ValueError(f"expected sizes of at least 1, one of them perhaps -1, got {value!r}")


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
    model |= {name: _inside_package(model[name]) for name in ("checkpoint", "vocabulary")}
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


def _inside_package(path: str) -> str:
    if not path.startswith(_PACKAGE):
        return path
    return str(Path(__file__).resolve().parent / path.removeprefix(_PACKAGE))
