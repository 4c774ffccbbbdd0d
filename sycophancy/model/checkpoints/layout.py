"""Between the network's stacked layers and T5X's one subtree a layer.

The network holds `encoder/layers/attention/query/kernel` of shape (layers, embed, joined_kv); T5X,
and everything outside, holds `encoder/layers_0/attention/query/kernel` of shape (embed, joined_kv).
Only this module knows.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from sycophancy.errors import UserError
from sycophancy.model.checkpoints import lazy_array

LAYERS = "layers"
SHOWN = 3  # so many differences are named
_LAYER = re.compile(rf"{LAYERS}_(\d+)")

Tree = Mapping[str, Any]


def is_stacked(path: str) -> bool:
    """Whether the parameter at `encoder/layers/...` carries a leading layer axis."""
    return LAYERS in path.split("/")


def unstack(params: Tree) -> dict[str, Any]:
    """The network's tree in T5X's layout; leaves are views of `params`' leaves.

    Leaves are arrays or `LazyArray`s, here and in `stack`.

    >>> import numpy as np
    >>> tree = {"encoder": {"layers": {"scale": np.ones((2, 4))}, "norm": np.ones(4)}}
    >>> sorted(unstack(tree)["encoder"])
    ['layers_0', 'layers_1', 'norm']
    """
    found: dict[str, Any] = {}
    for name, value in params.items():
        if name == LAYERS:
            depth = next(iter(flatten(value).values())).shape[0]
            for layer in range(depth):
                found[f"{LAYERS}_{layer}"] = _map(operator.itemgetter(layer), value)
        else:
            found[name] = unstack(value) if isinstance(value, Mapping) else value
    return found


def stack(params: Tree) -> dict[str, Any]:
    """T5X's layout as the network's tree; arrays are copied, `LazyArray`s stay unread.

    >>> import numpy as np
    >>> tree = {"layers_1": {"scale": np.ones(4)}, "layers_0": {"scale": np.zeros(4)}}
    >>> stack(tree)["layers"]["scale"].tolist()
    [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]

    Raises:
      UserError: a layer is missing, or layers differ in names or shapes.
    """
    found: dict[str, Any] = {}
    layers: dict[int, dict[str, Any]] = {}
    for name, value in params.items():
        match = _LAYER.fullmatch(name)
        if match:
            layers[int(match.group(1))] = flatten(value)
        else:
            found[name] = stack(value) if isinstance(value, Mapping) else value
    if layers:
        found[LAYERS] = unflatten(_stack_layers(layers))
    return found


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Leaves by `/`-joined path, sorted by path at every level."""
    found: dict[str, Any] = {}
    for name in sorted(tree):
        path = f"{prefix}/{name}" if prefix else name
        value = tree[name]
        found |= flatten(value, path) if isinstance(value, Mapping) else {path: value}
    return found


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


def check_shapes(found: Tree, expected: Tree, source: str) -> None:
    """Refuses parameters of another model.

    Args:
      found: what a checkpoint holds; leaves have `shape`.
      expected: what the network asks for, in the same layout; leaves have `shape`.
      source: the checkpoint, for the message.

    Raises:
      UserError: names or shapes differ; names the first few that do, with both shapes.
    """
    have = {path: tuple(value.shape) for path, value in flatten(found).items()}
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


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _map(function, value) for name, value in tree.items()}
    return function(tree)


def _stack_layers(layers: dict[int, dict[str, Any]]) -> dict[str, Any]:
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
