"""What trainers/t5x*.gin refer to: a recipe's macros as T5X's classes take them.

gin calls these in T5X's own process. They see the macros through gin's global configuration, check
them as the in-tree trainer does, and fill in the same defaults. T5X itself is imported where it is
used, because the package works without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import gin

from sycophancy.config import load, macros
from sycophancy.config.schema import Config, Lengths, ModelConfig
from sycophancy.errors import UserError

logger = logging.getLogger(__name__)


def configuration() -> Config:
    """The configuration that the macros of gin's global configuration make.

    Raises:
      UserError: a macro does not fit, or one that a model's gin file must set is missing.
    """
    found = {
        name: macros.Setting("t5x", "the default") for name in ("MODEL_NAME", "RECIPE", "TRAINER")
    }
    for name in load.macro_types():
        with contextlib.suppress(ValueError):  # nobody set it
            gin.query_parameter(f"%{name}")
            value = gin.get_configurable(f"{name}/gin.macro")()
            found[name] = macros.Setting(value, f"the gin macro {name}")
    return load.load_operative("", "T5X's gin files", overrides=found)


def setting() -> Any:
    """The macro whose name is the scope of the call: `@BATCH_SIZE/setting()` is BATCH_SIZE."""
    return load.macro_values(configuration())[gin.current_scope()[-1]]


def total_steps() -> int:
    """T5X's last step, which counts pretraining: PRETRAINED_STEP + FINETUNE_STEPS."""
    found = configuration()
    return found.model.pretrained_step + found.training.finetune_steps


def num_partitions() -> int:
    """Devices that share a matrix: the last size of MESH.

    Raises:
      UserError: MESH does not fit the devices.
    """
    import jax

    from sycophancy.model import sharding

    found = configuration()
    shape = sharding.resolve(found.training.mesh, found.model.network)
    mesh = sharding.make_mesh(shape, jax.devices())
    return int(mesh.shape["model"])


def parameter_partitioning_dims() -> int:
    """2, which splits parameters over the data axis too, if MESH asks for fsdp; else 1.

    T5X has no third axis: with fsdp, parameters are split over data x fsdp devices.
    """
    return 1 if configuration().training.mesh[1] == 1 else 2


def mixture() -> str:
    """MIXTURE_OR_TASK_NAME, registered: SeqIO knows a `sycophancy_mix_{A}to{B}` once it is asked.

    Raises:
      UserError: there is no such task or mixture.
    """
    from sycophancy.training.seqio_tasks import tasks

    name = configuration().training.mixture_or_task_name
    tasks.get(name)
    return name


def evaluation(task: str = "sycophancy_eval") -> str:
    """The name of an evaluation task or mixture, checked.

    Raises:
      UserError: there is no such task or mixture.
    """
    from sycophancy.training.seqio_tasks import tasks

    tasks.get(task)
    return task


def vocabulary() -> Any:
    """The vocabulary of the tasks, which the model must have too: T5X compares them."""
    from sycophancy.training.seqio_tasks import tasks

    return tasks.features.RunVocabulary()


def get_dataset(
    cfg: Any,
    shard_id: int,
    num_shards: int,
    feature_converter_cls: Callable[..., Any],
    num_epochs: int | None = None,
    continue_from_last_checkpoint: bool = False,
    *,
    model_dir: str = "",
) -> Any:
    """The in-tree trainer's batches, from the last checkpoint's step on; T5X's `get_dataset_fn`.

    The stream is a function of the recipe, the files and the seed (`feed.py`), so a restart needs
    the step and no iterator state. SeqIO's own data set cannot be saved by T5X: its rows come from
    a Python generator.

    Args:
      cfg: T5X's DatasetConfig.
      shard_id: which part of every batch.
      num_shards: of how many.
      feature_converter_cls: not used; packing is ours, and equal.
      num_epochs: not used; the stream is endless.
      continue_from_last_checkpoint: not used; it always does.
      model_dir: where T5X keeps the run's checkpoints.

    Returns:
      An iterator of clu over numpy batches of (batch_size / num_shards, length), int32.

    Raises:
      UserError: an unknown mixture, a missing file, or a batch the shards cannot share.
    """
    del feature_converter_cls, num_epochs, continue_from_last_checkpoint
    from sycophancy.training.feed import open_dataset
    from sycophancy.training.seqio_tasks import tasks
    from sycophancy.training.t5x.batches import Batches

    training = dataclasses.replace(
        configuration().training,
        mixture_or_task_name=cfg.mixture_or_task_name,
        task_feature_lengths=Lengths(**cfg.task_feature_lengths),
        batch_size=cfg.batch_size,
        packing=cfg.pack,
        seed=cfg.seed,
    )
    start = steps_done(model_dir)
    logger.info("batches from step %d of the finetuning on", start)
    dataset, told = open_dataset(
        training,
        tasks.location.data_dir(),
        tasks.location.vocabulary(),
        start=start,
        process_index=shard_id,
        process_count=num_shards,
    )
    return Batches(dataset, told)


def steps_done(model_dir: str) -> int:
    """Finetuning steps of the last checkpoint in T5X's model directory; 0 if there is none.

    Raises:
      UserError: the checkpoint is from before PRETRAINED_STEP.
    """
    from t5x import checkpoints

    pretrained = configuration().model.pretrained_step
    latest = checkpoints.latest_step(model_dir)
    if latest is None:
        return 0
    if latest < pretrained:
        raise UserError(
            f"MODEL_DIR {model_dir} holds checkpoint_{latest}, from before PRETRAINED_STEP "
            f"{pretrained}; name another folder with --gin.MODEL_DIR"
        )
    return int(latest) - pretrained


def is_t5x_checkpoint(model: ModelConfig) -> bool:
    """Whether INITIAL_CHECKPOINT_PATH is a checkpoint that T5X itself can start from.

    Raises:
      UserError: it is, and of another step than PRETRAINED_STEP.
    """
    from etils import epath

    from sycophancy.model.checkpoints import folders

    given = epath.Path(model.checkpoint)
    step = folders.step_in_name(given)
    if step is None or not folders.is_t5x(given):
        return False
    if step != model.pretrained_step:
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {given} is from step {step}, but PRETRAINED_STEP is "
            f"{model.pretrained_step}; set PRETRAINED_STEP to {step}"
        )
    return True


def initial_checkpoint(model_dir: str) -> str:
    """INITIAL_CHECKPOINT_PATH as T5X can read it: itself, or converted once.

    A checkpoint in another format is written to `MODEL_DIR/initial/checkpoint_<PRETRAINED_STEP>`,
    whole or not at all, with the optimizer's moments zero: at the first step their decay is 0, so
    whatever they were is overwritten.

    Raises:
      UserError: there is no checkpoint, or T5X's own has another step than PRETRAINED_STEP.
    """
    from etils import epath

    from sycophancy.model.checkpoints.convert import convert

    model = configuration().model
    if is_t5x_checkpoint(model):
        return model.checkpoint
    converted = epath.Path(model_dir) / "initial" / f"checkpoint_{model.pretrained_step}"
    if not converted.exists() and not _has_begun(model_dir):
        # In every process: Orbax waits for all of them, and lets the first one write.
        convert(
            model.checkpoint,
            os.fspath(converted),
            "t5x",
            network=model.network,
            step=model.pretrained_step,
        )
    return os.fspath(converted)


def _has_begun(model_dir: str) -> bool:
    """Whether T5X has a checkpoint of its own, and will not look at the initial one."""
    from t5x import checkpoints

    return checkpoints.latest_step(model_dir) is not None


def evaluation_lengths(task: str = "sycophancy_eval") -> Mapping[str, int]:
    """The longest prompt and choice of evaluation tasks, in tokens; T5X cuts what is longer.

    Args:
      task: an evaluation task or a mixture of them.

    Returns:
      {"inputs", "targets"}, rounded up to multiples of 8.
    """
    import seqio

    from sycophancy.training.seqio_tasks import tasks

    longest = {"inputs": 8, "targets": 8}
    for part in seqio.get_subtasks(tasks.get(task)):
        rows = part.get_dataset(None, split="validation", shuffle=False)
        for row in rows.as_numpy_iterator():
            for name in longest:
                longest[name] = max(longest[name], -(-len(row[name]) // 8) * 8)
    return longest
