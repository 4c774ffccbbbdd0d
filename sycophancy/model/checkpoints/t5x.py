"""Reads T5X's checkpoints, in the legacy and the current format, without T5X.

In the legacy format, which all published Flan-T5 checkpoints have, `checkpoint_<step>/checkpoint`
is msgpack of `{"version": 3, "optimizer": {"target": ..., "state": ...}}`. A large array is stored
beside this file in zarr's format; in its place the file has a TensorStore spec with a path relative
to the folder. The current format stores the dict of `optimizer` as an Orbax tree under
`checkpoint_<step>/state`. Source: T5X at cc342d4, `t5x/checkpoints.py`.
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
from sycophancy.model.checkpoints.moments import MOMENTS
from sycophancy.model.parameters import ParameterTree

_MOST_STEPS = 2**31 - 1  # T5X counts in int32


def open_legacy(folder: epath.Path) -> Checkpoint:
    """Opens a checkpoint in the legacy format without reading its large arrays.

    Raises:
      UserError: the file is damaged or is a TensorFlow checkpoint.
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
        params = _legacy_arrays(target, folder)
        moments = _moments(_legacy_arrays(states, folder))
        steps = _step_of(_legacy_arrays(step, folder), folder)
    except UserError:
        raise
    except Exception as error:  # on other bytes, msgpack and flax raise errors of any class
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
    """Opens a checkpoint in the current format without reading its arrays.

    Raises:
      UserError: the checkpoint is damaged.
    """
    from sycophancy.model.checkpoints import trees

    stored = trees.read(folder / STATE)
    target, state = stored.get("target"), stored.get("state", {})
    if not (isinstance(target, Mapping) and isinstance(state, Mapping)):
        raise UserError(f"{folder / STATE} is not a T5X checkpoint: it lacks target or state")
    params = _as_float32(layout.flatten(target))
    states = state.get("param_states", {})
    return Checkpoint(
        source=str(folder),
        format="t5x",
        params=params,
        step=_step_of(state, folder),
        moments=_moments(
            _as_float32(layout.flatten(states if isinstance(states, Mapping) else {}))
        ),
    )


def tree(checkpoint: Checkpoint, step: int, moments: Mapping[str, LazyArray]) -> ParameterTree:
    """The tree that T5X's trainer restores: parameters, and Adafactor's state without momentum.

    Args:
      checkpoint: has the parameters.
      step: the training step from which T5X continues.
      moments: for every parameter, by the names that `Checkpoint.moments` uses; T5X requires them
        even if its first step overwrites them.

    Returns:
      The tree to store under `checkpoint_<step>/state`.
    """
    no_momentum = LazyArray((1,), lambda: np.zeros(1, np.float32))  # as T5X itself stores it
    states = dict(moments) | {f"{path}/m": no_momentum for path in checkpoint.params}
    return {
        "target": layout.unflatten(checkpoint.params),
        "state": {
            "step": np.asarray(step, np.int32),
            "param_states": layout.unflatten(states),
        },
    }


def _legacy_arrays(tree: Any, folder: epath.Path, prefix: str = "") -> dict[str, LazyArray]:
    """The arrays of a msgpack tree by path; a spec stands for an array that is stored in zarr."""
    if not isinstance(tree, Mapping):
        array = np.asarray(tree)
        return {prefix: LazyArray(array.shape, lambda: array, stored_as=array.dtype)}
    if {"driver", "kvstore"} <= tree.keys():
        return {prefix: zarr.lazy_array(tree, folder, prefix)}
    arrays: dict[str, LazyArray] = {}
    for name in sorted(tree):
        arrays |= _legacy_arrays(tree[name], folder, f"{prefix}/{name}" if prefix else name)
    return arrays


def _step_of(state: Mapping[str, Any], folder: epath.Path) -> int:
    """The step in a stored state, or else in the folder's name.

    Raises:
      UserError: the stored step is not a whole number in T5X's range.
    """
    if (stored := state.get("step")) is None:
        return step_in_name(folder) or 0
    step = np.asarray(stored)
    if step.size != 1 or not 0 <= step.item() <= _MOST_STEPS:
        raise UserError(f"{folder}: its step is not a number from 0 to {_MOST_STEPS:,}")
    return int(step.item())


def _as_float32(stored: Mapping[str, Any]) -> dict[str, LazyArray]:
    """Stored arrays as float32; an empty subtree, which is not an array, is left out."""
    return {
        path: LazyArray(value.shape, value.__array__, stored_as=value.dtype)
        for path, value in stored.items()
        if hasattr(value, "shape")
    }


def _moments(states: Mapping[str, LazyArray]) -> dict[str, LazyArray]:
    return {path: value for path, value in states.items() if path.rsplit("/", 1)[-1] in MOMENTS}
