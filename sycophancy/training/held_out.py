"""The held-out rows on which a finetuning is validated, read once into the host's memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import seqio

from sycophancy.config.schema import ModelConfig, TrainingConfig
from sycophancy.errors import UserError
from sycophancy.training.feed import converter, quiet_seqio, single_thread
from sycophancy.training.seqio_tasks import tasks
from sycophancy.training.validation import HeldOut

SEED = 0  # of the order of held-out rows, so that runs with different seeds have the same rows
# A validation takes at most one batch for every 16 steps between two saves. A forward pass costs
# about a third of a training step, so all validations take about 2% of the training time, and 3%
# with the one before the first step.
STEPS_PER_BATCH = 16
MOST_BATCHES = 100  # a limit for the host's memory

_KINDS = {
    tasks.intervention.NAME: "intervention",
    tasks.instructions.NAME: "instructions",
}


def read_held_out(
    training: TrainingConfig, data_dir: Path | str, model: ModelConfig
) -> tuple[list[HeldOut], list[str]]:
    """The held-out rows of every kind that the training mixture draws.

    The kinds share the budget of batches (`STEPS_PER_BATCH`) equally. If a kind has more rows than
    fit, rows are taken in a random order that is the same at every start.

    The held-out claims are not filtered: unlike the claims for training, the model may not know
    whether they are true.

    Args:
      training: the recipe.
      data_dir: the run folder.
      model: as for `feed.open_dataset`.

    Returns:
      One entry for each kind, and notes. If a kind has no rows, there are no entries and a note
      says why, because a total over the other kind would not be comparable with the training loss.
    """
    parts, notes = [], []
    batch_size = training.batch_size // training.microbatches
    batches = min(max(training.save_period // STEPS_PER_BATCH, 1), MOST_BATCHES)
    budget = batches * training.microbatches  # in batches of `batch_size`
    with (
        tasks.reading(
            data_dir, model.vocabulary, training.mixture_ratio, chat=model.chat
        ) as reading,
        quiet_seqio(True),
    ):
        reading.quiet = True
        rates = _rates(training.mixture_or_task_name)
        for task, rate in rates.items():
            kind = _KINDS.get(task, task)
            try:
                batches_read = _read(
                    task, training, model, batch_size, math.ceil(budget / len(rates))
                )
            except UserError as error:
                notes.append(f"no validation: {error}")
                continue
            parts.append(HeldOut(kind, rate, batches_read))
    notes += [f"validation: {part}" for part in reading.left_out if part.ids]
    return ([] if len(parts) < len(rates) else parts), notes


def _rates(name: str) -> dict[str, float]:
    """The tasks of a mixture that it draws from, and their rates; a task alone has rate 1."""
    provider = tasks.get(name)
    if not isinstance(provider, seqio.Mixture):
        return {name: 1.0}
    rates = {task.name: float(provider.get_rate(task)) for task in provider.tasks}
    names = [*(task for task in _KINDS if task in rates), *(rates.keys() - _KINDS.keys())]
    return {task: rates[task] for task in names if rates[task] > 0}


def _read(
    task: str, training: TrainingConfig, model: ModelConfig, batch_size: int, most: int
) -> tuple[Mapping[str, np.ndarray], ...]:
    """At most `most` batches of a task's held-out rows.

    Raises:
      UserError: the task has no held-out rows that fit the feature lengths.
    """
    provider = tasks.get(task)
    if "validation" not in provider.splits:
        raise UserError(f"the task {task} has no split called validation")
    dataset = seqio.get_dataset(
        provider,
        {"inputs": training.input_length, "targets": training.target_length},
        converter(training.packing, model),
        dataset_split="validation",
        shuffle=True,
        seed=SEED,
        num_epochs=1,
        verbose=False,
    )
    rows = list(dataset.take(most * batch_size).with_options(single_thread()).as_numpy_iterator())
    if not rows:
        raise UserError(f"the task {task} has no held-out rows")
    return tuple(
        _filled(rows[start : start + batch_size], batch_size)
        for start in range(0, len(rows), batch_size)
    )


def _filled(rows: list[dict[str, np.ndarray]], batch_size: int) -> dict[str, np.ndarray]:
    """One batch, with rows of padding after the last of `rows`."""
    padding = [(0, batch_size - len(rows)), (0, 0)]
    return {name: np.pad(np.stack([row[name] for row in rows]), padding) for name in rows[0]}
