"""Rows of tokens of unequal length, between Python and TensorFlow."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from jaxtyping import Int

Ids = Int[np.ndarray, " tokens"]
Lengths = Int[np.ndarray, " rows"]

TYPES = (tf.int32, tf.int64)  # of what `flat` returns


def flat(rows: Sequence[Sequence[int]]) -> tuple[Ids, Lengths]:
    """The ids of all rows one after the other, and the lengths of the rows."""
    ids = np.fromiter(itertools.chain.from_iterable(rows), np.int32)
    return ids, np.fromiter(map(len, rows), np.int64, len(rows))


def ragged(ids: tf.Tensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Rows (rows, tokens), int32, from what `flat` returned inside a `tf.numpy_function`."""
    ids, lengths = (tf.ensure_shape(tensor, [None]) for tensor in (ids, lengths))
    return tf.RaggedTensor.from_row_lengths(ids, lengths, validate=False)
