"""The stage `finetune`: trains on the kept claims, mixed with instructions."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from sycophancy.config import macros
from sycophancy.config.declarations import result_settings
from sycophancy.config.schema import TrainingConfig
from sycophancy.engine.stage import Counts, Inputs, Stage
from sycophancy.errors import UserError
from sycophancy.stages.checks import (
    check_batch_memory,
    check_lengths,
    check_mesh,
    check_model,
    check_platform,
    check_trainable,
)
from sycophancy.stages.memory import enough_memory
from sycophancy.stages.models import model_files
from sycophancy.stages.settings import NETWORK
from sycophancy.training.callbacks import Bucketed
from sycophancy.training.trainers import TRAINERS

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config, ModelConfig
    from sycophancy.engine.progress import Meter
    from sycophancy.engine.run_folder import RunFolder


def _check_trainer(config: Config, run: RunFolder) -> None:
    trainer = TRAINERS[config.trainer]
    trainer.check(config, run.path)
    if run.copy is None or (trainer.writes_to_buckets and run.copy.bucket.takes_checkpoints):
        return
    raise UserError(
        f"{run.shown(run.path)}: {trainer.checkpoint_writer} cannot write checkpoints there; name "
        "a local folder with --out, or use --trainer jax and a folder in gs://"
    )


class Finetune(Stage):
    """Finetune on the kept claims, mixed with instructions."""

    name = command = "finetune"
    depends_on = ("prepare", "filter")
    unit = "steps"
    settings = NETWORK | {"DTYPE", "TRAINER"} | result_settings(TrainingConfig)
    checks = (
        check_trainable,
        _check_trainer,
        check_lengths,
        check_platform,
        check_model,
        check_mesh,
        check_batch_memory,
    )
    step_setting = "FINETUNE_STEPS"
    checkpoints = (r"checkpoints/\d+", r"checkpoint_\d+")
    unverified = ("tensorboard", "train", "t5x*.log", "damaged")

    def inputs(self, config: Config, run: RunFolder) -> Inputs:
        rows = ("filter/kept.parquet", "prepare/instructions.parquet")
        gin_files = TRAINERS[config.trainer].gin_files
        return {
            **{name: run.path / name for name in rows},
            **{name: macros.root() / name for name in gin_files},
            **model_files(config.model),
        }

    def modules(self, config: Config) -> tuple[str, ...]:
        """The stage's own module and those of the trainer, which only the table names."""
        return (*super().modules(config), *TRAINERS[config.trainer].code)

    def work(self, config: Config, run: RunFolder, out: Any, meter: Meter) -> Counts:
        notes: list[str] = []
        finetune = TRAINERS[config.trainer].load()
        bucket = None if run.copy is None else Bucketed(run.shown(out), run.publish)
        with enough_memory():
            last = finetune(
                config,
                run.path,
                out,
                report=meter.report,
                note=meter.note,
                conclude=notes.append,
                bucket=bucket,
            )
        return {
            "steps": config.training.finetune_steps,
            "checkpoint": str(last.relative_to(out.resolve())),
            "notes": notes,
        }


def finetuned_model(config: Config, run: RunFolder) -> ModelConfig:
    """The run's model with the checkpoint that finetuning left.

    Raises:
        UserError: the run is not finetuned.
    """
    manifest = run.manifest("finetune")
    if manifest is None:
        raise UserError(f"{run.path} has no finetuned checkpoint; run `sycophancy finetune` first")
    checkpoint = run.stage("finetune") / manifest["counts"]["checkpoint"]
    return dataclasses.replace(config.model, checkpoint=str(checkpoint))
