"""A small Hugging Face T5 folder, made anew for every test that damages one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from sycophancy.config.schema import NetworkConfig
from sycophancy.model.checkpoints import huggingface, layout

NETWORK = NetworkConfig(
    vocab_size=40,
    emb_dim=8,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=4,
    mlp_dim=16,
)


def draw(network: NetworkConfig, seed: int = 0) -> dict[str, Any]:
    """Random parameters in the network's stacked layout."""
    from flax import linen as nn

    from sycophancy.model.sharding import abstract_params

    rng = np.random.default_rng(seed)
    leaves = {}
    for path, leaf in layout.flatten(nn.unbox(abstract_params(network))).items():
        array = rng.normal(0.0, 0.3, leaf.shape).astype(np.float32)
        leaves[path] = array + 1 if path.endswith("scale") else array
    return layout.unflatten(leaves)


def make(
    folder: Path,
    network: NetworkConfig = NETWORK,
    *,
    config: dict[str, Any] | None = None,
    tensors: Callable[[dict[str, Any]], None] = lambda tensors: None,
    seed: int = 0,
) -> Path:
    """Writes a folder as the product does, and then changes it.

    Args:
      folder: is made.
      network: its shape.
      config: values of config.json to change; None removes one.
      tensors: changes the tensors by name.
      seed: of the weights.
    """
    huggingface.save(folder, draw(network, seed), network, None)
    change_config(folder, **(config or {}))
    weights = folder / "model.safetensors"
    found = safetensors.numpy.load_file(weights)
    tensors(found)
    safetensors.numpy.save_file(found, weights, {"format": "pt"})
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    """Sets values of config.json; None removes one."""
    file = folder / "config.json"
    found = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))
