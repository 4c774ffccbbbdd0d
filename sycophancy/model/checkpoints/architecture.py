"""config.json of a Hugging Face T5, as the network it describes and back."""

from __future__ import annotations

from typing import Any

from etils import epath

from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import weights
from sycophancy.model.checkpoints.checkpoint import check_bounds
from sycophancy.model.checkpoints.folders import CONFIG

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
# Other names that transformers takes for a size, and that then win.
_ALIASES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}
# What the network does not leave open; these are also transformers' defaults.
_FIXED = {
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "is_encoder_decoder": True,
    "is_decoder": False,
}
# What a config.json may leave out or set to null, and nothing else.
_ABSENT = ("quantization_config", "per_layer_config")
# transformers' names of activations, and the network's; `gelu_fast` and others compute `gelu_new`.
_ACTIVATIONS: dict[str, Any] = {
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
# And back, as `feed_forward_proj`: `gated-gelu` alone is the approximated one.
_UNGATED = {"gelu": "gelu_new", "gelu_exact": "gelu"}
_GATED = {"gelu": "gated-gelu", "gelu_exact": "gated-gelu_python"}


def read(folder: epath.Path) -> tuple[NetworkConfig, bool]:
    """The network that a folder's config.json describes, as transformers reads it.

    Returns:
      The network, and whether `lm_head` may be absent because the embedding is the output layer.
      transformers 5 ties every T5, and says by `scale_decoder_outputs: false` that logits are not
      scaled; such a network has logits of its own here, which begin as the embedding.

    Raises:
      UserError: the file is damaged, or describes what the network does not compute.
    """
    file = folder / CONFIG
    found = weights.read_json(folder, CONFIG)
    kind = found.get("model_type", "t5")
    if kind != "t5":
        raise UserError(
            f"{file}: model_type is {kind!r}, only 't5' is supported (T5 1.0, 1.1 and Flan-T5)"
        )
    for name in _ABSENT:
        if found.get(name):
            raise UserError(f"{file}: {name} is set; models that are changed by it are not read")
    for name, value in {**_FIXED, **TOKENS}.items():
        if name == "eos_token_id" or found.get(name) is None:  # the vocabulary tells its end
            continue
        if found[name] != value:
            raise UserError(f"{file}: {name} is {found[name]!r}, only {value!r} is supported")
    for alias, name in _ALIASES.items():
        if alias in found and found[alias] != found.get(name):
            raise UserError(f"{file}: {alias} is {found[alias]!r}, {name} {found.get(name)!r}")
    if found.get("num_decoder_layers") is None:
        found["num_decoder_layers"] = found.get("num_layers")
    sizes: dict[str, Any] = {}
    for name, field in _SIZES.items():
        if name not in found:
            raise UserError(f"{file} does not describe a T5: {name} is missing")
        sizes[field] = check_bounds(field, found[name], f"{file}: {name}")
    tied = _flag(found, "tie_word_embeddings", True, file)
    scaled = _flag(found, "scale_decoder_outputs", tied, file)
    if scaled and not tied:
        raise UserError(
            f"{file}: scale_decoder_outputs is true, but tie_word_embeddings is false; no T5 "
            "scales logits that are not tied"
        )
    network = NetworkConfig(
        **sizes, mlp_activations=_activations(found, file), logits_via_embedding=tied and scaled
    )
    return network, tied


def _flag(found: dict[str, Any], name: str, default: bool, file: epath.Path) -> bool:
    value = found.get(name, default)
    if not isinstance(value, bool):
        raise UserError(f"{file}: {name} is {value!r}, expected true or false")
    return value


def _activations(found: dict[str, Any], file: epath.Path) -> Any:
    """Those of the MLP's branches: `feed_forward_proj`, and what the two other settings override.

    `T5Config` of transformers splits `feed_forward_proj` into `dense_act_fn` and `is_gated_act`,
    and then lets the file's own `dense_act_fn` and `is_gated_act` win.
    """
    projection = found.get("feed_forward_proj", "relu")
    if not isinstance(projection, str):
        raise UserError(f"{file}: feed_forward_proj is {projection!r}, expected a text")
    first, *rest = projection.split("-")
    if len(rest) > 1 or (rest and first != "gated"):
        raise UserError(f"{file}: feed_forward_proj is {projection!r}, expected gated-NAME or NAME")
    said = "gelu_new" if projection == "gated-gelu" else projection.rpartition("-")[2]
    activation = found.get("dense_act_fn", said)
    gated = _flag(found, "is_gated_act", first == "gated", file)
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise UserError(
            f"{file}: the activation {activation!r} is not supported; expected one of "
            f"{', '.join(_ACTIVATIONS)}"
        )
    network = _ACTIVATIONS[activation]
    return (network, "linear") if gated else (network,)


def describe(network: NetworkConfig) -> dict[str, Any]:
    """The config.json of a network.

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
