"""T5X's checkpoints: the legacy format and today's, without T5X.

Legacy (all published Flan-T5 checkpoints): `checkpoint_<step>/checkpoint` is msgpack
`{"version": 3, "optimizer": {"target": ..., "state": ...}}`; large arrays lie beside it as zarr and
are TensorStore specs in it, with paths relative to the folder. Today's: the same tree, without the
envelope, under `checkpoint_<step>/state` as an Orbax tree. T5X at cc342d4, `t5x/checkpoints.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from sycophancy.errors import UserError
from sycophancy.model.checkpoints import layout
from sycophancy.model.checkpoints.contents import Contents
from sycophancy.model.checkpoints.leaf import Leaf

FILE, STATE = "checkpoint", "state"
PREFIX = "checkpoint_"
MOMENTS = ("v_row", "v_col", "v")
_STEP = re.compile(rf"{PREFIX}(\d+)")
_CLOUD = {"gs": "gcs", "s3": "s3"}  # TensorStore's drivers by the scheme of an address


def is_legacy(folder: epath.Path) -> bool:
    """Whether `folder` is one step in the legacy format."""
    return (folder / FILE).exists() and not (folder / FILE).is_dir()


def is_current(folder: epath.Path) -> bool:
    """Whether `folder` is one step as T5X writes it today; ours have `params` beside `state`."""
    return (folder / STATE / "_METADATA").exists() and not (folder / "params").exists()


def latest(folder: epath.Path) -> epath.Path | None:
    """The `checkpoint_<step>` of the highest step inside `folder` that is complete."""
    steps = {
        int(match.group(1)): path
        for path in folder.iterdir()
        if (match := _STEP.fullmatch(path.name)) and (is_legacy(path) or is_current(path))
    }
    return steps[max(steps)] if steps else None


def open_legacy(folder: epath.Path) -> Contents:
    """Looks at a checkpoint in the legacy format.

    Raises:
      UserError: it is damaged, TensorFlow's, or holds no T5.
    """
    from flax import serialization

    file = folder / FILE
    data = file.read_bytes()
    try:
        stored = serialization.msgpack_restore(data)
        optimizer = stored["optimizer"]
        target = optimizer["target"]
    except (ValueError, KeyError, TypeError) as error:  # msgpack's own are ValueErrors
        kind = "a TensorFlow checkpoint" if data.startswith(b"model_checkpoint_path") else "damaged"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{file} is not a T5X checkpoint ({kind}: {reason}); name a checkpoint_<step> folder "
            "that T5X wrote"
        ) from None
    state = optimizer.get("state", {})
    return Contents(
        source=str(folder),
        format="t5x-legacy",
        params=_legacy_leaves(target, folder),
        step=_step_of(_legacy_leaves({"step": state.get("step", 0)}, folder), folder),
        moments=_moments(_legacy_leaves(state.get("param_states", {}), folder)),
    )


def open_current(folder: epath.Path) -> Contents:
    """Looks at a checkpoint as T5X writes it today.

    Raises:
      UserError: it is damaged.
    """
    from sycophancy.model.checkpoints import trees

    stored = trees.read(folder / STATE)
    state = stored.get("state", {})
    return Contents(
        source=str(folder),
        format="t5x",
        params=_leafs(layout.flatten(stored.get("target", {}))),
        step=_step_of(state, folder),
        moments=_moments(_leafs(layout.flatten(state.get("param_states", {})))),
    )


def step_in_name(folder: epath.Path) -> int | None:
    """The step that a folder called `checkpoint_<step>` is named after."""
    match = _STEP.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def tree(contents: Contents, step: int, moments: Mapping[str, Any]) -> dict[str, Any]:
    """What T5X's trainer restores: parameters, and Adafactor's state without momentum.

    Args:
      contents: the parameters.
      step: the training step that T5X goes on from.
      moments: as in `Contents`, for every parameter; T5X wants them even where it overwrites them.

    Returns:
      The tree that belongs under `checkpoint_<step>/state`.
    """
    none = Leaf((1,), lambda: np.zeros(1, np.float32))  # T5X's own stand-in for no momentum
    states = dict(moments) | {f"{path}/m": none for path in contents.params}
    return {
        "target": layout.unflatten(contents.params),
        "state": {
            "step": np.asarray(step, np.int32),
            "param_states": layout.unflatten(states),
        },
    }


def _legacy_leaves(tree: Any, folder: epath.Path, prefix: str = "") -> dict[str, Leaf]:
    """Leafs by path; a leaf is an array, or a TensorStore spec of one."""
    if not isinstance(tree, Mapping):
        array = np.asarray(tree)
        return {prefix: Leaf(array.shape, lambda: array)}
    if {"driver", "kvstore"} <= tree.keys():
        return {prefix: _open_zarr(tree, folder, prefix)}
    found: dict[str, Leaf] = {}
    for name in sorted(tree):
        found |= _legacy_leaves(tree[name], folder, f"{prefix}/{name}" if prefix else name)
    return found


def _open_zarr(spec: Mapping[str, Any], folder: epath.Path, name: str) -> Leaf:
    import tensorstore as ts

    # Old specs say the path beside the store, newer ones inside it; never the true bucket.
    relative = str(spec.get("path") or spec["kvstore"].get("path", ""))
    metadata = spec.get("metadata", {})
    address = kvstore(folder / relative)

    def read() -> Any:
        try:
            return (
                ts.open({"driver": "zarr", "kvstore": address}, open=True).result().read().result()
            )
        except (ValueError, OSError) as error:
            raise UserError(
                f"{folder}: {name} cannot be read from {relative}: {str(error).splitlines()[0]}"
            ) from None

    if "shape" in metadata:
        return Leaf(metadata["shape"], read)
    try:
        opened = ts.open({"driver": "zarr", "kvstore": address}, open=True).result()
    except (ValueError, OSError) as error:
        raise UserError(
            f"{folder}: {name} is missing at {relative}: {str(error).splitlines()[0]}"
        ) from None
    return Leaf(opened.shape, read)


def kvstore(path: epath.PathLike) -> dict[str, str]:
    """TensorStore's key-value store for a folder, local or in a bucket.

    >>> kvstore("gs://bucket/some/folder")
    {'driver': 'gcs', 'bucket': 'bucket', 'path': 'some/folder/'}
    """
    address = str(path)
    scheme, separator, rest = address.partition("://")
    if not separator:
        return {"driver": "file", "path": f"{epath.Path(path).expanduser().resolve()}/"}
    if scheme not in _CLOUD:
        raise UserError(f"{address}: only local folders, gs:// and s3:// can be read")
    bucket, _, inside = rest.partition("/")
    return {"driver": _CLOUD[scheme], "bucket": bucket, "path": f"{inside.rstrip('/')}/"}


def _step_of(state: Mapping[str, Any], folder: epath.Path) -> int:
    if (step := state.get("step")) is not None:
        return int(np.asarray(step))
    return step_in_name(folder) or 0


def _leafs(found: Mapping[str, Any]) -> dict[str, Leaf]:
    """Float32 Leafs of stored ones; what is not an array (an empty subtree) is left out."""
    return {
        path: Leaf(value.shape, value.__array__)
        for path, value in found.items()
        if hasattr(value, "shape")
    }


def _moments(states: Mapping[str, Leaf]) -> dict[str, Leaf]:
    return {path: value for path, value in states.items() if path.rsplit("/", 1)[-1] in MOMENTS}
