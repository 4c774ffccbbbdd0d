"""Converts between the network's stacked layers and T5X's layout with one subtree for each layer.

The network holds `encoder/layers/attention/query/kernel` of shape (layers, embed, joined_kv). T5X's
checkpoints, and all others, hold `encoder/layers_0/attention/query/kernel` of shape
(embed, joined_kv). Only this module knows both layouts.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from sycophancy.errors import UserError
from sycophancy.model.checkpoints import lazy_array
from sycophancy.model.checkpoints.lazy_array import LazyArray
from sycophancy.model.parameters import ParameterTree

LAYERS = "layers"
SHOWN = 3  # an error names at most this many names
_LAYER = re.compile(rf"{LAYERS}_(\d+)")

Tree: TypeAlias = Mapping[str, Any]  # like `ParameterTree`, and not to be changed


def is_stacked(path: str) -> bool:
    """Whether the parameter at `path`, such as `encoder/layers/...`, has a leading layer axis."""
    return LAYERS in path.split("/")


def unstack(params: Tree) -> ParameterTree:
    """The network's tree in T5X's layout; its arrays are views of those of `params`.

    The arrays may be `LazyArray`s, here and in `stack`.

    >>> import numpy as np
    >>> tree = {"encoder": {"layers": {"scale": np.ones((2, 4))}, "norm": np.ones(4)}}
    >>> sorted(unstack(tree)["encoder"])
    ['layers_0', 'layers_1', 'norm']
    """
    unstacked: ParameterTree = {}
    for name, value in params.items():
        if name == LAYERS:
            depth = next(iter(flatten(value).values())).shape[0]
            for layer in range(depth):
                unstacked[f"{LAYERS}_{layer}"] = _map(operator.itemgetter(layer), value)
        else:
            unstacked[name] = unstack(value) if isinstance(value, Mapping) else value
    return unstacked


def stack(params: Tree) -> ParameterTree:
    """The network's tree from T5X's layout; arrays are copied, `LazyArray`s stay unread.

    >>> import numpy as np
    >>> tree = {"layers_1": {"scale": np.ones(4)}, "layers_0": {"scale": np.zeros(4)}}
    >>> stack(tree)["layers"]["scale"].tolist()
    [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]

    Raises:
      UserError: a layer is missing, or layers differ in names or shapes.
    """
    stacked: ParameterTree = {}
    layers: dict[int, dict[str, Any]] = {}
    for name, value in params.items():
        match = _LAYER.fullmatch(name)
        if match:
            layers[int(match.group(1))] = flatten(value)
        else:
            stacked[name] = stack(value) if isinstance(value, Mapping) else value
    if layers:
        stacked[LAYERS] = unflatten(_stack_layers(layers))
    return stacked


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """The arrays of a tree by `/`-joined path, sorted by name at every level."""
    arrays: dict[str, Any] = {}
    for name in sorted(tree):
        path = f"{prefix}/{name}" if prefix else name
        value = tree[name]
        arrays |= flatten(value, path) if isinstance(value, Mapping) else {path: value}
    return arrays


def unflatten(arrays: Mapping[str, Any]) -> ParameterTree:
    """The inverse of `flatten`."""
    tree: ParameterTree = {}
    for path, value in arrays.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


def check_shapes(stored: Tree, expected: Tree, source: str) -> None:
    """Refuses parameters of another model.

    Args:
      stored: the tree of a checkpoint; its arrays have `shape`.
      expected: the network's tree in the same layout; its arrays have `shape`.
      source: the checkpoint, for the message.

    Raises:
      UserError: names or shapes differ; the message has the first few of them, with both shapes.
    """
    have = {path: tuple(value.shape) for path, value in flatten(stored).items()}
    want = {path: tuple(value.shape) for path, value in flatten(expected).items()}
    different = [
        path for path in sorted(have.keys() | want.keys()) if have.get(path) != want.get(path)
    ]
    if different:
        shown = "; ".join(
            f"{path} is {have.get(path, 'missing')} in the checkpoint, "
            f"{want.get(path, 'missing')} in the model"
            for path in different[:SHOWN]
        )
        more = len(different) - SHOWN
        rest = f"; and {more} more of {len(want)} parameters" if more > 0 else ""
        raise UserError(
            f"{source} does not fit the model: {shown}{rest}; name the model file of this "
            "checkpoint's size"
        )


def some(names: Sequence[str]) -> str:
    """The first few of some names, and how many more there are; for messages."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def transposed(array: LazyArray | np.ndarray) -> LazyArray | np.ndarray:
    """The transpose of a host array, of a device array (copied to the host) or of a `LazyArray`."""
    return array.transposed() if isinstance(array, LazyArray) else np.asarray(array).T


def lazy(shapes: Tree) -> ParameterTree:
    """A tree of `jax.ShapeDtypeStruct`s as `LazyArray`s that are never read.

    Layers can be taken from a `LazyArray`, but not from a shape.
    """
    return unflatten(
        {
            path: LazyArray(shape.shape, lambda: (), dtype=shape.dtype)
            for path, shape in flatten(shapes).items()
        }
    )


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Applies a function to every array of a tree."""
    if isinstance(tree, Mapping):
        return {name: _map(function, value) for name, value in tree.items()}
    return function(tree)


def _stack_layers(layers: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The arrays of all layers, stacked by path.

    Raises:
      UserError: a layer is missing, or differs from the first one in names or shapes.
    """
    depth = max(layers) + 1
    first = min(layers)
    shapes = {path: tuple(part.shape) for path, part in layers[first].items()}
    for layer in range(depth):
        if layer not in layers:
            raise UserError(f"the checkpoint has {LAYERS}_{depth - 1} but no {LAYERS}_{layer}")
        for path in sorted(shapes.keys() | layers[layer].keys()):
            part = layers[layer].get(path)
            if part is None or tuple(part.shape) != shapes.get(path):
                shape = "missing" if part is None else tuple(part.shape)
                raise UserError(
                    f"{LAYERS}_{layer}/{path} is {shape}, "
                    f"in {LAYERS}_{first} it is {shapes.get(path, 'missing')}"
                )
    return {path: lazy_array.stack([layers[i][path] for i in range(depth)]) for path in shapes}
