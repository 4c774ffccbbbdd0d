"""Recognises a folder's checkpoint format by the names of its files.

This module imports neither JAX nor Orbax, so that a run can find the files of its checkpoint, and
compute their digests, quickly.
"""

from __future__ import annotations

import re
from pathlib import Path

from etils import epath

from sycophancy.errors import UserError

# The files of a Hugging Face folder.
CONFIG, GENERATION, VOCABULARY = "config.json", "generation_config.json", "spiece.model"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# The folders of this package's checkpoints; T5X's legacy file, and the start of its folders' names.
PARAMS, STATE, METADATA = "params", "state", "metadata"
LEGACY_FILE, T5X_PREFIX = "checkpoint", "checkpoint_"

_T5X_STEP = re.compile(rf"{T5X_PREFIX}(\d{{1,18}})")
_OUR_STEP = re.compile(r"\d{1,18}", re.ASCII)
_SUPPORTED = (
    f"expected a T5 of Hugging Face ({CONFIG} with {WEIGHTS}), T5X ({T5X_PREFIX}<step>) or this "
    f"program ({PARAMS} and {METADATA})"
)
# Suffixes of files with weights in forms that are not read.
_OTHER_WEIGHTS = (".bin", ".pth", ".pt", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".distcp")


def is_ours(path: epath.PathLike) -> bool:
    """Whether `path` is a checkpoint that this package wrote."""
    folder = epath.Path(path)
    return (folder / PARAMS).is_dir() and (folder / METADATA).is_dir()


def is_legacy(folder: epath.Path) -> bool:
    """Whether `folder` is a T5X checkpoint in the legacy format."""
    return (folder / LEGACY_FILE).exists() and not (folder / LEGACY_FILE).is_dir()


def is_current(folder: epath.Path) -> bool:
    """Whether `folder` is a T5X checkpoint in the current format.

    This package's checkpoints have the folder `state` too, and `params` beside it.
    """
    return (folder / STATE / "_METADATA").exists() and not (folder / PARAMS).exists()


def is_huggingface(folder: epath.Path) -> bool:
    """Whether `folder` has a config.json."""
    return (folder / CONFIG).exists()


def is_t5x(folder: epath.Path) -> bool:
    """Whether `folder` is a T5X checkpoint, in either format."""
    return is_legacy(folder) or is_current(folder)


def step_in_name(folder: epath.Path) -> int | None:
    """The step in the name of a folder called `checkpoint_<step>`; None for another name."""
    match = _T5X_STEP.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def steps(folder: epath.Path) -> list[epath.Path]:
    """The complete checkpoints inside a folder, newest first: T5X's if there are any, else ours."""
    inside = list(folder.iterdir()) if folder.is_dir() else []
    theirs = {n: p for p in inside if (n := step_in_name(p)) is not None and is_t5x(p)}
    ours = {int(p.name): p for p in inside if _OUR_STEP.fullmatch(p.name) and is_ours(p)}
    by_step = theirs or ours
    return [by_step[step] for step in sorted(by_step, reverse=True)]


def find(folder: epath.Path) -> epath.Path:
    """The folder of a checkpoint: `folder` itself, or its newest complete step.

    Raises:
      UserError: there is no checkpoint in a format that is read; the message says what there is.
    """
    try:
        if is_huggingface(folder) or is_ours(folder) or is_t5x(folder):
            return folder
        if inside := steps(folder):
            return inside[0]
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UserError(f"checkpoint {folder} cannot be read: {error.strerror or error}") from None
    raise UserError(f"{folder} is not a checkpoint: {_kind(folder, names) or _SUPPORTED}")


def parts(folder: epath.PathLike) -> list[Path]:
    """The files and folders of a local folder that decide its checkpoint's contents.

    Raises:
      UserError: the folder holds no checkpoint.
    """
    checkpoint = find(epath.Path(folder))
    if is_huggingface(checkpoint):
        files = [path for path in checkpoint.iterdir() if path.suffix == ".safetensors"]
        inside = [checkpoint / CONFIG, checkpoint / INDEX, *sorted(files)]
    elif is_ours(checkpoint):
        inside = [checkpoint / name for name in (PARAMS, STATE, METADATA)]
    else:
        inside = [checkpoint]
    return [Path(path) for path in inside if path.exists()]


def refuse_other_models(folder: epath.Path) -> None:
    """Refuses a folder with a config.json whose weights are an adapter's or in another form.

    Raises:
      UserError: the message says what the folder holds.
    """
    names = {path.name for path in folder.iterdir()}
    if kind := _kind(folder, names):
        raise UserError(f"{folder}: {kind}")


def _kind(folder: epath.Path, names: set[str]) -> str | None:
    """What a folder holds instead of weights that are read, and what to do; None if they are."""
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
