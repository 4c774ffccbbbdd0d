"""Which rows of a split one shard reads, and in which order."""

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
    """What a data source opened: one pass over one shard of a split.

    Attributes:
      rows: how many the shard has.
      texts: reads the split from its start, a batch of rows at a time, as lists by column.
    """

    rows: int
    texts: Callable[[], Iterator[Mapping[str, list[str]]]]


# SeqIO calls a source and then the task's preprocessors, which are told nothing of the source.
last_opened: contextvars.ContextVar[Opened] = contextvars.ContextVar("last_opened")


# How mixtures draw. SeqIO's own way ends with the first task that ends, and loses the others' rest.
sample_all = functools.partial(tf.data.Dataset.sample_from_datasets, stop_on_empty_dataset=False)


def order(
    count: int, shuffle: bool, seed: int | None, shard: seqio.ShardInfo | None
) -> NDArray[np.int64]:
    """The rows of a shard: for any number of shards disjoint, and together all.

    With a seed all rows are shuffled, then dealt one by one. Without one every shard would shuffle
    in another way, so rows are dealt as they come and each shard shuffles its own.

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
