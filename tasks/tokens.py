"""Tokenizes blocks of rows, and leaves out rows that are too long."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import seqio
import tensorflow as tf
from numpy.typing import NDArray

from sycophancy.errors import UserError

from . import decoders, location, ragged, shards
from .location import LeftOut

BLOCK = 256  # rows; TensorFlow's cost for each element occurs once for a block

logger = logging.getLogger(__name__)


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
    opened, reading = shards.last_opened.get(), location.current()
    encoder: _Encoder = (
        decoders.DecoderRows(decoders.load())
        if location.is_decoder()
        else _Features(output_features)
    )
    _check_one_fits(task, opened, limits, encoder)
    endless = dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    left_out = _Counter(LeftOut(task, in_words(limits), opened.rows), reading, endless)

    def encode(
        start: np.int64, example_ids: NDArray[np.bytes_], *columns: NDArray[np.bytes_]
    ) -> list[NDArray[np.generic]]:
        texts = [[text.decode() for text in column] for column in columns]
        try:
            tokens = encoder.tokens(dict(zip(output_features, texts, strict=True)))
        except UserError as error:
            reading.error = error  # TensorFlow replaces it by a text
            raise
        fits = np.full(len(example_ids), True)
        for name, limit in limits.items():
            fits &= np.array([len(ids) <= limit for ids in tokens[name]])
        if not fits.all():
            left_out.add(start + np.flatnonzero(~fits), example_ids[~fits])
        short = (list(itertools.compress(tokens[name], fits)) for name in output_features)
        return [np.flatnonzero(fits), *itertools.chain.from_iterable(map(ragged.flat, short))]

    @tf.autograph.experimental.do_not_convert  # reading the source again takes a while
    def convert(
        start: tf.Tensor, block: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        columns = [block["example_id"], *(block[name] for name in output_features)]
        types = [tf.int64, *ragged.TYPES * len(output_features)]
        those, *flat = tf.numpy_function(encode, [start, *columns], types)
        whole = {name: tf.gather(x, tf.ensure_shape(those, [None])) for name, x in block.items()}
        for name, ids, lengths in zip(output_features, flat[::2], flat[1::2], strict=True):
            whole[f"{name}_pretokenized"] = whole[name]
            whole[name] = ragged.ragged(ids, lengths)
        return start + tf.size(block["example_id"], tf.int64), whole

    kept = dataset.batch(BLOCK).scan(tf.constant(0, tf.int64), convert).unbatch()
    end = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(left_out.finish, [], tf.int64))
    return kept.concatenate(end.flat_map(lambda _: kept.take(0)))


def in_words(limits: Mapping[str, int]) -> str:
    """The lengths of features, for messages."""
    return f"TASK_FEATURE_LENGTHS ({', '.join(f'{k} {n}' for k, n in limits.items())} tokens)"


def count_tokens(texts: Sequence[str], feature: seqio.Feature) -> list[int]:
    """The number of tokens of each text, with the end of sequence if the feature adds it."""
    return [len(ids) for ids in _encoder(feature)(texts)]


class _Encoder(Protocol):
    """Turns the texts of rows into tokens."""

    def tokens(self, texts: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[Sequence[int]]]:
        """The tokens of each row, by feature."""


class _Features:
    """Turns the text of each feature into tokens by itself, for an encoder-decoder."""

    def __init__(self, features: Mapping[str, seqio.Feature]) -> None:
        self._encoders = {name: _encoder(feature) for name, feature in features.items()}

    def tokens(self, texts: Mapping[str, Sequence[str]]) -> dict[str, list[list[int]]]:
        return {name: encode(texts[name]) for name, encode in self._encoders.items()}


def _encoder(feature: seqio.Feature) -> Callable[[Sequence[str]], list[list[int]]]:
    """Turns texts into tokens with the vocabulary that the feature has now."""
    encode = feature.vocabulary.tokenizer.Encode
    end = [feature.vocabulary.eos_id] if feature.add_eos else []
    # One thread, because the other cores are XLA's.
    return lambda texts: [ids + end for ids in encode(list(texts), num_threads=1)]


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
        tokens = encoder.tokens(texts)
        lengths = {name: [len(ids) for ids in tokens[name]] for name in limits}
        if any(all(x <= limits[name] for name, x in zip(limits, row, strict=True))
               for row in zip(*lengths.values(), strict=True)):  # fmt: skip
            return
    raise UserError(
        f"every row of {task} is longer than {in_words(limits)}; the last one has "
        f"{', '.join(f'{name} {counts[-1]}' for name, counts in lengths.items())}"
    )


class _Counter:
    """Records the rows that are left out."""

    def __init__(self, left_out: LeftOut, reading: location.Reading, endless: bool) -> None:
        self._left_out, self._reading, self._endless = left_out, reading, endless
        reading.left_out.append(left_out)

    def add(self, places: NDArray[np.int64], example_ids: NDArray[np.bytes_]) -> None:
        """Records rows.

        Args:
          places: the number of each row among all rows read, in one or several passes.
          example_ids: their ids.

        Raises:
          UserError: every row of an endless data set is left out.
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

    def finish(self) -> np.int64:
        """Call this when all rows of the shard have been read; logs their number once."""
        left_out = self._left_out
        if left_out.ids and not left_out.is_final and not self._reading.quiet:
            logger.warning("%s", dataclasses.replace(left_out, is_final=True))
        left_out.is_final = True
        return np.int64(len(left_out.ids))
