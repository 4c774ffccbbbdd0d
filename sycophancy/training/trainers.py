"""The trainers that the setting TRAINER can name; each is imported when it is used."""

from __future__ import annotations

import dataclasses
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from sycophancy.config.schema import Config
from sycophancy.system.terminal import unheard
from sycophancy.training.callbacks import Bucketed, Note, Report

if TYPE_CHECKING:
    from etils import epath


class Finetune(Protocol):
    """The function `finetune` that every trainer's module has."""

    def __call__(
        self,
        config: Config,
        data_dir: Path,
        out: Path,
        *,
        report: Report | None,
        note: Note,
        conclude: Note,
        bucket: Bucketed | None,
    ) -> Path:
        """Finetunes `config.model` on the prepared rows of a run; continues what `out` holds.

        Args:
          config: the run.
          data_dir: the run folder.
          out: gets the checkpoints, `metrics.jsonl` and `tensorboard/`.
          report: called with step and metrics after each logged step.
          note: called with a line while training runs.
          conclude: called at the end with a line for the stage's manifest.
          bucket: where the checkpoints go instead, if the run is in a bucket; a trainer gets
            one only if it `writes_to_buckets`.

        Returns:
          The last checkpoint's folder.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Trainer:
    """One trainer, described without importing it.

    Attributes:
      checkpoint_writer: what writes its checkpoints, in words.
      module: the module whose `finetune` trains.
      code: the modules that decide its result, with everything of this project that they import.
      gin_files: the files below `gin_configs/` that decide its result.
      writes_to_buckets: whether it can write its checkpoints to a bucket.
      requirements: the module whose `check(config, run_path)` refuses what this trainer cannot do;
        empty for a trainer that can do everything the configuration allows.
    """

    checkpoint_writer: str
    module: str
    code: tuple[str, ...]
    gin_files: tuple[str, ...] = ()
    writes_to_buckets: bool = False
    requirements: str = ""

    def check(self, config: Config, run_path: Path | epath.Path) -> None:
        """Refuses a run that this trainer cannot finetune. Imports neither JAX nor TensorFlow.

        Call this only before a finetuning, because a finetuned run needs no trainer.

        Args:
          config: the run.
          run_path: the run folder.

        Raises:
          UserError: the trainer cannot use the run folder's name or a setting, or is not installed.
        """
        from sycophancy.model import locations

        absolute = os.path.abspath(run_path) if isinstance(run_path, Path) else str(run_path)  # noqa: PTH100
        locations.check_name(absolute)
        if self.requirements:
            importlib.import_module(self.requirements).check(config, absolute)

    def load(self) -> Finetune:
        """Imports the trainer, silently, and returns its `finetune`."""
        with unheard():
            module = importlib.import_module(self.module)
        return cast(Finetune, module.finetune)


TRAINERS = {
    "jax": Trainer(
        checkpoint_writer="Orbax",
        module="sycophancy.training.trainer",
        code=("tasks", "sycophancy.training.trainer"),
        writes_to_buckets=True,
    ),
    "t5x": Trainer(
        checkpoint_writer="T5X",
        module="sycophancy.training.t5x.command",
        code=(
            "tasks",
            "sycophancy.training.t5x.recipe",
            "sycophancy.training.t5x.batches",
            "sycophancy.training.t5x.command",
            "sycophancy.training.t5x.watch",
        ),
        gin_files=("trainers/t5x.gin", "trainers/t5x_model.gin"),
        requirements="sycophancy.training.t5x.requirements",
    ),
}
