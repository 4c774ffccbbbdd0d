"""The feed's batches as the iterator that T5X takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from clu.data import dataset_iterator

from sycophancy.training.feed import Feed
from sycophancy.training.seqio_tasks import tasks


class Batches(dataset_iterator.DatasetIterator):
    """An endless clu iterator over numpy batches, read ahead by the feed's thread.

    It keeps no position to save: whoever makes it says where to start (`t5x.get_dataset`).
    """

    def __init__(self, dataset: tf.data.Dataset, told: tasks.Reading) -> None:
        self._spec = {
            name: dataset_iterator.ArraySpec(spec.dtype.as_numpy_dtype, tuple(spec.shape))
            for name, spec in dataset.element_spec.items()
        }
        self._feed = Feed(dataset, told)

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._feed)

    @property
    def element_spec(self) -> dict[str, Any]:
        """Shapes and dtypes by feature."""
        return self._spec
