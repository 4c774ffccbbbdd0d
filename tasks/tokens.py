"""From text to token ids, many rows at a time; rows that are too long are left out whole."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf
from numpy.typing import NDArray

from sycophancy.errors import UserError

from . import location, shards
from .features import check_vocabulary
from .location import LeftOut

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
    the prompt to length would cut off the question, which comes last. One line of log says how many
    once all rows have been looked at. Without `sequence_length` everything is kept.

    Returns:
      Rows with token ids, the text as `{feature}_pretokenized`, and what else they had.

    Raises:
      UserError: every row of the split is too long; or, while reading, every row of the shard,
        if it is to be repeated for ever.
    """
    limits = {name: length for name, length in (sequence_length or {}).items() if length}
    opened = shards.last_opened.get()
    _check_one_fits(task, opened, limits, output_features)
    endless = dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    left_out = _Counter(LeftOut(task, in_words(limits), opened.rows), location.current(), endless)

    def convert(start: tf.Tensor, block: dict[str, tf.Tensor]):
        found = dict(block)
        places = start + tf.range(tf.size(block["example_id"], tf.int64))
        fits = tf.ones_like(places, tf.bool)
        for name, feature in output_features.items():
            found[f"{name}_pretokenized"] = block[name]
            ids = feature.vocabulary.encode_tf(block[name])
            if feature.add_eos:
                end = tf.fill([ids.nrows(), 1], tf.constant(feature.vocabulary.eos_id, ids.dtype))
                ids = tf.concat([ids, end], axis=1)
            found[name] = ids
            if name in limits:
                fits &= ids.row_lengths() <= limits[name]

        def count() -> tf.Tensor:
            too_long = [tf.boolean_mask(column, ~fits) for column in (places, block["example_id"])]
            return tf.ensure_shape(tf.numpy_function(left_out, too_long, tf.int64), [])

        counted = tf.cond(tf.reduce_all(fits), lambda: tf.constant(0, tf.int64), count)
        with tf.control_dependencies([counted]):
            whole = {name: tf.ragged.boolean_mask(x, fits) for name, x in found.items()}
        return start + tf.size(places, tf.int64), whole

    kept = dataset.batch(BLOCK).scan(tf.constant(0, tf.int64), convert).unbatch()
    end = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(left_out.finish, [], tf.int64))
    return kept.concatenate(end.flat_map(lambda _: kept.take(0)))


def in_words(limits: Mapping[str, int]) -> str:
    """Feature lengths, for messages."""
    return f"TASK_FEATURE_LENGTHS ({', '.join(f'{k} {n}' for k, n in limits.items())} tokens)"


def count_tokens(texts: Sequence[str], feature: seqio.Feature) -> list[int]:
    """Tokens of each text as the feature has them, the end of sequence included if it is added."""
    encoder = feature.vocabulary.tokenizer
    return [len(ids) + feature.add_eos for ids in encoder.EncodeAsIds(list(texts))]


def _check_one_fits(
    task: str,
    opened: shards.Opened,
    limits: Mapping[str, int],
    features: Mapping[str, seqio.Feature],
) -> None:
    """Looks for a row that fits; nearly always the first one does."""
    if not limits:
        return
    for texts in opened.texts():
        lengths = {name: count_tokens(texts[name], features[name]) for name in limits}
        if any(all(x <= limits[name] for name, x in zip(limits, row, strict=True))
               for row in zip(*lengths.values(), strict=True)):  # fmt: skip
            return
    raise UserError(
        f"every row of {task} is longer than {in_words(limits)}; the last one has "
        f"{', '.join(f'{name} {found[-1]}' for name, found in lengths.items())}"
    )


class _Counter:
    """Counts rows left out; called inside the pipeline, and only when there are some."""

    def __init__(self, left_out: LeftOut, told: location.Reading, endless: bool) -> None:
        self._left_out, self._told, self._endless = left_out, told, endless
        told.left_out.append(left_out)

    def __call__(self, places: NDArray[np.int64], example_ids: NDArray[np.bytes_]) -> np.int64:
        """Takes rows by their place in all that was read, which may be several passes."""
        found = self._left_out
        for place, example_id in zip(places.tolist(), example_ids, strict=True):
            if place < found.rows:
                found.ids[place] = example_id.decode()
            else:
                self.finish()
        if self._endless and len(found.ids) == found.rows:
            self._told.error = UserError(
                f"every row of {found.task} that falls to this shard is longer than {found.limits}"
            )
            raise self._told.error
        return np.int64(len(found.ids))

    def finish(self) -> np.int64:
        """All rows of the shard have been looked at."""
        found = self._left_out
        if found.ids and not found.is_final and not self._told.quiet:
            logger.warning("%s", dataclasses.replace(found, is_final=True))
        found.is_final = True
        return np.int64(len(found.ids))
