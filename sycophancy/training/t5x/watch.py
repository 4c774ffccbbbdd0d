"""What watches T5X between its steps: a journal, a lock, SIGTERM and a loss that is no number."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sycophancy.config.schema import Config
from sycophancy.errors import UserError
from sycophancy.system import lock
from sycophancy.training.t5x import recipe
from sycophancy.training.t5x.command import PARENT

PARENT_SECONDS = 1.0


class Watch:
    """T5X's action after every logged step; process 0 alone runs it.

    SIGTERM makes it ask T5X to stop, which saves first: T5X itself has no answer to SIGTERM. It
    writes `metrics.jsonl` and `tensorboard/` into the model directory as the in-tree trainer does,
    with finetuning's own step numbers. A second T5X that would write the same local directory is
    refused.

    Args:
      model_dir: T5X's.

    Raises:
      UserError: another process writes the directory.
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
            if "://" not in model_dir:  # buckets have no locks
                Path(model_dir).mkdir(parents=True, exist_ok=True)
                self._lock = lock.hold(Path(model_dir), ".t5x.lock", who="T5X, process")
                self._lock.__enter__()  # until this process ends
            self._journal = Journal(Path(model_dir), recipe.steps_done(model_dir), None)

    def _stop_with_parent(self) -> None:
        """Stops and saves when the sycophancy that started T5X is gone, as after SIGKILL."""
        parent = os.environ.get(PARENT)
        while parent is not None:
            if os.getppid() != int(parent):
                self._stop.set()
                return
            time.sleep(PARENT_SECONDS)

    def run(self, train_state: Any, metrics_by_task: Mapping[str, Mapping[str, Any]]) -> bool:
        """Writes what T5X measured since the last call; says whether to stop.

        Args:
          train_state: T5X's.
          metrics_by_task: `train` has what T5X measured, as clu's values.

        Raises:
          UserError: the loss was not finite.
        """
        step = int(train_state.step.addressable_data(0)) - self._config.model.pretrained_step
        values = {name: value.value for name, value in metrics_by_task["train"].items()}
        metrics = metrics_of(values, self._config, step)
        self._journal.write(step, metrics)
        if not math.isfinite(metrics["loss"]):
            raise UserError(
                f"the loss was not finite in the steps before {step}; the last checkpoint is from "
                "before: lower LEARNING_RATE, or use DTYPE float32"
            )
        return self._stop.is_set()


def metrics_of(values: Mapping[str, Any], config: Config, step: int) -> dict[str, float]:
    """T5X's metrics under the names of `journal.metrics_of`.

    `loss` and `z_loss` are means over steps of each batch's mean over target tokens; the in-tree
    trainer's are means over the tokens of all these steps.

    Args:
      values: T5X's metrics since the last log, scalars.
      config: the run.
      step: finetuning steps done.
    """
    training = config.training
    found = {name: float(value) for name, value in values.items()}
    rate = found["timing/steps_per_second"]
    tokens = training.batch_size * (training.input_length + training.target_length)
    examples = found.get("effective_batch_size/decoder", float(training.batch_size))
    return {
        # T5X adds up the microbatches' means.
        "loss": found["loss"] / training.microbatches,
        "z_loss": found["z_loss"] / training.microbatches,
        "accuracy": found["accuracy"],
        "learning_rate": found["learning_rate/current"],
        "examples_per_second": examples * rate,
        "tokens_per_second": found["non_padding_fraction/overall"] * tokens * rate,
        "steps": training.finetune_steps,
        "seconds_left": (training.finetune_steps - step) / rate,
    }
