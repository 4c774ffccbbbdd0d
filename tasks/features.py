"""The features that every task gives to a model, and their vocabulary."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import seqio
import tensorflow as tf
from google.protobuf.message import DecodeError

from sycophancy.errors import UserError

from . import decoders, location


class RunVocabulary(seqio.SentencePieceVocabulary):
    """The vocabulary that `location.vocabulary` names when a data set is built.

    It is a SentencePiece model, or the tokenizer of a decoder-only model. It equals every
    SentencePiece vocabulary of the same file, because T5X compares the task's vocabulary with the
    model's.
    """

    def __init__(self) -> None:
        super().__init__("VOCABULARY")

    @property
    def sentencepiece_model_file(self) -> str:
        return location.vocabulary()

    @property
    def bos_id(self) -> int | None:
        bos_id: int | None = self._chosen().bos_id
        return bos_id

    @property
    def eos_id(self) -> int | None:
        eos_id: int | None = self._chosen().eos_id
        return eos_id

    @property
    def unk_id(self) -> int | None:
        unk_id: int | None = self._chosen().unk_id
        return unk_id

    @property
    def pad_id(self) -> int:
        pad_id: int = self._chosen().pad_id
        return pad_id

    @property
    def _base_vocab_size(self) -> int:
        size: int = self._chosen().vocab_size
        return size

    def _encode(self, s: str) -> Sequence[int]:
        return self._chosen()._encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._chosen()._decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        return self._chosen()._encode_tf(s)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return self._chosen()._decode_tf(ids)

    def load_model(self) -> None:
        if location.is_decoder():
            decoders.load()
        else:
            super().load_model()

    def _chosen(self) -> seqio.Vocabulary:
        if location.is_decoder():
            return decoders.TokenizerVocabulary(location.vocabulary())
        self._model_context()  # raises one error for every kind of bad file
        return _load(location.vocabulary())

    def _model_context(self) -> seqio.SentencePieceVocabulary._ModelContext:
        path = location.vocabulary()
        try:
            return _load(path)._model_context()
        except (DecodeError, tf.errors.OpError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"vocabulary {path}: not a SentencePiece model with padding 0 and end 1 ({reason})"
            ) from None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RunVocabulary):
            return True
        return (
            isinstance(other, seqio.SentencePieceVocabulary)
            and other.extra_ids == self.extra_ids
            and other.sentencepiece_model_file == self.sentencepiece_model_file
        )

    __hash__ = None  # type: ignore[assignment]


@functools.lru_cache(maxsize=8)
def _load(path: str) -> seqio.SentencePieceVocabulary:
    return seqio.SentencePieceVocabulary(path)


VOCABULARY = RunVocabulary()

# Flan-T5 was trained with an end of sequence after inputs and after targets.
OUTPUT_FEATURES = {
    "inputs": seqio.Feature(vocabulary=VOCABULARY, add_eos=True),
    "targets": seqio.Feature(vocabulary=VOCABULARY, add_eos=True),
}


def check_vocabulary(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Loads the vocabulary outside of TensorFlow's tracing, which would change the errors."""
    VOCABULARY.load_model()
    return dataset
