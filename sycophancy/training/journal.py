"""Writes training metrics: lines of `metrics.jsonl`, and TensorBoard's curves."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import jax
import tensorflow as tf
from clu import metric_writers

from sycophancy.errors import UserError
from sycophancy.training.callbacks import Report
from sycophancy.training.step import Window


class Pace:
    """Measures the seconds per step of this process, without its first step, which compiles.

    Args:
      start: the number of steps done before this process started.
    """

    def __init__(self, start: int) -> None:
        self._first = start + 1
        self._began = time.perf_counter()
        self.step = start

    def tick(self, step: int) -> None:
        """Call this when a step was sent to the devices."""
        self.step = step
        if step == self._first:
            self._began = time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the time of the block from the measurement."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    @property
    def seconds_per_step(self) -> float:
        """The mean since the end of the first step."""
        return (time.perf_counter() - self._began) / max(self.step - self._first, 1)


def metrics_of(
    window: Window, learning_rate: float, pace: Pace, steps: int, window_steps: int
) -> dict[str, float]:
    """The metrics of the steps since the last logged step.

    Args:
      window: the sums over these steps.
      learning_rate: the learning rate.
      pace: the seconds per step.
      steps: FINETUNE_STEPS.
      window_steps: the number of these steps.

    Returns:
      `loss` (mean over target tokens, nats, with z-loss), `z_loss` (likewise), `accuracy` (share of
      target tokens that are the argmax), `learning_rate`, `examples_per_second`,
      `tokens_per_second` (of prompts and targets, without padding), `steps` (FINETUNE_STEPS) and
      `seconds_left` (until the last step).
    """
    sums: Window = jax.device_get(window)
    tokens = max(float(sums.loss.tokens), 1.0)
    seconds = pace.seconds_per_step * window_steps
    return {
        "loss": float(sums.loss.loss) / tokens,
        "z_loss": float(sums.loss.z_loss) / tokens,
        "accuracy": float(sums.loss.correct) / tokens,
        "learning_rate": learning_rate,
        "examples_per_second": float(sums.examples) / seconds,
        "tokens_per_second": (float(sums.loss.tokens) + float(sums.input_tokens)) / seconds,
        "steps": steps,
        "seconds_left": pace.seconds_per_step * (steps - pace.step),
    }


class Journal:
    """Writes metrics by step, and no step twice after a resume. Only process 0 writes.

    Args:
      out: the folder that gets `metrics.jsonl` and `tensorboard/`.
      start: the step from which the run continues; lines about later steps are removed.
      report: called with every line about training.

    Raises:
      UserError: TensorBoard's files cannot be written, at the start, at a logged step or at the
        end.
    """

    def __init__(self, out: Path, start: int, report: Report | None) -> None:
        self._file, self._curves = out / "metrics.jsonl", out / "tensorboard"
        self._report = report
        self._validated: set[int] = set()
        self._writes = jax.process_index() == 0
        if self._writes:
            out.mkdir(parents=True, exist_ok=True)
            self._truncate(start)
            with self._write_faults_in_one_line():
                self._writer = metric_writers.SummaryWriter(str(self._curves))

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._writes:
            return
        try:
            with self._write_faults_in_one_line():
                self._writer.close()
        except UserError:
            if error is None:  # otherwise `error` ended the run
                raise

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends a line and a point to every curve, and calls `report`."""
        self._append(step, metrics)
        if self._report:
            self._report(step, metrics)

    def write_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends a line and a point to every curve."""
        self._append(step, metrics)

    def is_validated(self, step: int) -> bool:
        """Whether there is a line of `write_validation` for `step`, as far as this process knows.

        Only process 0 reads the file.
        """
        return step in self._validated

    def _append(self, step: int, metrics: Mapping[str, float]) -> None:
        if not self._writes:
            return
        with self._file.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        with self._write_faults_in_one_line():
            self._writer.write_scalars(step, dict(metrics))

    @contextlib.contextmanager
    def _write_faults_in_one_line(self) -> Iterator[None]:
        """Turns TensorFlow's errors of writing into a UserError of one line."""
        try:
            yield
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0].rpartition("}} ")[2].partition(" [Op:")[0]
            raise UserError(
                f"{self._curves} cannot be written: {reason}; the last checkpoint is kept, so the "
                "same command continues once it can be"
            ) from None

    def _truncate(self, start: int) -> None:
        """Drops the lines after step `start`; all of them if no checkpoint is continued from."""
        if not self._file.exists():
            return
        kept = []
        for line in self._file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                metrics = json.loads(line)
                if start > 0 and metrics["step"] <= start:
                    kept.append(line + "\n")
                    if "validation_loss" in metrics:
                        self._validated.add(metrics["step"])
            # A line that a kill truncated, or that this class did not write.
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text("".join(kept))
        unfinished.replace(self._file)
