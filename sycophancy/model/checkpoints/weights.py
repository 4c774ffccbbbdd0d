"""Finds the tensors in a folder of safetensors files, and checks the files before they are read."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from etils import epath

from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.checkpoints.folders import INDEX, WEIGHTS
from sycophancy.model.checkpoints.lazy_array import LazyArray
from sycophancy.system.paths import is_address

if TYPE_CHECKING:
    import safetensors

# The size in bytes of each dtype that is read; other dtypes (integers, float8) are quantized.
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_MOST_HEADER = 100 * 2**20  # bytes, as in the safetensors library
_BLOCK = 64 * 2**20  # bytes of two tensors that are compared at a time


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor in a safetensors file.

    Attributes:
      file: the file that holds it.
      name: its name in the file.
      dtype: its dtype as the format names it, such as `BF16`.
      shape: its shape.
      start: the position of its first byte in the file.
    """

    file: epath.Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _BYTES[self.dtype]

    def lazy(self) -> LazyArray:
        """The tensor as an unread float32 array."""
        return LazyArray(self.shape, self._read)

    def _read(self) -> np.ndarray:
        with _opened(self.file) as opened:
            values: np.ndarray = opened.get_tensor(self.name)
            return values

    def equals(self, other: Tensor) -> bool:
        """Whether both tensors hold the same numbers. Reads them block by block."""
        if self.shape != other.shape:
            return False
        if self.dtype != other.dtype:
            return np.array_equal(np.asarray(self.lazy()), np.asarray(other.lazy()))
        with open(self.file, "rb") as mine, open(other.file, "rb") as theirs:  # noqa: PTH123
            mine.seek(self.start)
            theirs.seek(other.start)
            for done in range(0, self.nbytes, _BLOCK):
                size = min(_BLOCK, self.nbytes - done)
                if mine.read(size) != theirs.read(size):
                    return False
        return True


def find(folder: epath.Path) -> dict[str, Tensor]:
    """The tensors of a folder by name, from one file or from several that an index names.

    Raises:
      UserError: a file is missing or damaged, two files disagree, or weights are quantized.
    """
    indexed = (folder / INDEX).exists()
    if indexed and (folder / WEIGHTS).exists():
        return _read_both(folder)
    return _read_index(folder) if indexed else _tensors(locations.inside(folder, WEIGHTS))


def _read_both(folder: epath.Path) -> dict[str, Tensor]:
    """The tensors of a folder that has both a single file and an index.

    Raises:
      UserError: the index names other tensors, or tensors with other numbers.
    """
    whole = _tensors(locations.inside(folder, WEIGHTS))
    try:
        parts = _read_index(folder)
        reason = "they hold other weights"
    except UserError as error:
        parts, reason = {}, str(error)
    if whole.keys() != parts.keys() or not _are_equal(
        tuple((tensor, parts[name]) for name, tensor in whole.items()),
        _modification_times(whole, parts),
    ):
        raise UserError(
            f"{folder} has {WEIGHTS} and {INDEX}, and the two disagree ({reason}); "
            "remove the one that is out of date"
        )
    return whole


def _modification_times(*groups: Mapping[str, Tensor]) -> tuple[int, ...]:
    files = sorted({str(tensor.file) for tensors in groups for tensor in tensors.values()})
    return tuple(Path(file).stat().st_mtime_ns for file in files)


@functools.lru_cache(maxsize=8)  # a run opens its checkpoint several times
def _are_equal(pairs: tuple[tuple[Tensor, Tensor], ...], times: tuple[int, ...]) -> bool:
    """Whether the tensors of every pair are equal; files of other `times` are compared again."""
    return all(first.equals(second) for first, second in pairs)


def _read_index(folder: epath.Path) -> dict[str, Tensor]:
    """The tensors of all files that a folder's index names.

    Raises:
      UserError: the index is damaged, or does not agree with the files.
    """
    index = folder / INDEX
    try:
        placed = read_json(folder, INDEX)["weight_map"]
    except KeyError as error:
        raise UserError(f"{index} cannot be read: {error} is missing") from None
    if not (isinstance(placed, dict) and placed):
        raise UserError(f"{index}: weight_map is not a mapping of tensors to files")
    for name, file in placed.items():
        if not isinstance(file, str) or not file.endswith(".safetensors"):
            raise UserError(f"{index}: {file!r} of {name} is not the name of a safetensors file")
    all_tensors: dict[str, Tensor] = {}
    for file in sorted(set(placed.values())):
        tensors = _tensors(locations.inside(folder, file))
        indexed = {name for name, value in placed.items() if value == file}
        for name in sorted(indexed ^ tensors.keys()):
            lacks = "lacks" if name in indexed else "holds"
            says = "says is" if name in indexed else "does not say is"
            raise UserError(f"{folder / file} {lacks} {name}, which {INDEX} {says} in it")
        all_tensors |= tensors
    return all_tensors


def read_json(folder: epath.Path, name: str) -> dict[str, Any]:
    """Reads a small JSON file of a model's folder.

    Raises:
      UserError: the file is missing or damaged, or does not hold an object.
    """
    try:
        return _object(locations.read_small(locations.inside(folder, name)), folder / name)
    except FileNotFoundError:
        raise UserError(f"{folder / name} is missing; copy the folder again") from None


def _object(data: bytes, file: epath.PathLike) -> dict[str, Any]:
    """Decodes JSON that must be an object without repeated names.

    Raises:
      UserError: it is not.
    """
    try:
        decoded = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file} cannot be read: {reason}; copy it again") from None
    if not isinstance(decoded, dict):
        raise UserError(f"{file} cannot be read: expected a JSON object; copy it again")
    return decoded


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; json itself would keep the last of two values of one name.

    Raises:
      ValueError: a name is repeated.
    """
    decoded = dict(pairs)
    if len(decoded) < len(pairs):
        ((twice, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice!r} stands in it twice")
    return decoded


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _tensors(file: epath.Path) -> dict[str, Tensor]:
    """The tensors of one file, from its header.

    Raises:
      UserError: the file is damaged, or its size is not the one that the header implies.
    """
    path = _on_disk(file)
    try:
        with open(path, "rb") as opened:  # noqa: PTH123
            size = os.fstat(opened.fileno()).st_size
            start = opened.read(256)
            locations.refuse_pointer(file, start)
            length = int.from_bytes(start[:8], "little")
            if len(start) < 8 or not 2 <= length <= min(_MOST_HEADER, size - 8):
                raise _damaged(file, "it is cut short, or no safetensors file")
            opened.seek(8)
            header = _object(opened.read(length), file)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    header.pop("__metadata__", None)
    tensors = {name: _tensor(file, name, entry, 8 + length) for name, entry in header.items()}
    end = 8 + length
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.nbytes)):
        if tensor.start != end:
            raise _damaged(file, f"{tensor.name} does not begin where the tensor before it ends")
        end += tensor.nbytes
    if end != size:
        raise _damaged(file, f"it has {size:,} bytes, its header says {end:,}")
    with _opened(file):  # which runs the library's own checks
        return tensors


def _tensor(file: epath.Path, name: str, entry: Any, data_start: int) -> Tensor:
    """One tensor, from its entry in the header.

    Raises:
      UserError: the entry is damaged, or its dtype is not read.
    """
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, start, end]
        if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
            raise ValueError(name)
        known = isinstance(dtype, str) and dtype in _BYTES
        if known and math.prod(shape) * _BYTES[dtype] != end - start:
            raise ValueError(name)
    except (KeyError, TypeError, ValueError):
        raise _damaged(file, f"its header does not say how {name} is stored") from None
    if not known:
        raise UserError(
            f"{file}: {name} is stored as {dtype}, that is, quantized or not as a weight; only "
            f"{', '.join(_BYTES)} are read: save the model in one of them, as in "
            "model.to(torch.bfloat16).save_pretrained(...)"
        )
    return Tensor(file, name, dtype, tuple(shape), data_start + start)


def _damaged(file: epath.Path, reason: str) -> UserError:
    return UserError(f"{file} cannot be read: {reason}; copy it again")


def _opened(file: epath.Path) -> safetensors.safe_open:
    """The library's reader of a file.

    Raises:
      UserError: the library refuses the file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(_on_disk(file), "numpy")
    except (OSError, SafetensorError) as error:
        raise _damaged(file, str(error).splitlines()[0]) from None


def _on_disk(file: epath.Path) -> str:
    """The path of a local file. The library maps files into memory, so it cannot read buckets.

    Raises:
      UserError: the file is in a bucket.
    """
    if is_address(file):
        raise UserError(
            f"{file}: safetensors are read from local folders or from hf:owner/name; copy the "
            "folder first"
        )
    return str(file)
