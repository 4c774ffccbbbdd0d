"""Hugging Face T5 folders, read and written without torch: config.json and safetensors.

The name map is that of the `transformers` conversion script for T5X checkpoints; a torch kernel is
the transpose of ours, and torch keeps the relative position bias in a stack's first layer. Weights
are handled in T5X's unstacked layout.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from sycophancy.config import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import layout

CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "spiece.model"

_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}


def names(network: NetworkConfig) -> dict[str, tuple[str, bool]]:
    """T5X's parameter path -> (Hugging Face's name, whether the array is transposed)."""
    found: dict[str, tuple[str, bool]] = {"token_embedder/embedding": ("shared.weight", False)}
    kernels = ["wi"] if len(network.mlp_activations) == 1 else ["wi_0", "wi_1"]
    stacks = {"encoder": network.num_encoder_layers, "decoder": network.num_decoder_layers}
    for stack, depth in stacks.items():
        blocks = [("attention", "SelfAttention", "pre_attention_layer_norm")]
        if stack == "decoder":
            blocks = [
                ("self_attention", "SelfAttention", "pre_self_attention_layer_norm"),
                ("encoder_decoder_attention", "EncDecAttention", "pre_cross_attention_layer_norm"),
            ]
        for i in range(depth):
            ours, theirs = f"{stack}/layers_{i}", f"{stack}.block.{i}.layer"
            for n, (block, name, norm) in enumerate(blocks):
                found[f"{ours}/{norm}/scale"] = (f"{theirs}.{n}.layer_norm.weight", False)
                for part, letter in _ATTENTION.items():
                    hf_name = f"{theirs}.{n}.{name}.{letter}.weight"
                    found[f"{ours}/{block}/{part}/kernel"] = (hf_name, True)
            n = len(blocks)
            found[f"{ours}/pre_mlp_layer_norm/scale"] = (f"{theirs}.{n}.layer_norm.weight", False)
            for part in (*kernels, "wo"):
                hf_name = f"{theirs}.{n}.DenseReluDense.{part}.weight"
                found[f"{ours}/mlp/{part}/kernel"] = (hf_name, True)
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        found[f"{stack}/relpos_bias/rel_embedding"] = (bias, True)
        found[f"{stack}/{stack}_norm/scale"] = (f"{stack}.final_layer_norm.weight", False)
    if not network.logits_via_embedding:
        found["decoder/logits_dense/kernel"] = ("lm_head.weight", True)
    return found


def load_params(folder: epath.PathLike, network: NetworkConfig) -> dict[str, Any]:
    """Reads a folder's weights into the network's stacked tree, numpy float32.

    Raises:
      UserError: the folder has no weights, or weights of another model.
    """
    import safetensors.numpy
    from flax import linen as nn

    from sycophancy.training.sharding import abstract_params  # shapes alone

    folder = epath.Path(folder)
    file = folder / WEIGHTS
    if not file.exists():
        raise UserError(f"{folder} has no {WEIGHTS}; name a Hugging Face T5 folder")
    tensors = safetensors.numpy.load(file.read_bytes())
    leaves = {}
    for path, (name, transposed) in names(network).items():
        if name in tensors:
            array = np.asarray(tensors[name], np.float32)
            leaves[path] = array.T if transposed else array
    params = layout.stack(layout.unflatten(leaves))
    layout.check_shapes(params, nn.unbox(abstract_params(network)), str(file))
    return params


def save(
    folder: epath.PathLike, params: Mapping[str, Any], network: NetworkConfig, vocabulary: str
) -> None:
    """Writes config.json, model.safetensors and spiece.model, which `transformers` reads as T5.

    Args:
      folder: made if need be.
      params: the network's stacked tree.
      network: its shape.
      vocabulary: the SentencePiece file to copy.
    """
    import safetensors.numpy

    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    leaves = layout.flatten(layout.unstack(params))
    tensors = {}
    for path, (name, transposed) in names(network).items():
        array = np.asarray(leaves[path], np.float32)
        tensors[name] = np.ascontiguousarray(array.T if transposed else array)
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(tensors, {"format": "pt"}))
    (folder / CONFIG).write_text(json.dumps(_config(network), indent=2) + "\n")
    shutil.copyfile(vocabulary, folder / VOCABULARY)


def _config(network: NetworkConfig) -> dict[str, Any]:
    gated = len(network.mlp_activations) == 2
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "d_model": network.emb_dim,
        "d_kv": network.head_dim,
        "d_ff": network.mlp_dim,
        "num_heads": network.num_heads,
        "num_layers": network.num_encoder_layers,
        "num_decoder_layers": network.num_decoder_layers,
        "vocab_size": network.vocab_size,
        "feed_forward_proj": f"gated-{network.mlp_activations[0]}"
        if gated
        else network.mlp_activations[0],
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": network.dropout_rate,
        "tie_word_embeddings": network.logits_via_embedding,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
