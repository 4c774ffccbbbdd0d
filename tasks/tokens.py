"""From text to token ids, many rows at a time; rows that are too long are left out whole."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping

import numpy as np
import seqio
import tensorflow as tf

from sycophancy.errors import UserError

from . import location
from .features import check_vocabulary

BLOCK = 256  # rows; TensorFlow's cost of an element is paid once a block

logger = logging.getLogger(__name__)


def preprocessors(task: str) -> list:
    """What turns the rows of `ParquetSource` into features."""
    return [check_vocabulary, functools.partial(tokenize, task=task)]


def tokenize(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None,
    output_features: Mapping[str, seqio.Feature],
    *,
    task: str,
) -> tf.data.Dataset:
    """SeqIO's `tokenize` and `append_eos` for string features, by blocks of rows.

    A row with a feature longer than its length is left out, and counted in the `Reading`: cutting
    the prompt to length would cut off the question, which comes last. Without `sequence_length`
    everything is kept.

    Returns:
      Rows with token ids, the text as `{feature}_pretokenized`, and what else they had.

    Raises:
      UserError: while reading, once every row of the task proves too long.
    """
    limits = {name: length for name, length in (sequence_length or {}).items() if length}
    leave_out = _Dropped(task, limits, location.current())

    def convert(kept: tf.Tensor, block: dict[str, tf.Tensor]):
        found = dict(block)
        fits = tf.ones_like(block["example_id"], tf.bool)
        lengths = []
        for name, feature in output_features.items():
            found[f"{name}_pretokenized"] = block[name]
            ids = feature.vocabulary.encode_tf(block[name])
            if feature.add_eos:
                end = tf.fill([ids.nrows(), 1], tf.constant(feature.vocabulary.eos_id, ids.dtype))
                ids = tf.concat([ids, end], axis=1)
            found[name] = ids
            lengths.append(ids.row_lengths())
            if name in limits:
                fits &= lengths[-1] <= limits[name]
        count = tf.reduce_sum(tf.cast(fits, tf.int64))

        def tell() -> tf.Tensor:
            too_long = [
                tf.boolean_mask(column, ~fits) for column in (block["example_id"], *lengths)
            ]
            return tf.ensure_shape(
                tf.numpy_function(leave_out, [kept + count, *too_long], tf.int64), []
            )

        told = tf.cond(tf.reduce_all(fits), lambda: tf.constant(0, tf.int64), tell)
        with tf.control_dependencies([told]):
            whole = {name: tf.ragged.boolean_mask(x, fits) for name, x in found.items()}
        return kept + count, whole

    return dataset.batch(BLOCK).scan(tf.constant(0, tf.int64), convert).unbatch()


class _Dropped:
    """Counts rows left out; called inside the pipeline, and only when there are some."""

    def __init__(self, task: str, limits: Mapping[str, int], told: location.Reading) -> None:
        self._task = task
        self._allowed = ", ".join(f"{name} {length}" for name, length in limits.items())
        self._told = told

    def __call__(self, kept: int, example_ids: np.ndarray, *lengths: np.ndarray) -> np.int64:
        ids = self._told.dropped.setdefault(self._task, set())
        for example_id, *sizes in zip(example_ids, *lengths, strict=True):
            name = example_id.decode()
            if name in ids and kept == 0:
                self._told.error = UserError(
                    f"every row of {self._task} is longer than TASK_FEATURE_LENGTHS "
                    f"({self._allowed} tokens); row {name} has {[int(size) for size in sizes]}"
                )
                raise self._told.error
            if name not in ids:
                ids.add(name)
                if len(ids) & (len(ids) - 1) == 0:  # 1, 2, 4, 8, ...: a log that stays short
                    logger.warning("%s: %d rows too long, now %s", self._task, len(ids), name)
        return np.int64(len(ids))
