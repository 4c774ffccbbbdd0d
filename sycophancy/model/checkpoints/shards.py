"""Writes tensors as safetensors: one file, or several of limited size with an index."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from etils import epath

from sycophancy.model.checkpoints.folders import INDEX, WEIGHTS
from sycophancy.system.paths import is_address

if TYPE_CHECKING:
    from sycophancy.model.checkpoints.lazy_array import LazyArray

SHARD = "model-{:05d}-of-{:05d}.safetensors"
SHARD_BYTES = 2 * 10**9
_WIDTH = 4  # bytes of a number; all tensors are written as float32


def write(
    folder: epath.Path,
    tensors: Mapping[str, LazyArray | np.ndarray],
    report: Callable[[int], None] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes tensors as float32, in the order of their names; memory holds those of one file.

    Args:
      folder: exists.
      tensors: by their names in the files.
      report: called with the number of bytes of each file's tensors after they were written.
      shard_bytes: the most bytes of tensors in a file, unless one tensor alone has more.
    """
    import safetensors.numpy

    shards = _shards(tensors, shard_bytes)
    placed: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = WEIGHTS if len(shards) == 1 else SHARD.format(number, len(shards))
        arrays = {name: np.ascontiguousarray(tensors[name], np.float32) for name in names}
        if is_address(folder):
            (folder / file).write_bytes(safetensors.numpy.save(arrays, {"format": "pt"}))
        else:
            safetensors.numpy.save_file(arrays, str(folder / file), {"format": "pt"})
        placed |= dict.fromkeys(names, file)
        if report:
            report(sum(array.nbytes for array in arrays.values()))
    if len(shards) > 1:
        total = sum(map(_nbytes, tensors.values()))
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _shards(tensors: Mapping[str, LazyArray | np.ndarray], shard_bytes: int) -> list[list[str]]:
    """The names of each file's tensors."""
    shards: list[list[str]] = [[]]
    size = 0
    for name in sorted(tensors):
        nbytes = _nbytes(tensors[name])
        if shards[-1] and size + nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
    return shards


def _nbytes(tensor: LazyArray | np.ndarray) -> int:
    return _WIDTH * math.prod(tensor.shape)
