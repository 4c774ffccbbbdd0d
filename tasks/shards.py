"""The rows that a shard of a split reads, and their order."""

from __future__ import annotations

import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import seqio
import tensorflow as tf
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Opened:
    """One shard of a split that a data source has opened.

    Attributes:
      rows: the number of rows in the shard.
      texts: reads the whole split from its start, in blocks of rows; a block has a list for each
        column.
    """

    rows: int
    texts: Callable[[], Iterator[Mapping[str, list[str]]]]


# SeqIO calls a source and then the task's preprocessors, without passing them the source.
last_opened: contextvars.ContextVar[Opened] = contextvars.ContextVar("last_opened")


# How mixtures sample. SeqIO's default ends when the first task ends, which loses other tasks' rows.
sample_all = functools.partial(tf.data.Dataset.sample_from_datasets, stop_on_empty_dataset=False)


def order(
    count: int, shuffle: bool, seed: int | None, shard: seqio.ShardInfo | None
) -> NDArray[np.int64]:
    """The numbers of the rows of a shard. The shards are disjoint and together have all rows.

    With a seed, all rows are shuffled and then assigned to the shards in turn. Without a seed, each
    shard would shuffle all rows differently, so rows are assigned first and then shuffled.

    >>> [sorted(order(5, True, None, seqio.ShardInfo(i, 2)).tolist()) for i in range(2)]
    [[0, 2, 4], [1, 3]]
    """
    rows = np.arange(count)
    if shuffle and seed is not None:
        rows = np.random.default_rng(int(seed)).permutation(rows)
    if shard is not None:
        rows = rows[shard.index :: shard.num_shards]
    if shuffle and seed is None:
        rows = np.random.default_rng().permutation(rows)
    return rows
