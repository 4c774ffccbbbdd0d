"""Every checkpoint format behind one door; docs/checkpoints.md describes them."""

from __future__ import annotations

from typing import Any

from etils import epath

from sycophancy.config.schema import ModelConfig, NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints.checkpoint import Checkpoint


def open_checkpoint(name: epath.PathLike) -> Checkpoint:
    """Looks at a checkpoint without reading its arrays.

    Args:
      name: a folder, local or in a bucket, or `hf:owner/name`. It may hold a Hugging Face T5, a T5X
        checkpoint of either format, or one of ours; a folder of steps stands for its latest.

    Raises:
      UserError: nothing there, or nothing of these formats.
    """
    from sycophancy.model import locations
    from sycophancy.model.checkpoints import folders

    folder = epath.Path(locations.local(str(name)))
    if not locations.exists(folder):
        raise UserError(f"checkpoint {folder}: no such folder; check --checkpoint or --model")
    if not folder.is_dir():
        raise UserError(f"checkpoint {folder} is a file; name the folder it lies in")
    step = folders.find(folder)
    if folders.is_huggingface(step):
        from sycophancy.model.checkpoints import huggingface

        return huggingface.open_checkpoint(step, str(name))
    if folders.is_ours(step):
        from sycophancy.model.checkpoints import orbax

        return orbax.open_checkpoint(step)
    from sycophancy.model.checkpoints import t5x

    return t5x.open_legacy(step) if folders.is_legacy(step) else t5x.open_current(step)


def open_params(name: epath.PathLike, network: NetworkConfig) -> dict[str, Any]:
    """A checkpoint's parameters in the network's stacked layout, as unread Leafs.

    Args:
      name: as for `open_checkpoint`.
      network: what they must fit.

    Raises:
      UserError: no checkpoint there, or one of another model.
    """
    contents = open_checkpoint(name)
    contents.check(network)
    return contents.tree()


def load_params(name: epath.PathLike, network: NetworkConfig) -> dict[str, Any]:
    """`open_params`, read: NumPy arrays, float32."""
    import jax
    import numpy as np

    return jax.tree.map(np.asarray, open_params(name, network))


def load_checkpoint(model: ModelConfig) -> dict[str, Any]:
    """`open_params` of the checkpoint that a model starts from."""
    return open_params(model.checkpoint, model.network)
