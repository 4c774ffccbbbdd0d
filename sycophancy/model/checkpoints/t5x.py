"""T5X's checkpoints: the legacy format and today's, without T5X.

Legacy (all published Flan-T5 checkpoints): `checkpoint_<step>/checkpoint` is msgpack
`{"version": 3, "optimizer": {"target": ..., "state": ...}}`; large arrays lie beside it as zarr and
are TensorStore specs in it, with paths relative to the folder. Today's: the same tree, without the
envelope, under `checkpoint_<step>/state` as an Orbax tree. T5X at cc342d4, `t5x/checkpoints.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.checkpoints import layout, zarr
from sycophancy.model.checkpoints.checkpoint import Checkpoint
from sycophancy.model.checkpoints.folders import LEGACY_FILE, STATE, step_in_name
from sycophancy.model.checkpoints.lazy_array import LazyArray

MOMENTS = ("v_row", "v_col", "v")
_MOST_STEPS = 2**31 - 1  # T5X counts in int32


def open_legacy(folder: epath.Path) -> Checkpoint:
    """Looks at a checkpoint in the legacy format.

    Raises:
      UserError: it is damaged, TensorFlow's, or holds no T5.
    """
    from flax import serialization

    file = locations.inside(folder, LEGACY_FILE)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    locations.refuse_pointer(file, data)
    try:
        stored = serialization.msgpack_restore(data)
        optimizer = stored["optimizer"]
        target, state = optimizer["target"], optimizer.get("state", {})
        step, states = {"step": state.get("step", 0)}, state.get("param_states", {})
        params = _legacy_leaves(target, folder)
        moments = _moments(_legacy_leaves(states, folder))
        steps = _step_of(_legacy_leaves(step, folder), folder)
    except UserError:
        raise
    except Exception as error:  # what msgpack and flax raise on other bytes is anything
        kind = "a TensorFlow checkpoint" if data.startswith(b"model_checkpoint_path") else "damaged"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{file} is not a T5X checkpoint ({kind}: {reason}); name a checkpoint_<step> folder "
            "that T5X wrote"
        ) from None
    return Checkpoint(
        source=str(folder),
        format="t5x-legacy",
        params=params,
        step=steps,
        moments=moments,
        check_stored=lambda: zarr.check_complete(params, folder),
    )


def open_current(folder: epath.Path) -> Checkpoint:
    """Looks at a checkpoint as T5X writes it today.

    Raises:
      UserError: it is damaged.
    """
    from sycophancy.model.checkpoints import trees

    stored = trees.read(folder / STATE)
    target, state = stored.get("target"), stored.get("state", {})
    if not (isinstance(target, Mapping) and isinstance(state, Mapping)):
        raise UserError(f"{folder / STATE} is not a T5X checkpoint: it lacks target or state")
    params = _leafs(layout.flatten(target))
    states = state.get("param_states", {})
    return Checkpoint(
        source=str(folder),
        format="t5x",
        params=params,
        step=_step_of(state, folder),
        moments=_moments(_leafs(layout.flatten(states if isinstance(states, Mapping) else {}))),
    )


def tree(contents: Checkpoint, step: int, moments: Mapping[str, Any]) -> dict[str, Any]:
    """What T5X's trainer restores: parameters, and Adafactor's state without momentum.

    Args:
      contents: the parameters.
      step: the training step that T5X goes on from.
      moments: as in `Checkpoint`, for every parameter; T5X wants them even where it
        overwrites them.

    Returns:
      The tree that belongs under `checkpoint_<step>/state`.
    """
    none = LazyArray((1,), lambda: np.zeros(1, np.float32))  # T5X's own stand-in for no momentum
    states = dict(moments) | {f"{path}/m": none for path in contents.params}
    return {
        "target": layout.unflatten(contents.params),
        "state": {
            "step": np.asarray(step, np.int32),
            "param_states": layout.unflatten(states),
        },
    }


def _legacy_leaves(tree: Any, folder: epath.Path, prefix: str = "") -> dict[str, LazyArray]:
    """Leafs by path; a leaf is an array, or a TensorStore spec of one."""
    if not isinstance(tree, Mapping):
        array = np.asarray(tree)
        return {prefix: LazyArray(array.shape, lambda: array, stored_as=array.dtype)}
    if {"driver", "kvstore"} <= tree.keys():
        return {prefix: zarr.leaf(tree, folder, prefix)}
    found: dict[str, LazyArray] = {}
    for name in sorted(tree):
        found |= _legacy_leaves(tree[name], folder, f"{prefix}/{name}" if prefix else name)
    return found


def _step_of(state: Mapping[str, Any], folder: epath.Path) -> int:
    if (stored := state.get("step")) is None:
        return step_in_name(folder) or 0
    step = np.asarray(stored)
    if step.size != 1 or not 0 <= step.item() <= _MOST_STEPS:
        raise UserError(f"{folder}: its step is not a number from 0 to {_MOST_STEPS:,}")
    return int(step.item())


def _leafs(found: Mapping[str, Any]) -> dict[str, LazyArray]:
    """Float32 Leafs of stored ones; what is not an array (an empty subtree) is left out."""
    return {
        path: LazyArray(value.shape, value.__array__, stored_as=value.dtype)
        for path, value in found.items()
        if hasattr(value, "shape")
    }


def _moments(states: Mapping[str, LazyArray]) -> dict[str, LazyArray]:
    return {path: value for path, value in states.items() if path.rsplit("/", 1)[-1] in MOMENTS}
