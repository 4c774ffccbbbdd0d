"""An array of a checkpoint whose shape is known and whose values are read when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

if TYPE_CHECKING:
    import tensorstore as ts

Read: TypeAlias = Callable[[], ArrayLike]


class LazyArray:
    """One array of a checkpoint; `np.asarray(array)` reads it again each time.

    Code that handles a tree of these one array at a time never holds a whole model in memory.

    Args:
      shape: of the array.
      read: returns the values.
      row: returns the values of one entry along the first axis; give it where reading one entry is
        cheaper than reading all.
      dtype: the dtype of the values once they are read; parameters are float32.
      stored_as: the dtype in the file, if it is known.
      open_store: starts to open the TensorStore array that holds the values, if one does; returns
        TensorStore's future.
    """

    def __init__(
        self,
        shape: Sequence[int],
        read: Read,
        row: Callable[[int], ArrayLike] | None = None,
        dtype: DTypeLike = np.float32,
        *,
        stored_as: DTypeLike | None = None,
        open_store: Callable[[], ts.Future[ts.TensorStore]] | None = None,
    ) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype)
        self.stored_as = None if stored_as is None else np.dtype(stored_as)
        self.open_store = open_store
        self._read, self._row = read, row

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        values = np.asarray(self._read(), self.dtype)
        return values if dtype is None else values.astype(dtype, copy=bool(copy))

    def __getitem__(self, index: int) -> LazyArray:
        row = self._row or (lambda i: np.asarray(self)[i])
        return LazyArray(self.shape[1:], lambda: row(index), dtype=self.dtype)

    def __repr__(self) -> str:
        return f"LazyArray({self.shape}, {self.dtype})"

    @property
    def nbytes(self) -> int:
        """Bytes of the values in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def transposed(self) -> LazyArray:
        """The transpose; a vector is its own transpose."""
        return LazyArray(self.shape[::-1], lambda: np.asarray(self).T, dtype=self.dtype)


def stack(arrays: Sequence[LazyArray | np.ndarray]) -> LazyArray | np.ndarray:
    """Stacks arrays of one shape along a new first axis.

    Returns:
      A `LazyArray` that reads its parts one after the other if all arrays are `LazyArray`s; else a
      NumPy array.

    >>> whole = stack([LazyArray((2,), lambda: [1, 2]), LazyArray((2,), lambda: [3, 4])])
    >>> np.asarray(whole).tolist(), np.asarray(whole[1]).tolist()
    ([[1.0, 2.0], [3.0, 4.0]], [3.0, 4.0])
    """
    if not all(isinstance(array, LazyArray) for array in arrays):
        return np.stack([np.asarray(array) for array in arrays])
    shape, dtype = (len(arrays), *arrays[0].shape), arrays[0].dtype

    def read() -> np.ndarray:
        whole = np.empty(shape, dtype)
        for part, array in zip(whole, arrays, strict=True):
            part[...] = np.asarray(array)
        return whole

    return LazyArray(shape, read, lambda i: np.asarray(arrays[i]), dtype)
