"""What every task hands to a model, and by which vocabulary."""

from __future__ import annotations

import functools

import seqio
import tensorflow as tf
from google.protobuf.message import DecodeError

from sycophancy.errors import UserError

from . import location


class RunVocabulary(seqio.SentencePieceVocabulary):
    """The SentencePiece model that is in force when a data set is built.

    Equal to any SentencePiece vocabulary of the same file, since T5X compares the task's
    vocabulary with the model's.
    """

    def __init__(self) -> None:
        super().__init__("VOCABULARY")

    @property
    def sentencepiece_model_file(self) -> str:
        return location.vocabulary()

    def _model_context(self):
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

# Flan-T5 was trained with an end of sequence behind inputs and targets alike.
OUTPUT_FEATURES = {
    "inputs": seqio.Feature(vocabulary=VOCABULARY, add_eos=True),
    "targets": seqio.Feature(vocabulary=VOCABULARY, add_eos=True),
}


def check_vocabulary(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Loads the vocabulary here, since TensorFlow mangles what is raised while it traces."""
    VOCABULARY.load_model()
    return dataset
