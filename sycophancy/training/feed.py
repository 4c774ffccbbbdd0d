"""Batches for the trainer: SeqIO's pipeline, read in a thread, the same whenever it is started.

The stream is a function of the recipe, the files and the seed alone. A run that resumes at step n
builds the same stream and skips n batches: what it skips is read, tokenized and packed, not trained
on. `scripts/bench_train.py` measures what a batch costs. In return there is no iterator state to
store, or to disagree with the model's.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import seqio
import tensorflow as tf

from sycophancy.config.schema import TrainingConfig
from sycophancy.errors import UserError
from sycophancy.training.packing import PackingConverter
from sycophancy.training.seqio_tasks import tasks

PREFETCH = 4  # batches


def open_dataset(
    training: TrainingConfig,
    data_dir: Path | str,
    vocabulary: str,
    *,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    quiet: bool = False,
) -> tuple[tf.data.Dataset, tasks.Reading]:
    """The endless data set of this process's batches, from batch `start` on.

    Args:
      training: the recipe.
      data_dir: the run folder.
      vocabulary: the SentencePiece model.
      start: how many batches to skip.
      process_index: which rows of every batch.
      process_count: of how many parts.
      quiet: do not log which rows are left out; `Feed.notes` has it.

    Returns:
      Batches of T5X's model features (`encoder_input_tokens`, `decoder_target_tokens`,
      `decoder_loss_weights`, ...), int32, (batch_size / process_count, length); and the `Reading`
      that counts the rows left out because they are longer than a feature.

    Raises:
      UserError: an unknown mixture, a missing file, or a batch that the processes cannot share.
    """
    if training.batch_size % process_count:
        raise UserError(
            f"BATCH_SIZE {training.batch_size} does not divide by {process_count} processes"
        )
    lengths = {"inputs": training.input_length, "targets": training.target_length}
    with tasks.reading(data_dir, vocabulary, training.mixture_ratio) as told, quiet_seqio(quiet):
        told.quiet = quiet
        dataset = seqio.get_dataset(
            tasks.get(training.mixture_or_task_name),
            lengths,
            converter(training.packing),
            dataset_split="train",
            shuffle=True,
            seed=training.seed,
            num_epochs=None,
            batch_size=training.batch_size,
            verbose=False,
        )
    # Rows of the one stream, not a stream of one's own: batches are the same for any number.
    if process_count > 1:
        rows = training.batch_size // process_count
        here = slice(process_index * rows, (process_index + 1) * rows)
        dataset = dataset.map(lambda batch: {name: value[here] for name, value in batch.items()})
    return dataset.skip(start).with_options(single_thread()), told


class Feed:
    """An endless iterator over numpy batches, read ahead by a thread.

    Use as a context manager: leaving it stops the thread. What goes wrong in the thread is raised
    by `next`.
    """

    def __init__(self, dataset: tf.data.Dataset, told: tasks.Reading) -> None:
        self._told = told
        self._batches: queue.Queue[dict[str, np.ndarray] | BaseException] = queue.Queue(PREFETCH)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._fill, args=(dataset,), name="feed", daemon=True
        )
        self._thread.start()

    @property
    def notes(self) -> list[str]:
        """How many rows are left out so far because they are too long, a line a task."""
        return [str(found) for found in self._told.left_out if found.ids]

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._stop.is_set():
            raise StopIteration
        found = self._batches.get()
        if isinstance(found, BaseException):
            self.close()
            raise found
        return found

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the thread and waits for it; may be called twice."""
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._batches.get(timeout=0.05)  # makes room for a `put` that waits
            except queue.Empty:
                continue
        self._thread.join()

    def _fill(self, dataset: tf.data.Dataset) -> None:
        try:
            for batch in dataset.as_numpy_iterator():
                self._batches.put(batch)
                if self._stop.is_set():
                    return
            raise RuntimeError("the data set ended, although it repeats for ever")
        except BaseException as error:  # the consumer must see it, whatever it is
            self._batches.put(self._told.error or error)


def converter(packing: bool) -> seqio.FeatureConverter:
    """What turns a task's features into T5X's model features, packed or one example a row."""
    return PackingConverter() if packing else seqio.EncDecFeatureConverter(pack=False)


@contextlib.contextmanager
def quiet_seqio(quiet: bool = True) -> Iterator[None]:
    """Silences SeqIO's log if `quiet`; it names the task that failed, which the error does too."""
    seqio_log = logging.getLogger("absl")
    before, seqio_log.disabled = seqio_log.disabled, quiet or seqio_log.disabled
    try:
        yield
    finally:
        seqio_log.disabled = before


def single_thread() -> tf.data.Options:
    """Options that run a pipeline in one thread and leave the other cores to XLA."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False
    options.deterministic = True
    return options
