"""Which folders are checkpoints, and which files of them count; told by names alone.

Nothing here imports JAX or Orbax, so that a run may ask before it computes a digest of anything.
"""

from __future__ import annotations

import re
from pathlib import Path

from etils import epath

from sycophancy.errors import UserError

# Hugging Face's files.
CONFIG, GENERATION, VOCABULARY = "config.json", "generation_config.json", "spiece.model"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Folders of ours, and T5X's: a file in its legacy format, a folder today.
PARAMS, STATE, METADATA = "params", "state", "metadata"
LEGACY_FILE, T5X_PREFIX = "checkpoint", "checkpoint_"

_T5X_STEP = re.compile(rf"{T5X_PREFIX}(\d{{1,18}})")
_OUR_STEP = re.compile(r"\d{1,18}", re.ASCII)
_SUPPORTED = (
    f"expected a T5 of Hugging Face ({CONFIG} with {WEIGHTS}), T5X ({T5X_PREFIX}<step>) or this "
    f"program ({PARAMS} and {METADATA})"
)
# Weights that are not read, by the ends of their names.
_OTHER_WEIGHTS = (".bin", ".pth", ".pt", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".distcp")


def is_ours(path: epath.PathLike) -> bool:
    """Whether `path` holds one of our checkpoints."""
    folder = epath.Path(path)
    return (folder / PARAMS).is_dir() and (folder / METADATA).is_dir()


def is_legacy(folder: epath.Path) -> bool:
    """Whether `folder` is one step in T5X's legacy format."""
    return (folder / LEGACY_FILE).exists() and not (folder / LEGACY_FILE).is_dir()


def is_current(folder: epath.Path) -> bool:
    """Whether `folder` is one step as T5X writes it today; ours have `params` beside `state`."""
    return (folder / STATE / "_METADATA").exists() and not (folder / PARAMS).exists()


def is_huggingface(folder: epath.Path) -> bool:
    """Whether `folder` is described by a config.json, or holds a PEFT adapter."""
    return (folder / CONFIG).exists()


def is_t5x(folder: epath.Path) -> bool:
    """Whether `folder` is one step of T5X's, in either format."""
    return is_legacy(folder) or is_current(folder)


def step_in_name(folder: epath.Path) -> int | None:
    """The step that a folder called `checkpoint_<step>` is named after."""
    match = _T5X_STEP.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def steps(folder: epath.Path) -> list[epath.Path]:
    """The complete steps inside a folder, the newest first: T5X's, else ours."""
    inside = list(folder.iterdir()) if folder.is_dir() else []
    theirs = {n: p for p in inside if (n := step_in_name(p)) is not None and is_t5x(p)}
    ours = {int(p.name): p for p in inside if _OUR_STEP.fullmatch(p.name) and is_ours(p)}
    found = theirs or ours
    return [found[step] for step in sorted(found, reverse=True)]


def find(folder: epath.Path) -> epath.Path:
    """The folder of one checkpoint: `folder` itself, or its newest complete step.

    Raises:
      UserError: neither is a checkpoint of a format that is read; says what it is instead.
    """
    try:
        if is_huggingface(folder) or is_ours(folder) or is_t5x(folder):
            return folder
        if found := steps(folder):
            return found[0]
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UserError(f"checkpoint {folder} cannot be read: {error.strerror or error}") from None
    raise UserError(f"{folder} is not a checkpoint: {_kind(folder, names) or _SUPPORTED}")


def parts(folder: epath.PathLike) -> list[Path]:
    """The files and folders inside a local folder that decide what its checkpoint is.

    Raises:
      UserError: it holds no checkpoint.
    """
    found = find(epath.Path(folder))
    if is_huggingface(found):
        files = [path for path in found.iterdir() if path.suffix == ".safetensors"]
        inside = [found / CONFIG, found / INDEX, *sorted(files)]
    else:
        inside = [found / name for name in (PARAMS, STATE, METADATA)] if is_ours(found) else [found]
    return [Path(path) for path in inside if path.exists()]


def refuse_other_models(folder: epath.Path) -> None:
    """Refuses a folder with a config.json whose weights are another model's or not read.

    Raises:
      UserError: says what the folder holds.
    """
    names = {path.name for path in folder.iterdir()}
    if kind := _kind(folder, names):
        raise UserError(f"{folder}: {kind}")


def _kind(folder: epath.Path, names: set[str]) -> str | None:
    """What a folder is that is no checkpoint of ours, with the way out."""
    if "adapter_config.json" in names:
        return (
            "a PEFT adapter, not a whole model; merge it into its base model "
            "(merge_and_unload, then save_pretrained) and name that folder"
        )
    if WEIGHTS in names or INDEX in names:
        return None if CONFIG in names else f"it has weights but no {CONFIG}; copy that beside them"
    trained = [name for name in names if re.fullmatch(r"checkpoint-\d{1,18}", name)]
    if trained:
        newest = max(trained, key=lambda name: int(name.rpartition("-")[2]))
        return (
            "the output folder of a transformers Trainer; name one of its checkpoints, such as "
            f"{folder / newest}"
        )
    shards = sorted(name for name in names if name.endswith(".safetensors"))
    if shards:
        return f"it has {shards[0]} but neither {WEIGHTS} nor {INDEX}; copy what is missing"
    others = sorted(name for name in names if name.endswith(_OTHER_WEIGHTS))
    if others:
        return (
            f"its weights ({others[0]}) are stored as pickle or in another form that is not read; "
            "load them with transformers and save_pretrained as safetensors"
        )
    return f"it has neither {WEIGHTS} nor {INDEX}" if CONFIG in names else None
