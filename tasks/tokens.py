"""Tokenizes blocks of rows, and leaves out rows that are too long."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import seqio
import tensorflow as tf
from numpy.typing import NDArray

from sycophancy.errors import UserError

from . import decoders, location, shards
from .features import check_vocabulary
from .location import LeftOut

BLOCK = 256  # rows; TensorFlow's cost for each element occurs once for a block

logger = logging.getLogger(__name__)


def preprocessors(task: str) -> list[Callable[..., tf.data.Dataset]]:
    """The preprocessors that turn the rows of `ParquetSource` into features."""
    return [check_vocabulary, functools.partial(tokenize, task=task)]


def tokenize(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None,
    output_features: Mapping[str, seqio.Feature],
    *,
    task: str,
) -> tf.data.Dataset:
    """Does the same as SeqIO's `tokenize` and `append_eos` for string features, in blocks of rows.

    Rows of a decoder-only model are what `DecoderRows` makes of them.

    A row with a feature that is longer than its `sequence_length` is left out and counted in the
    `Reading`; truncating a prompt would remove the question, which comes last. The number of rows
    left out is logged once all rows have been read. Without `sequence_length` no row is left out.

    Returns:
      Rows with token ids, the text as `{feature}_pretokenized`, and their other columns.

    Raises:
      UserError: every row of the split is too long; or, while an endless data set is read, every
        row of the shard is.
    """
    limits = {name: length for name, length in (sequence_length or {}).items() if length}
    opened = shards.last_opened.get()
    encoder: _Encoder = (
        decoders.DecoderRows(decoders.load(), location.current())
        if location.is_decoder()
        else _Features(output_features)
    )
    _check_one_fits(task, opened, limits, encoder)
    endless = dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    left_out = _Counter(LeftOut(task, in_words(limits), opened.rows), location.current(), endless)

    @tf.autograph.experimental.do_not_convert  # reading the source again takes a while
    def convert(
        start: tf.Tensor, block: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        features = dict(block)
        places = start + tf.range(tf.size(block["example_id"], tf.int64))
        fits = tf.ones_like(places, tf.bool)
        for name, ids in encoder.tokens(block).items():
            features[f"{name}_pretokenized"] = block[name]
            features[name] = ids
            if name in limits:
                fits &= ids.row_lengths() <= limits[name]

        def count() -> tf.Tensor:
            too_long = [tf.boolean_mask(column, ~fits) for column in (places, block["example_id"])]
            return tf.ensure_shape(tf.numpy_function(left_out, too_long, tf.int64), [])

        counted = tf.cond(tf.reduce_all(fits), lambda: tf.constant(0, tf.int64), count)
        with tf.control_dependencies([counted]):
            those = tf.where(fits)[:, 0]
            whole = {name: tf.gather(x, those) for name, x in features.items()}
        return start + tf.size(places, tf.int64), whole

    kept = dataset.batch(BLOCK).scan(tf.constant(0, tf.int64), convert).unbatch()
    end = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(left_out.finish, [], tf.int64))
    return kept.concatenate(end.flat_map(lambda _: kept.take(0)))


def in_words(limits: Mapping[str, int]) -> str:
    """The lengths of features, for messages."""
    return f"TASK_FEATURE_LENGTHS ({', '.join(f'{k} {n}' for k, n in limits.items())} tokens)"


def count_tokens(texts: Sequence[str], feature: seqio.Feature) -> list[int]:
    """The number of tokens of each text, with the end of sequence if the feature adds it."""
    encoder = feature.vocabulary.tokenizer
    return [len(ids) + feature.add_eos for ids in encoder.EncodeAsIds(list(texts))]


class _Encoder(Protocol):
    """Turns the texts of rows into tokens."""

    def tokens(self, block: Mapping[str, tf.Tensor]) -> dict[str, tf.RaggedTensor]:
        """The tokens of a block of rows, by feature: int32, (rows, tokens)."""

    def lengths(self, texts: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
        """The number of tokens of each row, by feature."""


class _Features:
    """Turns the text of each feature into tokens by itself, for an encoder-decoder."""

    def __init__(self, features: Mapping[str, seqio.Feature]) -> None:
        self._features = features

    def tokens(self, block: Mapping[str, tf.Tensor]) -> dict[str, tf.RaggedTensor]:
        tokens = {}
        for name, feature in self._features.items():
            ids = feature.vocabulary.encode_tf(block[name])
            if feature.add_eos:
                end = tf.fill([ids.nrows(), 1], tf.constant(feature.vocabulary.eos_id, ids.dtype))
                ids = tf.concat([ids, end], axis=1)
            tokens[name] = ids
        return tokens

    def lengths(self, texts: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
        return {name: count_tokens(texts[name], each) for name, each in self._features.items()}


def _check_one_fits(
    task: str, opened: shards.Opened, limits: Mapping[str, int], encoder: _Encoder
) -> None:
    """Checks that some row fits; nearly always the first row does.

    Raises:
      UserError: no row fits.
    """
    if not limits:
        return
    for texts in opened.texts():
        found = encoder.lengths(texts)
        lengths = {name: found[name] for name in limits}
        if any(all(x <= limits[name] for name, x in zip(limits, row, strict=True))
               for row in zip(*lengths.values(), strict=True)):  # fmt: skip
            return
    raise UserError(
        f"every row of {task} is longer than {in_words(limits)}; the last one has "
        f"{', '.join(f'{name} {counts[-1]}' for name, counts in lengths.items())}"
    )


class _Counter:
    """Records the rows that are left out; the pipeline calls it for blocks with such rows."""

    def __init__(self, left_out: LeftOut, reading: location.Reading, endless: bool) -> None:
        self._left_out, self._reading, self._endless = left_out, reading, endless
        reading.left_out.append(left_out)

    def __call__(self, places: NDArray[np.int64], example_ids: NDArray[np.bytes_]) -> np.int64:
        """Records rows.

        Args:
          places: the number of each row among all rows read, in one or several passes.
          example_ids: their ids.

        Returns:
          The number of different rows left out so far.
        """
        left_out = self._left_out
        for place, example_id in zip(places.tolist(), example_ids, strict=True):
            if place < left_out.rows:
                left_out.ids[place] = example_id.decode()
            else:
                self.finish()
        if self._endless and len(left_out.ids) == left_out.rows:
            self._reading.error = UserError(
                f"every row of {left_out.task} that falls to this shard is longer than "
                f"{left_out.limits}"
            )
            raise self._reading.error
        return np.int64(len(left_out.ids))

    def finish(self) -> np.int64:
        """Call this when all rows of the shard have been read; logs their number once."""
        left_out = self._left_out
        if left_out.ids and not left_out.is_final and not self._reading.quiet:
            logger.warning("%s", dataclasses.replace(left_out, is_final=True))
        left_out.is_final = True
        return np.int64(len(left_out.ids))
