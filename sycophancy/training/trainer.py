"""The in-tree trainer, from top to bottom: mesh, step function, restore, data, loop."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from sycophancy.config.schema import Config, TrainingConfig
from sycophancy.errors import UserError
from sycophancy.model import sharding
from sycophancy.model.checkpoints import orbax
from sycophancy.model.checkpoints.formats import load_checkpoint
from sycophancy.training.callbacks import Bucketed, Note, Report
from sycophancy.training.decoder_rows import check_loss_weights
from sycophancy.training.feed import Feed, open_dataset
from sycophancy.training.held_out import read_held_out
from sycophancy.training.journal import Journal, Pace, metrics_of
from sycophancy.training.preemption import Preempted, watch_sigterm
from sycophancy.training.step import GOOD, Program, TrainState, Window, empty_window, make_program
from sycophancy.training.validation import Validator, in_words

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"  # the folder of the checkpoints

# The settings that decide the stream of batches; a checkpoint is not continued with another stream.
_STREAM = (
    "mixture_or_task_name",
    "mixture_ratio",
    "input_length",
    "target_length",
    "packing",
    "batch_size",
    "seed",
)


class NonFiniteLoss(UserError):  # noqa: N818
    """The loss or a gradient was infinite or not a number; the message has the step."""


def finetune(
    config: Config,
    data_dir: Path,
    out: Path,
    *,
    report: Report | None = None,
    note: Note = logger.warning,
    conclude: Note = logger.warning,
    bucket: Bucketed | None = None,
) -> Path:
    """Finetunes `config.model` on the prepared rows in `data_dir`; continues what `out` holds.

    Args:
      config: the run.
      data_dir: the run folder; `filter/kept.parquet` and `prepare/instructions.parquet` are read.
      out: gets `checkpoints/<step>/`, `metrics.jsonl` and `tensorboard/`.
      report: called with step and metrics (`journal.metrics_of`) at every logged step.
      note: called with a line for each validation, and for each checkpoint that cannot be read and
        is left out.
      conclude: called at the end with a line for each task whose rows were left out, and for
        held-out rows that are missing.
      bucket: where the checkpoints are written instead, if the run is in a bucket.

    Returns:
      The last checkpoint's folder.

    Raises:
      Preempted: SIGTERM came; the state is saved.
      NonFiniteLoss: the loss or a gradient was not finite; the last checkpoint is older.
      UserError: the configuration, the data and the checkpoint do not fit together.
    """
    training, model, steps = config.training, config.model, config.training.finetune_steps

    # ---- mesh ------------------------------------------------------------------------------------
    shape = sharding.resolve(training.mesh, model.network, optimizer=training.optimizer)
    mesh = sharding.make_mesh(shape)

    # ---- model, optimizer, step ------------------------------------------------------------------
    program = make_program(model.network, training, mesh)

    home = Path(out).resolve() / CHECKPOINTS
    folder = bucket.address(CHECKPOINTS) if bucket else home
    with orbax.Checkpoints(folder, training.keep_checkpoints, training.keep_period) as checkpoints:
        # ---- restore, or begin -------------------------------------------------------------------
        start, state = _continued(checkpoints, program.state, training, note)
        if start >= steps:
            return home / str(start)

        # ---- data --------------------------------------------------------------------------------
        # Every process reads whole batches; the mesh decides which rows its devices need.
        batches, reading = open_dataset(training, data_dir, model, start=start, quiet=True)
        held_out, notes = read_held_out(training, data_dir, model)
        if state is None:
            state = _begun(config, program)
        journal = Journal(Path(out), start, report)
        validator = Validator(held_out, program.add_sums, mesh)
        pace = Pace(start)
        saved_at = time.monotonic()
        loss = jnp.zeros([])

        # ---- loop --------------------------------------------------------------------------------
        with journal, Feed(batches, reading) as feed, _watch() as sigterm, jax.set_mesh(mesh):
            if start % training.save_period == 0 and not _everywhere(journal.is_validated(start)):
                _validate(validator, start, state, journal, note)
            for step, batch in zip(range(start + 1, steps + 1), feed, strict=False):
                if model.is_decoder:
                    check_loss_weights(batch)
                before = loss
                state, loss = program.step(state, sharding.put_batch(batch, mesh))
                before.block_until_ready()  # the host is at most one step ahead of the devices
                pace.tick(step)

                stop = _stop(sigterm, step)
                last = step == steps
                log = step % training.log_period == 0 or last
                save = step % training.save_period == 0 or last or stop
                save = save or (log and _is_due(saved_at, training.save_minutes))
                if log or save:
                    _check_finite(state)
                if log:
                    since = (step - 1) % training.log_period + 1
                    rate = training.learning_rate
                    journal.write(step, metrics_of(state.window, rate, pace, steps, since))
                    state = state._replace(window=_fresh_window(mesh))
                if save and (last or not stop):  # after SIGTERM, time may suffice only for the save
                    with pace.paused():
                        _validate(validator, step, state, journal, note)
                if save and bucket:
                    bucket.publish()  # a checkpoint's journal is there before it
                if save:
                    _save(checkpoints, step, state, config)
                    saved_at = time.monotonic()
                if stop and not last:
                    checkpoints.wait()
                    raise Preempted(step, steps)
            for line in [*feed.notes, *notes]:
                conclude(line)
        checkpoints.wait()
        return home / str(steps)


def _begun(config: Config, program: Program) -> TrainState:
    """The state before the first step, on the devices."""
    params = load_checkpoint(config.model)
    return program.start(sharding.put(params, sharding.shardings_of(program.state.params)))


def _continued(
    checkpoints: orbax.Checkpoints,
    expected: TrainState,
    training: TrainingConfig,
    note: Note,
) -> tuple[int, TrainState | None]:
    """Restores the newest readable checkpoint to the devices, and moves newer, damaged ones aside.

    Returns:
      The checkpoint's step and state. The state is None for a checkpoint of the last step, which is
      not read; (0, None) if there is no checkpoint.

    Raises:
      UserError: there are checkpoints but none is readable, or the stream of batches has changed.
    """
    damaged: list[orbax.Damaged] = []
    for step in checkpoints.steps():
        try:
            about = checkpoints.check(step)
            state = None
            if step < training.finetune_steps:
                _check_stream(checkpoints.path(step), about, training)
                state = _restored(checkpoints, step, expected)
        except orbax.Damaged as error:
            damaged.append(error)
            continue
        for problem in damaged:
            place = checkpoints.set_aside(problem.step)
            if jax.process_index() == 0:
                reason = str(problem).removesuffix(f"; {orbax.CONTINUE_WITHOUT}")
                note(f"{reason}; it is now {place}, and step {step} is continued from")
        return step, state
    if damaged:
        raise damaged[0]
    return 0, None


def _restored(checkpoints: orbax.Checkpoints, step: int, expected: TrainState) -> TrainState:
    """A saved state on the devices of `expected`, which may be another mesh than before."""
    rest = expected._asdict()
    params, rest = checkpoints.restore(step, rest.pop("params"), rest)
    return TrainState(params=params, **rest)


def _check_stream(folder: epath.Path, about: Mapping[str, Any], training: TrainingConfig) -> None:
    """Refuses to continue a checkpoint with another stream of batches.

    Raises:
      UserError: the message names the setting that has changed.
    """
    saved = about.get("stream", {})
    for name, now in _stream(training).items():
        if saved.get(name) != now:
            raise UserError(
                f"{folder} was trained with {name} = {saved.get(name)}, now it is {now}: the "
                "batches would differ; start another run, or delete this run's finetune folder"
            )


def _save(checkpoints: orbax.Checkpoints, step: int, state: TrainState, config: Config) -> None:
    rest = state._asdict()
    about = orbax.metadata(
        config.model.network,
        step,
        pretrained_step=config.model.pretrained_step,
        model=config.model.name,
        stream=_stream(config.training),
    )
    checkpoints.save(step, rest.pop("params"), rest, about)


def _stream(training: TrainingConfig) -> dict[str, Any]:
    """The settings that decide the stream of batches, as JSON returns them."""
    settings = {name: getattr(training, name) for name in _STREAM}
    return settings | {"mixture_ratio": list(training.mixture_ratio)}


def _watch() -> contextlib.AbstractContextManager[Event]:
    """Watches for SIGTERM in a single process; with several, JAX does, and informs all of them."""
    return watch_sigterm() if jax.process_count() == 1 else contextlib.nullcontext(Event())


def _stop(sigterm: Event, step: int) -> bool:
    """Whether to stop after this step; the answer is the same in every process."""
    if jax.process_count() == 1:
        return sigterm.is_set()
    return bool(multihost_utils.reached_preemption_sync_point(step))


def _validate(
    validator: Validator, step: int, state: TrainState, journal: Journal, note: Note
) -> None:
    """Measures the parameters on the held-out rows, if there are any, and writes the metrics."""
    metrics = validator.measure(state.params)
    if metrics:
        journal.write_validation(step, metrics)
        if jax.process_index() == 0:
            note(in_words(step, metrics))


def _everywhere(value: bool) -> bool:
    """The `value` of process 0, in every process."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def _is_due(saved_at: float, minutes: float | None) -> bool:
    """Whether SAVE_MINUTES have passed since the last save, by the clock of process 0."""
    if minutes is None:
        return False
    return _everywhere(time.monotonic() - saved_at >= 60 * minutes)


def _check_finite(state: TrainState) -> None:
    bad = int(state.first_bad_step)
    if bad != GOOD:
        raise NonFiniteLoss(
            f"the loss or a gradient was not finite at step {bad + 1}; the last checkpoint is from "
            "before: lower LEARNING_RATE, or use DTYPE float32"
        )


def _fresh_window(mesh: jax.sharding.Mesh) -> Window:
    """A window whose sums are zero, on the devices."""
    everywhere = sharding.replicated(mesh)
    empty = empty_window()
    window: Window = sharding.put(empty, jax.tree.map(lambda _: everywhere, empty))
    return window
