"""Every checkpoint format behind one function."""

from __future__ import annotations

from typing import Any

from etils import epath

from sycophancy.config import ModelConfig, NetworkConfig
from sycophancy.errors import UserError


def load_params(path: epath.PathLike, network: NetworkConfig) -> dict[str, Any]:
    """Reads a checkpoint in the network's stacked layout, numpy float32.

    Args:
      path: a Hugging Face T5 folder, or one of our Orbax checkpoints (a folder of parameters, a
        finetuning step, or a folder of steps, which stands for its latest).
      network: what the parameters must fit.

    Raises:
      UserError: no checkpoint there, or one of another model.
    """
    from sycophancy.model.checkpoints import huggingface, orbax

    folder = epath.Path(path)
    if not folder.exists():
        raise UserError(f"checkpoint {folder}: no such folder; check --checkpoint or --model")
    if (folder / huggingface.CONFIG).exists():
        return huggingface.load_params(folder, network)
    return orbax.load_params(folder, network)


def load_checkpoint(model: ModelConfig) -> dict[str, Any]:
    """`load_params` of the checkpoint that a model starts from."""
    return load_params(model.checkpoint, model.network)
