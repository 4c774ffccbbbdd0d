"""What every task hands to a model: the vocabulary, and the way from text to tokens."""

from __future__ import annotations

import functools
import logging

import seqio
import tensorflow as tf
from google.protobuf.message import DecodeError

from sycophancy.errors import UserError
from tasks import location

logger = logging.getLogger(__name__)


class RunVocabulary(seqio.SentencePieceVocabulary):
    """The SentencePiece model that is in force when a data set is built.

    Equal to any SentencePiece vocabulary of the same file, since T5X compares the task's
    vocabulary with the model's.
    """

    def __init__(self) -> None:
        super().__init__("VOCABULARY_PATH")

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


def drop_too_long(
    dataset: tf.data.Dataset, sequence_length: dict[str, int] | None, *, task: str
) -> tf.data.Dataset:
    """Leaves out rows with a feature longer than its length, and counts them in the `Reading`.

    Cutting a prompt to length would cut off the question, which comes last. Rows hold
    `example_id` (string) and token ids; without `sequence_length` everything is kept.

    Raises:
      UserError: while reading, once every row of the task proves too long.
    """
    if not sequence_length:
        return dataset
    told = location.current()
    limits = {name: length for name, length in sequence_length.items() if length is not None}

    def dropped(example_id: bytes, lengths, kept: int) -> bool:
        ids = told.dropped.setdefault(task, set())
        text = example_id.decode()
        size = ", ".join(f"{n} {found}" for n, found in zip(limits, lengths, strict=True))
        if kept == 0 and text in ids:
            allowed = ", ".join(f"{name} {length}" for name, length in limits.items())
            told.error = UserError(
                f"every row of {task} is longer than TASK_FEATURE_LENGTHS ({allowed} tokens); "
                f"row {text} has {size}"
            )
            raise told.error
        if text not in ids:
            ids.add(text)
            count = len(ids)
            if count & (count - 1) == 0:  # 1, 2, 4, 8, ...: a log that stays short
                logger.warning("%s: %d rows too long (%s: %s)", task, count, text, size)
        return False

    def check(kept: tf.Tensor, row: dict[str, tf.Tensor]):
        lengths = tf.stack([tf.size(row[name]) for name in limits])
        fits = tf.reduce_all(lengths <= tf.constant(list(limits.values())))
        keep = tf.cond(
            fits,
            lambda: True,
            lambda: tf.ensure_shape(
                tf.numpy_function(dropped, [row["example_id"], lengths, kept], tf.bool), []
            ),
        )
        return kept + tf.cast(keep, tf.int64), (row, keep)

    checked = dataset.scan(tf.constant(0, tf.int64), check)
    return checked.filter(lambda _, keep: keep).map(lambda row, _: row)


def check_vocabulary(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Loads the vocabulary here, since TensorFlow mangles what is raised while it traces."""
    VOCABULARY.load_model()
    return dataset


def preprocessors(task: str) -> list:
    """Text to token ids with the end of sequence, rows that do not fit left out."""
    return [
        check_vocabulary,
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos,
        functools.partial(drop_too_long, task=task),
    ]
