"""Arrays that still lie in a checkpoint: shapes now, values when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Read = Callable[[], Any]


class LazyArray:
    """One array of a checkpoint, read anew every time; `np.asarray(leaf)` reads it.

    Whoever goes through a tree of these one at a time never holds a whole model in memory.

    Args:
      shape: of the array.
      read: gives its values.
      row: gives the values of one entry along the first axis, where that is cheaper than all.
      dtype: what values are converted to; float32, as parameters are everywhere in this package.
      stored_as: what they are stored as, where that is known.
      stored: opens the TensorStore array that they lie in, where they do.
    """

    def __init__(
        self,
        shape: Sequence[int],
        read: Read,
        row: Callable[[int], Any] | None = None,
        dtype: Any = np.float32,
        *,
        stored_as: Any = None,
        stored: Read | None = None,
    ) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype)
        self.stored_as = None if stored_as is None else np.dtype(stored_as)
        self.stored = stored
        self._read, self._row = read, row

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.asarray(self._read(), self.dtype)
        return values if dtype is None else values.astype(dtype, copy=bool(copy))

    def __getitem__(self, index: int) -> LazyArray:
        row = self._row or (lambda i: np.asarray(self)[i])
        return LazyArray(self.shape[1:], lambda: row(index), dtype=self.dtype)

    def __repr__(self) -> str:
        return f"LazyArray({self.shape}, {self.dtype})"

    @property
    def nbytes(self) -> int:
        """Bytes in memory once it is read."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def transposed(self) -> LazyArray:
        """The transpose of a matrix; a vector is its own."""
        return LazyArray(self.shape[::-1], lambda: np.asarray(self).T, dtype=self.dtype)


def stack(leaves: Sequence[Any]) -> Any:
    """Leaves of one shape along a new first axis: a LazyArray of Leaves, else a NumPy array.

    A stacked LazyArray reads its parts one after the other.

    >>> whole = stack([LazyArray((2,), lambda: [1, 2]), LazyArray((2,), lambda: [3, 4])])
    >>> np.asarray(whole).tolist(), np.asarray(whole[1]).tolist()
    ([[1.0, 2.0], [3.0, 4.0]], [3.0, 4.0])
    """
    if not all(isinstance(leaf, LazyArray) for leaf in leaves):
        return np.stack(leaves)
    shape, dtype = (len(leaves), *leaves[0].shape), leaves[0].dtype

    def read() -> np.ndarray:
        whole = np.empty(shape, dtype)
        for part, leaf in zip(whole, leaves, strict=True):
            part[...] = np.asarray(leaf)
        return whole

    return LazyArray(shape, read, lambda i: np.asarray(leaves[i]), dtype)
