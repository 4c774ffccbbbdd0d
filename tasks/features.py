"""The features that every task gives to a model, and their vocabulary."""

from __future__ import annotations

import functools

import seqio
import tensorflow as tf
from google.protobuf.message import DecodeError

from sycophancy.errors import UserError

from . import location


class RunVocabulary(seqio.SentencePieceVocabulary):
    """The SentencePiece model that `location.vocabulary` names when a data set is built.

    It equals every SentencePiece vocabulary of the same file, because T5X compares the task's
    vocabulary with the model's.
    """

    def __init__(self) -> None:
        super().__init__("VOCABULARY")

    @property
    def sentencepiece_model_file(self) -> str:
        return location.vocabulary()

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
