"""The trainer's batches: SeqIO's pipeline, read by a thread.

The stream of batches depends only on the recipe, the files and the seed. A run that resumes at step
n builds the same stream and skips n batches, which are read, tokenized and packed but not used;
`scripts/bench_parts.py` measures the cost of a batch. So there is no iterator state to store, and
none that could disagree with the model's state.
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

from sycophancy.config.schema import ModelConfig, TrainingConfig
from sycophancy.errors import UserError
from sycophancy.training.decoder_rows import DecoderConverter
from sycophancy.training.packing import PackingConverter
from sycophancy.training.seqio_tasks import tasks

PREFETCH = 4  # batches


def open_dataset(
    training: TrainingConfig,
    data_dir: Path | str,
    model: ModelConfig,
    *,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    quiet: bool = False,
) -> tuple[tf.data.Dataset, tasks.Reading]:
    """The endless data set of training batches, starting at batch number `start`.

    Args:
      training: the recipe.
      data_dir: the run folder.
      model: its vocabulary and its kind decide the features.
      start: the number of batches to skip.
      process_index: which part of every batch to return.
      process_count: the number of parts.
      quiet: do not log rows that are left out; `Feed.notes` has them.

    Returns:
      Batches of T5X's model features (`encoder_input_tokens`, `decoder_target_tokens`,
      `decoder_loss_weights`, ...), or of those of `decoder_rows`, int32, (batch_size /
      process_count, length); and the `Reading` that counts the rows left out because they are
      longer than a feature.

    Raises:
      UserError: the mixture is unknown, a file is missing, or the batch size does not divide by
        `process_count`.
    """
    if training.batch_size % process_count:
        raise UserError(
            f"BATCH_SIZE {training.batch_size} does not divide by {process_count} processes"
        )
    lengths = {"inputs": training.input_length, "targets": training.target_length}
    ratio, chat = training.mixture_ratio, model.chat
    with (
        tasks.reading(data_dir, model.vocabulary, ratio, chat=chat) as reading,
        quiet_seqio(quiet),
    ):
        reading.quiet = quiet
        dataset = seqio.get_dataset(
            tasks.get(training.mixture_or_task_name),
            lengths,
            converter(training.packing, model),
            dataset_split="train",
            shuffle=True,
            seed=training.seed,
            num_epochs=None,
            batch_size=training.batch_size,
            verbose=False,
        )
    # All processes read the same stream, so that batches do not depend on their number.
    if process_count > 1:
        rows = training.batch_size // process_count
        part = slice(process_index * rows, (process_index + 1) * rows)
        dataset = dataset.map(lambda batch: {name: value[part] for name, value in batch.items()})
    return dataset.skip(start).with_options(single_thread()), reading


class Feed:
    """An endless iterator over NumPy batches, which a thread reads in advance.

    Use it as a context manager: leaving it stops the thread. `next` raises the thread's errors.

    Args:
      dataset: the batches.
      reading: counts the rows that are left out.
    """

    def __init__(self, dataset: tf.data.Dataset, reading: tasks.Reading) -> None:
        self._reading = reading
        self._batches: queue.Queue[dict[str, np.ndarray] | BaseException] = queue.Queue(PREFETCH)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._fill, args=(dataset,), name="feed", daemon=True
        )
        self._thread.start()

    @property
    def notes(self) -> list[str]:
        """A line for each task of which rows are left out so far because they are too long."""
        return [str(left_out) for left_out in self._reading.left_out if left_out.ids]

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._stop.is_set():
            raise StopIteration
        batch = self._batches.get()
        if isinstance(batch, BaseException):
            self.close()
            raise batch
        return batch

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
        """Stops the thread and waits for its end; a second call does nothing."""
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._batches.get(timeout=0.05)  # makes room for the thread's `put`
            except queue.Empty:
                continue
        self._thread.join()

    def _fill(self, dataset: tf.data.Dataset) -> None:
        try:
            for batch in dataset.as_numpy_iterator():
                self._batches.put(batch)
                if self._stop.is_set():
                    return
            raise RuntimeError("the data set ended, although it should repeat endlessly")
        except BaseException as error:  # `next` raises it, of whatever class it is
            self._batches.put(self._reading.error or error)


def converter(packing: bool, model: ModelConfig) -> seqio.FeatureConverter:
    """What turns a task's features into a model's, packed or one example a row."""
    if model.is_decoder:
        return DecoderConverter(packing)
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
