"""Converts between the config.json of a Hugging Face T5 and `NetworkConfig`."""

from __future__ import annotations

from typing import Any

from etils import epath

from sycophancy.config.schema import Activation, NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import weights
from sycophancy.model.checkpoints.checkpoint import check_bounds
from sycophancy.model.checkpoints.folders import CONFIG

# The decoder-only models that are computed here.
DECODERS = "Llama 2 and 3 with SmolLM2, Mistral, Qwen 2, 2.5 and 3, Gemma 2 and 3 text"
TOKENS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
_SIZES = {
    "vocab_size": "vocab_size",
    "d_model": "emb_dim",
    "num_heads": "num_heads",
    "num_layers": "num_encoder_layers",
    "num_decoder_layers": "num_decoder_layers",
    "d_kv": "head_dim",
    "d_ff": "mlp_dim",
}
# Other names of sizes; transformers prefers them where a file has both.
_ALIASES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}
# Values that the network has fixed; they are also transformers' defaults.
_FIXED = {
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "is_encoder_decoder": True,
    "is_decoder": False,
}
# Names that a config.json must not set, except to null.
_ABSENT = ("quantization_config", "per_layer_config")
# The network's activation for each name in transformers; `gelu_fast` and others compute `gelu_new`.
TORCH_ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_python_tanh": "gelu",
    "gelu_fast": "gelu",
    "gelu_accurate": "gelu",
    "gelu": "gelu_exact",
    "gelu_python": "gelu_exact",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "linear": "linear",
}
# `feed_forward_proj` for each of the network's activations, where it is not the activation's name
# (with `gated-` before it). transformers takes only `gated-gelu` to be the approximated GELU.
_UNGATED = {"gelu": "gelu_new", "gelu_exact": "gelu"}
_GATED = {"gelu": "gated-gelu", "gelu_exact": "gated-gelu_python"}


def read(folder: epath.Path) -> tuple[NetworkConfig, bool]:
    """Reads a folder's config.json in the way transformers does.

    Returns:
      The network, and whether `lm_head` may be absent because it equals the embedding. transformers
      5 ties the output layer to the embedding in every T5; `scale_decoder_outputs: false` means
      that the logits are not scaled. The network here scales the logits of a tied output layer, so
      for such a file it has an output layer of its own, which is a copy of the embedding.

    Raises:
      UserError: the file is damaged, or describes a model that the network does not compute.
    """
    file = folder / CONFIG
    config = weights.read_json(folder, CONFIG)
    kind = config.get("model_type", "t5")
    if kind != "t5":
        raise UserError(
            f"{file}: model_type is {kind!r}, only 't5' (T5 1.0, 1.1 and Flan-T5) and some "
            f"decoder-only models ({DECODERS}) are supported here; `sycophancy evaluate --model` "
            "also takes other decoder-only models"
        )
    for name in _ABSENT:
        if config.get(name):
            raise UserError(f"{file}: {name} is set; models that are changed by it are not read")
    for name, value in {**_FIXED, **TOKENS}.items():
        # The end-of-sequence token is read from the vocabulary.
        if name == "eos_token_id" or config.get(name) is None:
            continue
        if config[name] != value:
            raise UserError(f"{file}: {name} is {config[name]!r}, only {value!r} is supported")
    for alias, name in _ALIASES.items():
        if alias in config and config[alias] != config.get(name):
            raise UserError(f"{file}: {alias} is {config[alias]!r}, {name} {config.get(name)!r}")
    if config.get("num_decoder_layers") is None:
        config["num_decoder_layers"] = config.get("num_layers")
    sizes: dict[str, Any] = {}
    for name, field in _SIZES.items():
        if name not in config:
            raise UserError(f"{file} does not describe a T5: {name} is missing")
        sizes[field] = check_bounds(field, config[name], f"{file}: {name}")
    tied = _flag(config, "tie_word_embeddings", True, file)
    scaled = _flag(config, "scale_decoder_outputs", tied, file)
    if scaled and not tied:
        raise UserError(
            f"{file}: scale_decoder_outputs is true, but tie_word_embeddings is false; no T5 "
            "scales logits that are not tied"
        )
    network = NetworkConfig(
        **sizes, mlp_activations=_activations(config, file), logits_via_embedding=tied and scaled
    )
    return network, tied


def _flag(config: dict[str, Any], name: str, default: bool, file: epath.Path) -> bool:
    """A value that must be true or false.

    Raises:
      UserError: it is something else.
    """
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise UserError(f"{file}: {name} is {value!r}, expected true or false")
    return value


def _activations(config: dict[str, Any], file: epath.Path) -> tuple[Activation, ...]:
    """The activations of the MLP's branches.

    transformers' `T5Config` splits `feed_forward_proj` into `dense_act_fn` and `is_gated_act`, and
    then overrides these two with the file's own `dense_act_fn` and `is_gated_act`.

    Raises:
      UserError: an activation is not known.
    """
    projection = config.get("feed_forward_proj", "relu")
    if not isinstance(projection, str):
        raise UserError(f"{file}: feed_forward_proj is {projection!r}, expected a text")
    first, *rest = projection.split("-")
    if len(rest) > 1 or (rest and first != "gated"):
        raise UserError(f"{file}: feed_forward_proj is {projection!r}, expected gated-NAME or NAME")
    projected = "gelu_new" if projection == "gated-gelu" else projection.rpartition("-")[2]
    activation = config.get("dense_act_fn", projected)
    gated = _flag(config, "is_gated_act", first == "gated", file)
    if not isinstance(activation, str) or activation not in TORCH_ACTIVATIONS:
        raise UserError(
            f"{file}: the activation {activation!r} is not supported; expected one of "
            f"{', '.join(TORCH_ACTIVATIONS)}"
        )
    network = TORCH_ACTIVATIONS[activation]
    return (network, "linear") if gated else (network,)


def describe(network: NetworkConfig) -> dict[str, Any]:
    """The contents of a network's config.json.

    Raises:
      UserError: transformers' T5 has no such MLP.
    """
    first, *gate = network.mlp_activations
    if gate not in ([], ["linear"]):
        raise UserError(
            f"Hugging Face's T5 has no MLP of the activations {network.mlp_activations}; it has "
            "(NAME,) or (NAME, 'linear')"
        )
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
        "feed_forward_proj": _GATED.get(first, f"gated-{first}")
        if gate
        else _UNGATED.get(first, first),
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": network.dropout_rate,
        "tie_word_embeddings": network.logits_via_embedding,
        **TOKENS,
    }
