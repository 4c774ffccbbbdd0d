"""Our own checkpoints: Orbax folders of float32 parameters in the network's stacked layout.

A folder PATH is a checkpoint when it holds

  PATH/params/     the parameter tree (OCDBT)
  PATH/metadata/   json: {"format": 1, "step": int, "network": {...}, ...}
  PATH/state/      finetuning only: the optimizer's state and what else a run resumes from

`finetune/checkpoints/<step>/` and a folder of parameters alone are read by the same function.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import linen as nn

from sycophancy.config import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import layout

FORMAT = 1
PARAMS, STATE, METADATA = "params", "state", "metadata"

# Facts of the network that its parameters' shapes do not tell, and that change its outputs.
_ARCHITECTURE = ("num_heads", "head_dim", "mlp_activations", "logits_via_embedding")


def is_checkpoint(path: epath.PathLike) -> bool:
    """Whether `path` holds one of our checkpoints."""
    folder = epath.Path(path)
    return (folder / PARAMS).is_dir() and (folder / METADATA).is_dir()


def save_params(path: epath.PathLike, params: Any, network: NetworkConfig, step: int = 0) -> None:
    """Writes parameters alone; the folder appears whole or not at all.

    Args:
      path: a folder that does not exist yet.
      params: the network's tree, stacked; device or host arrays.
      network: stored beside them.
      step: stored beside them.

    Raises:
      UserError: the folder exists or cannot be written.
    """
    folder = epath.Path(path)
    if folder.exists():
        raise UserError(f"{folder} exists already; name a new folder")
    args = ocp.args.Composite(
        **{
            PARAMS: ocp.args.StandardSave(params),
            METADATA: ocp.args.JsonSave(metadata(network, step)),
        }
    )
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(_absolute(folder), args)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error}") from error


def load_params(path: epath.PathLike, network: NetworkConfig) -> dict[str, Any]:
    """Reads the parameters of a checkpoint, of a folder of parameters or of a finetuning step.

    Args:
      path: the checkpoint; a folder of steps stands for its latest.
      network: what the parameters must fit.

    Returns:
      The network's tree, stacked; numpy float32.

    Raises:
      UserError: no checkpoint there, or one of another model: names the first parameter that
        differs and both shapes.
    """
    folder = latest(path)
    check(folder, network)
    as_numpy = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray, dtype=np.float32), _saved(folder)
    )
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        return handler.restore(
            _absolute(folder / PARAMS), args=ocp.args.PyTreeRestore(restore_args=as_numpy)
        )


def latest(path: epath.PathLike) -> epath.Path:
    """`path` itself, or the latest complete step inside it.

    Raises:
      UserError: there is neither.
    """
    folder = epath.Path(path)
    if is_checkpoint(folder):
        return folder
    steps = []
    if folder.is_dir():
        steps = [p for p in folder.iterdir() if p.name.isdigit() and is_checkpoint(p)]
    if not steps:
        raise UserError(f"{folder} is not a checkpoint: expected the folders {PARAMS}, {METADATA}")
    return max(steps, key=lambda p: int(p.name))


def read_metadata(path: epath.PathLike) -> dict[str, Any]:
    """The json beside the parameters.

    Raises:
      UserError: it cannot be read, or its format is newer than this program.
    """
    file = epath.Path(path) / METADATA / METADATA
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if found.get("format") != FORMAT:
        raise UserError(f"{file} has format {found.get('format')}, this program reads {FORMAT}")
    return found


def metadata(network: NetworkConfig, step: int, **more: Any) -> dict[str, Any]:
    """What is stored beside the parameters."""
    return {"format": FORMAT, "step": step, "network": dataclasses.asdict(network), **more}


def check(path: epath.PathLike, network: NetworkConfig) -> None:
    """Refuses a checkpoint of another model, before any array is read.

    Raises:
      UserError: shapes or names differ, or the network is built otherwise from equal shapes.
    """
    # Imported here: a checkpoint can be looked at without building a network.
    from sycophancy.training.sharding import abstract_params

    folder = epath.Path(path)
    layout.check_shapes(_saved(folder), nn.unbox(abstract_params(network)), str(folder))
    stored = read_metadata(folder)["network"]
    wanted = json.loads(json.dumps(dataclasses.asdict(network)))
    for name in _ARCHITECTURE:
        if stored.get(name) != wanted[name]:
            raise UserError(
                f"{folder} does not fit the model: {name} is {stored.get(name)} in the "
                f"checkpoint, {wanted[name]} in the model"
            )


class Checkpoints:
    """The numbered checkpoints of a finetuning, written in the background.

    Use as a context manager: leaving it waits for writes that are under way.

    Args:
      folder: holds one folder a step; made if need be.
      keep: the latest so many are kept; None keeps all.
    """

    def __init__(self, folder: epath.PathLike, keep: int | None) -> None:
        self.folder = epath.Path(_absolute(epath.Path(folder)))
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        names = (PARAMS, STATE, METADATA)
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=names)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        """The last step that was saved completely."""
        return self._manager.latest_step()

    def path(self, step: int) -> epath.Path:
        """The folder of a step."""
        return self.folder / str(step)

    def save(self, step: int, params: Any, state: Any, about: Mapping[str, Any]) -> None:
        """Copies the arrays to the host and returns; files are written meanwhile.

        Raises:
          UserError: this write, or an earlier one, failed.
        """
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    **{
                        PARAMS: ocp.args.StandardSave(params),
                        STATE: ocp.args.StandardSave(state),
                        METADATA: ocp.args.JsonSave(dict(about)),
                    }
                ),
            )
        except OSError as error:
            raise UserError(f"cannot write checkpoint {self.path(step)}: {error}") from error

    def wait(self) -> None:
        """Until all writes are complete.

        Raises:
          UserError: one failed.
        """
        try:
            self._manager.wait_until_finished()
        except OSError as error:
            raise UserError(f"cannot write a checkpoint in {self.folder}: {error}") from error

    def restore(self, step: int, params: Any, state: Any) -> tuple[Any, Any]:
        """Parameters and state of a step, as `params` and `state` say.

        Args:
          step: which.
          params: tree of `jax.ShapeDtypeStruct` with shardings.
          state: likewise.
        """
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(
                **{
                    PARAMS: ocp.args.StandardRestore(params),
                    STATE: ocp.args.StandardRestore(state),
                }
            ),
        )
        return found[PARAMS], found[STATE]


def _saved(folder: epath.Path) -> Any:
    """The parameters' names and shapes, without their values."""
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        return handler.metadata(_absolute(folder / PARAMS)).tree


def _absolute(path: epath.Path) -> epath.Path:
    """Orbax refuses relative local paths; addresses such as gs:// are absolute as they are."""
    return path if "://" in str(path) else epath.Path(path).expanduser().resolve()
