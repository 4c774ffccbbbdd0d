"""The functions that trainers/t5x*.gin refer to: they give T5X's classes a recipe's settings.

gin calls them in T5X's process. They read the macros from gin's global configuration, check them
and use defaults as the in-tree trainer does. T5X is imported inside the functions that need it,
because this package works without T5X.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import gin

from sycophancy.config import load, macros
from sycophancy.config.schema import Config, Lengths, ModelConfig
from sycophancy.errors import UserError

if TYPE_CHECKING:
    import seqio
    from t5x.utils import DatasetConfig

    from sycophancy.training.t5x.batches import Batches

logger = logging.getLogger(__name__)


def configuration() -> Config:
    """The configuration of the macros in gin's global configuration.

    Raises:
      UserError: a macro's value is wrong, or a macro that a model's gin file must set is missing.
    """
    settings = {
        name: macros.Setting("t5x", "the default") for name in ("MODEL_NAME", "RECIPE", "TRAINER")
    }
    for name in load.macro_types():
        with contextlib.suppress(ValueError):  # the macro is not set
            gin.query_parameter(f"%{name}")
            value = gin.get_configurable(f"{name}/gin.macro")()
            settings[name] = macros.Setting(value, f"the gin macro {name}")
    return load.load_operative("", "T5X's gin files", overrides=settings)


def setting() -> object:
    """The value of the macro that the call's scope names: `@BATCH_SIZE/setting()` is BATCH_SIZE."""
    return load.macro_values(configuration())[gin.current_scope()[-1]]


def total_steps() -> int:
    """The number of T5X's last step, PRETRAINED_STEP + FINETUNE_STEPS."""
    config = configuration()
    return config.model.pretrained_step + config.training.finetune_steps


def num_partitions() -> int:
    """The number of devices that a matrix is split over: the last size of MESH.

    Raises:
      UserError: MESH does not fit the devices.
    """
    import jax

    from sycophancy.model import sharding

    config = configuration()
    shape = sharding.resolve(config.training.mesh, config.model.network)
    mesh = sharding.make_mesh(shape, jax.devices())
    return int(mesh.shape["model"])


def parameter_partitioning_dims() -> int:
    """The number of mesh axes over which T5X splits parameters: 2 if MESH has fsdp, else 1.

    T5X's mesh has no fsdp axis. With 2, it splits parameters over its data axis too, which has all
    devices of data and fsdp.
    """
    return 1 if configuration().training.mesh[1] == 1 else 2


def mixture() -> str:
    """MIXTURE_OR_TASK_NAME; a name such as `sycophancy_mix_7to3` is registered with SeqIO first.

    Raises:
      UserError: there is no task or mixture of this name.
    """
    from sycophancy.training.seqio_tasks import tasks

    name = configuration().training.mixture_or_task_name
    tasks.get(name)
    return name


def evaluation(task: str = "sycophancy_eval") -> str:
    """Returns the name of an evaluation task or mixture after checking it.

    Raises:
      UserError: there is no task or mixture of this name.
    """
    from sycophancy.training.seqio_tasks import tasks

    tasks.get(task)
    return task


def vocabulary() -> seqio.SentencePieceVocabulary:
    """The vocabulary of the tasks, for T5X's model: T5X requires the two to be equal."""
    from sycophancy.training.seqio_tasks import tasks

    run_vocabulary: seqio.SentencePieceVocabulary = tasks.features.RunVocabulary()
    return run_vocabulary


def get_dataset(
    cfg: DatasetConfig,
    shard_id: int,
    num_shards: int,
    feature_converter_cls: type[seqio.FeatureConverter],
    num_epochs: int | None = None,
    continue_from_last_checkpoint: bool = False,
    *,
    model_dir: str = "",
) -> Batches:
    """T5X's `get_dataset_fn`: the in-tree trainer's batches, from the last checkpoint's step on.

    The stream of batches depends only on the recipe, the files and the seed (`feed.py`), so a
    restart needs the step and no iterator state. T5X could not save the state of the data set,
    because its rows come from a Python generator.

    Args:
      cfg: T5X's DatasetConfig.
      shard_id: which part of every batch to return.
      num_shards: the number of parts.
      feature_converter_cls: not used; this package's own packing produces the same rows.
      num_epochs: not used; the stream is endless.
      continue_from_last_checkpoint: not used; the stream always continues.
      model_dir: T5X's folder of checkpoints.

    Returns:
      A clu iterator over NumPy batches of (batch_size / num_shards, length), int32.

    Raises:
      UserError: the mixture is unknown, a file is missing, or the batch size does not divide by
        `num_shards`.
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
    dataset, reading = open_dataset(
        training,
        tasks.location.data_dir(),
        dataclasses.replace(configuration().model, vocabulary=tasks.location.vocabulary()),
        start=start,
        process_index=shard_id,
        process_count=num_shards,
    )
    return Batches(dataset, reading)


def steps_done(model_dir: str) -> int:
    """The finetuning steps of the last checkpoint in T5X's model directory; 0 without a checkpoint.

    Raises:
      UserError: the checkpoint's step is below PRETRAINED_STEP.
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
    """Whether INITIAL_CHECKPOINT_PATH is a checkpoint in a format of T5X.

    Raises:
      UserError: it is, but its step is not PRETRAINED_STEP.
    """
    from etils import epath

    from sycophancy.model.checkpoints import folders

    folder = epath.Path(model.checkpoint)
    step = folders.step_in_name(folder)
    if step is None or not folders.is_t5x(folder):
        return False
    if step != model.pretrained_step:
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {folder} is from step {step}, but PRETRAINED_STEP is "
            f"{model.pretrained_step}; set PRETRAINED_STEP to {step}"
        )
    return True


def initial_checkpoint(model_dir: str) -> str:
    """The checkpoint from which T5X starts: INITIAL_CHECKPOINT_PATH, or a converted copy of it.

    A checkpoint in another format is converted once, to
    `MODEL_DIR/initial/checkpoint_<PRETRAINED_STEP>`. The optimizer's moments are zero in the copy;
    their decay is 0 at the first step, which overwrites them.

    Raises:
      UserError: there is no checkpoint, or it is T5X's and its step is not PRETRAINED_STEP.
    """
    from etils import epath

    from sycophancy.model.checkpoints.convert import convert

    model = configuration().model
    if is_t5x_checkpoint(model):
        return model.checkpoint
    converted = epath.Path(model_dir) / "initial" / f"checkpoint_{model.pretrained_step}"
    if not converted.exists() and not _has_begun(model_dir):
        # In every process, because Orbax waits for all of them; process 0 writes.
        convert(
            model.checkpoint,
            os.fspath(converted),
            "t5x",
            network=model.network,
            step=model.pretrained_step,
        )
    return os.fspath(converted)


def _has_begun(model_dir: str) -> bool:
    """Whether T5X has saved a checkpoint; it then does not read the initial one."""
    from t5x import checkpoints

    return checkpoints.latest_step(model_dir) is not None


def evaluation_lengths(task: str = "sycophancy_eval") -> Mapping[str, int]:
    """The lengths of the longest prompt and the longest choice, so that T5X truncates none.

    Args:
      task: an evaluation task or a mixture of such tasks.

    Returns:
      Tokens of `inputs` and of `targets`, rounded up to multiples of 8.
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
