"""The in-tree trainer's batches, as the kind of iterator that T5X requires."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from clu.data import dataset_iterator

from sycophancy.training.feed import Feed
from sycophancy.training.seqio_tasks import tasks


class Batches(dataset_iterator.DatasetIterator):
    """An endless clu iterator over NumPy batches, which the feed's thread reads in advance.

    It has no position to save, because `recipe.get_dataset` makes it start at the right batch.
    """

    def __init__(self, dataset: tf.data.Dataset, reading: tasks.Reading) -> None:
        self._spec = {
            name: dataset_iterator.ArraySpec(spec.dtype.as_numpy_dtype, tuple(spec.shape))
            for name, spec in dataset.element_spec.items()
        }
        self._feed = Feed(dataset, reading)

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._feed)

    @property
    def element_spec(self) -> dict[str, dataset_iterator.ArraySpec]:
        """Shapes and dtypes by feature."""
        return self._spec
