"""Decoder-only models: the tokenizer as a SeqIO vocabulary, and rows of prompts and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf
from numpy.typing import NDArray

from sycophancy.model.decoder_text import DecoderText, load_text
from sycophancy.model.tokenizer import load_tokenizer

from . import location, ragged


class TokenizerVocabulary(seqio.Vocabulary):
    """The tokenizer of a decoder-only model, with the ids of its checkpoint.

    SeqIO's packing, trimming and feature converters take the id 0 for padding, which here is the id
    of a token that texts have.

    Args:
      path: a local folder or `hf:owner/name`.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self._tokenizer = load_tokenizer(path)

    @property
    def bos_id(self) -> int | None:
        return self._tokenizer.bos_id

    @property
    def eos_id(self) -> int:
        return self._tokenizer.eos_id

    @property
    def pad_id(self) -> int:
        return self._tokenizer.pad_id

    @property
    def unk_id(self) -> int | None:
        """None: these tokenizers read any text."""
        return None

    @property
    def _base_vocab_size(self) -> int:
        return self._tokenizer.size

    def _encode(self, s: str) -> list[int]:
        return self._tokenizer.encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def encode(texts: NDArray[np.bytes_]) -> tuple[ragged.Ids, ragged.Lengths]:
            return ragged.flat(self._tokenizer.encode_batch([text.decode() for text in texts]))

        rows = ragged.ragged(*tf.numpy_function(encode, [tf.reshape(s, [-1])], ragged.TYPES))
        return rows.values if s.shape.rank == 0 else rows

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(rows: NDArray[np.int32]) -> NDArray[np.object_]:
            texts = [self._tokenizer.decode(row.tolist()).encode() for row in rows]
            return np.array(texts, object)

        rows = tf.reshape(ids, [-1, tf.shape(ids)[-1]])
        return tf.reshape(tf.numpy_function(decode, [rows], tf.string), tf.shape(ids)[:-1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenizerVocabulary) and other._tokenizer is self._tokenizer

    __hash__ = None  # type: ignore[assignment]


def load() -> DecoderText:
    """The tokenizer and the template of the model that `location` names.

    Raises:
      UserError: as `load_text`.
    """
    return load_text(location.vocabulary(), location.chat())


class DecoderRows:
    """Turns prompts and targets into the tokens on which a decoder-only model is trained.

    Args:
      text: the model's tokenizer and chat template.
    """

    def __init__(self, text: DecoderText) -> None:
        self._text = text

    def tokens(self, texts: Mapping[str, Sequence[str]]) -> dict[str, list[Sequence[int]]]:
        """The tokens of each row, by feature.

        Raises:
          UserError: the chat template cannot be filled.
        """
        rows = self._text.training_rows(texts["inputs"], texts["targets"])
        return {"inputs": [row.inputs for row in rows], "targets": [row.targets for row in rows]}
