"""Opens a checkpoint of any format; docs/checkpoints.md describes the formats."""

from __future__ import annotations

from etils import epath

from sycophancy.config.schema import ModelConfig, Network
from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.checkpoints import families, folders, weights
from sycophancy.model.checkpoints.checkpoint import Checkpoint
from sycophancy.model.parameters import ParameterTree


def open_checkpoint(name: epath.PathLike) -> Checkpoint:
    """Opens a checkpoint without reading its arrays.

    Args:
      name: a folder, local or in a bucket, or `hf:owner/name`. It may hold a Hugging Face T5 or
        decoder-only model, a T5X checkpoint of either format, or a checkpoint of this package. Of a
        folder that holds a checkpoint for each of several steps, the newest is opened.

    Raises:
      UserError: there is no checkpoint, or it has none of these formats.
    """
    folder = epath.Path(locations.local(str(name)))
    if not locations.exists(folder):
        raise UserError(f"checkpoint {folder}: no such folder; check --checkpoint or --model")
    if not folder.is_dir():
        raise UserError(f"checkpoint {folder} is a file; name its folder")
    step = folders.find(folder)
    if folders.is_huggingface(step):
        from sycophancy.model.checkpoints import decoder_folder, huggingface

        if families.is_supported(weights.read_json(step, folders.CONFIG)):
            return decoder_folder.open_checkpoint(step, str(name))
        return huggingface.open_checkpoint(step, str(name))
    if folders.is_ours(step):
        from sycophancy.model.checkpoints import orbax

        return orbax.open_checkpoint(step)
    from sycophancy.model.checkpoints import t5x

    return t5x.open_legacy(step) if folders.is_legacy(step) else t5x.open_current(step)


def open_params(name: epath.PathLike, network: Network) -> ParameterTree:
    """A checkpoint's parameters in the network's stacked layout, as `LazyArray`s.

    Args:
      name: as for `open_checkpoint`.
      network: the network that the parameters must fit.

    Raises:
      UserError: there is no checkpoint, or its parameters do not fit the network.
    """
    checkpoint = open_checkpoint(name)
    checkpoint.check(network)
    return checkpoint.tree()


def load_params(name: epath.PathLike, network: Network) -> ParameterTree:
    """Like `open_params`, but reads the parameters: NumPy arrays, float32."""
    import jax
    import numpy as np

    params: ParameterTree = jax.tree.map(np.asarray, open_params(name, network))
    return params


def load_checkpoint(model: ModelConfig) -> ParameterTree:
    """`open_params` of the checkpoint that a model starts from."""
    return open_params(model.checkpoint, model.network)
