"""T5X's action after logged steps: writes metrics, holds a lock, stops at SIGTERM or a bad loss."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

from sycophancy.config.schema import Config
from sycophancy.errors import UserError
from sycophancy.system import lock
from sycophancy.system.paths import is_address
from sycophancy.training.t5x import recipe
from sycophancy.training.t5x.command import PARENT

if TYPE_CHECKING:
    from clu import values
    from t5x import train_state as train_state_lib

PARENT_SECONDS = 1.0  # between two checks of the parent process


class Watch:
    """T5X's action after every logged step; only process 0 runs it.

    T5X does not handle SIGTERM. This action asks T5X to stop after SIGTERM, and T5X saves before it
    stops. Like the in-tree trainer it writes `metrics.jsonl` and `tensorboard/`, into the model
    directory, with step numbers that count from the start of the finetuning. It locks a local model
    directory, so that a second T5X is refused.

    Args:
      model_dir: T5X's model directory.

    Raises:
      UserError: another process writes into the directory.
    """

    def __init__(self, model_dir: str) -> None:
        import jax

        from sycophancy.training.journal import Journal

        self._config = recipe.configuration()
        self._stop = threading.Event()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        threading.Thread(target=self._stop_with_parent, daemon=True).start()
        if jax.process_index() == 0:
            if not is_address(model_dir):  # buckets have no locks
                Path(model_dir).mkdir(parents=True, exist_ok=True)
                self._lock = lock.hold(Path(model_dir), ".t5x.lock", who="T5X, process")
                self._lock.__enter__()  # until this process ends
            self._journal = Journal(Path(model_dir), recipe.steps_done(model_dir), None)

    def _stop_with_parent(self) -> None:
        """Stops T5X when the process that started it has ended, as after SIGKILL."""
        parent = os.environ.get(PARENT)
        while parent is not None:
            if os.getppid() != int(parent):
                self._stop.set()
                return
            time.sleep(PARENT_SECONDS)

    def run(
        self,
        train_state: train_state_lib.TrainState,
        metrics_by_task: Mapping[str, Mapping[str, values.Value]],
    ) -> bool:
        """Writes T5X's metrics since the last call; returns whether T5X should stop.

        Args:
          train_state: T5X's state.
          metrics_by_task: the metrics, as clu's values, under `train`.

        Raises:
          UserError: the loss was not finite.
        """
        step = int(train_state.step.addressable_data(0)) - self._config.model.pretrained_step
        scalars = {name: value.value for name, value in metrics_by_task["train"].items()}
        metrics = metrics_of(scalars, self._config, step)
        self._journal.write(step, metrics)
        if not math.isfinite(metrics["loss"]):
            raise UserError(
                f"the loss was not finite in the steps before {step}; the last checkpoint is from "
                "before: lower LEARNING_RATE, or use DTYPE float32"
            )
        return self._stop.is_set()


def metrics_of(scalars: Mapping[str, SupportsFloat], config: Config, step: int) -> dict[str, float]:
    """T5X's metrics under the names of `journal.metrics_of`.

    `loss` and `z_loss` are means over steps of each batch's mean over its target tokens. The
    in-tree trainer's are means over the target tokens of all steps since the last logged one.

    Args:
      scalars: T5X's metrics since the last logged step.
      config: the run.
      step: the number of finetuning steps done.
    """
    training = config.training
    metrics = {name: float(value) for name, value in scalars.items()}
    rate = metrics["timing/steps_per_second"]
    tokens = training.batch_size * (training.input_length + training.target_length)
    examples = metrics.get("effective_batch_size/decoder", float(training.batch_size))
    return {
        # T5X sums the means of the microbatches.
        "loss": metrics["loss"] / training.microbatches,
        "z_loss": metrics["z_loss"] / training.microbatches,
        "accuracy": metrics["accuracy"],
        "learning_rate": metrics["learning_rate/current"],
        "examples_per_second": examples * rate,
        "tokens_per_second": metrics["non_padding_fraction/overall"] * tokens * rate,
        "steps": training.finetune_steps,
        "seconds_left": (training.finetune_steps - step) / rate,
    }
