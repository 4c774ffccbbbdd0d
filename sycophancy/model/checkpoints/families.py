"""Reads the config.json of a decoder-only model as `DecoderConfig`, in the way transformers does.

Each family is one entry of a table. What a family's class in transformers reads from the file is
either computed, or refused unless it has the value that changes nothing; other names in the file
have no effect there and none here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from sycophancy.config.schema import Activation, DecoderConfig, RopeScaling
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import weights
from sycophancy.model.checkpoints.architecture import DECODERS, TORCH_ACTIVATIONS
from sycophancy.model.checkpoints.facts import Facts
from sycophancy.model.checkpoints.folders import CONFIG

# Names that a config.json must not set, except to null, false or nothing.
_ABSENT = (
    "quantization_config",
    "per_layer_config",
    "use_bidirectional_attention",
    "is_encoder_decoder",
    "original_max_position_embeddings",  # transformers prefers it to that of rope_parameters
)
_SLIDING, _FULL = "sliding_attention", "full_attention"

# From the file and the number of layers to the sliding layers, where the file has no layer_types.
_Slides = Callable[[Facts, int], tuple[int, ...]]


def _all_layers(facts: Facts, layers: int) -> tuple[int, ...]:
    return tuple(range(layers))


def _last_layers(facts: Facts, layers: int) -> tuple[int, ...]:
    """Qwen's: those from `max_window_layers` on."""
    return tuple(range(facts.count("max_window_layers", 28), layers))


def _all_but_each_second(facts: Facts, layers: int) -> tuple[int, ...]:
    return tuple(range(0, layers, 2))


def _all_but_each_nth(facts: Facts, layers: int) -> tuple[int, ...]:
    """Gemma 3's: N is `sliding_window_pattern`."""
    period = facts.size("sliding_window_pattern", "num_layers", 6)
    return tuple(i for i in range(layers) if (i + 1) % period)


@dataclasses.dataclass(frozen=True)
class _Family:
    """What the models of one `model_type` have in common.

    Attributes:
      causal_class: transformers' class that predicts the next token.
      fields: fields of `DecoderConfig` that the file does not state.
      head_dim: width of a head if the file does not state it; None: emb_dim / num_heads.
      activation: the name of the value with the MLP's activation, and its default.
      attention_bias: whether the file says if queries, keys, values and output have biases.
      mlp_bias: likewise for the MLP.
      slides: which layers slide; None: none can.
      is_gemma: whether norms have an offset and stand behind the branches, too; the embedding is
        scaled, and tied by default; the scores are scaled by `query_pre_attn_scalar`.
      softcaps: the defaults of `attn_logit_softcapping` and `final_logit_softcapping`.
    """

    causal_class: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    head_dim: int | None = None
    activation: tuple[str, str] = ("hidden_act", "silu")
    attention_bias: bool = False
    mlp_bias: bool = False
    slides: _Slides | None = None
    is_gemma: bool = False
    softcaps: tuple[float | None, float | None] = (None, None)


_GEMMA: dict[str, Any] = {
    "head_dim": 256,
    "activation": ("hidden_activation", "gelu_pytorch_tanh"),
    "attention_bias": True,
    "is_gemma": True,
}
_FAMILIES = {
    "llama": _Family("LlamaForCausalLM", attention_bias=True, mlp_bias=True),
    "mistral": _Family("MistralForCausalLM", slides=_all_layers),
    "qwen2": _Family("Qwen2ForCausalLM", {"qkv_bias": True}, slides=_last_layers),
    "qwen3": _Family(
        "Qwen3ForCausalLM",
        {"query_key_norm": True},
        head_dim=128,
        attention_bias=True,
        slides=_last_layers,
    ),
    "gemma2": _Family(
        "Gemma2ForCausalLM", slides=_all_but_each_second, softcaps=(50.0, 30.0), **_GEMMA
    ),
    "gemma3_text": _Family(
        "Gemma3ForCausalLM", {"query_key_norm": True}, slides=_all_but_each_nth, **_GEMMA
    ),
}


def is_supported(config: Mapping[str, Any]) -> bool:
    """Whether the `model_type` of a config.json is that of a family that is computed here."""
    kind = config.get("model_type")
    return isinstance(kind, str) and kind in _FAMILIES


def read(folder: epath.Path) -> DecoderConfig:
    """The network of a Hugging Face folder, from its config.json.

    Raises:
      UserError: the file is damaged, its `model_type` is not supported, or it sets something that
        the network does not compute.
    """
    return parse(weights.read_json(folder, CONFIG), folder / CONFIG)


def parse(config: Mapping[str, Any], file: epath.PathLike) -> DecoderConfig:
    """`read`, for the contents of a file; `file` is named in messages."""
    if not is_supported(config):
        raise UserError(
            f"{file}: model_type is {config.get('model_type')!r}; the decoder-only models that are "
            f"computed here are {DECODERS}"
        )
    kind = str(config["model_type"])
    family, facts = _FAMILIES[kind], Facts(config, file)
    _refuse_other_computations(facts, family)
    width = facts.size("hidden_size", "emb_dim")
    heads = facts.size("num_attention_heads", "num_heads")
    head_dim = facts.size("head_dim", "head_dim", family.head_dim or max(width // heads, 1))
    stated = kind == "llama" or "num_key_value_heads" in config
    kv_heads = facts.size("num_key_value_heads", "num_kv_heads", heads if stated else None)
    layers = facts.size("num_hidden_layers", "num_layers")
    if heads % kv_heads:
        facts.refuse("num_key_value_heads", f"a divisor of num_attention_heads ({heads})")
    if head_dim % 2:
        facts.refuse("head_dim", "an even number")
    scores = facts.number("query_pre_attn_scalar", 256.0) if family.is_gemma else head_dim
    bias = family.attention_bias and facts.flag("attention_bias", False)
    fields: dict[str, Any] = {
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": family.mlp_bias and facts.flag("mlp_bias", False),
        **_rope(facts, by_kind=kind == "gemma3_text"),
        **_windows(facts, family, layers),
        **family.fields,
    }
    if family.is_gemma:
        fields |= {"norm_offset": True, "post_norms": True, "embedding_scale": math.sqrt(width)}
        fields |= _softcaps(facts, family, kind)
    return DecoderConfig(
        vocab_size=facts.size("vocab_size", "vocab_size"),
        emb_dim=width,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_dim=facts.size("intermediate_size", "mlp_dim"),
        query_scale=scores**-0.5,
        activation=_activation(facts, family),
        norm_epsilon=facts.number("rms_norm_eps", 1e-6),
        logits_via_embedding=facts.flag("tie_word_embeddings", family.is_gemma),
        **fields,
    )


def _refuse_other_computations(facts: Facts, family: _Family) -> None:
    """Refuses values with which a model computes something else.

    Raises:
      UserError: names the value.
    """
    for name in _ABSENT:
        if facts.values.get(name):
            raise UserError(
                f"{facts.place}: {name} is set; models that are changed by it are not computed here"
            )
    classes = facts.values.get("architectures")
    if classes and family.causal_class not in classes:
        facts.refuse("architectures", family.causal_class)
    if "AutoModelForCausalLM" in facts.inner("auto_map"):
        raise UserError(
            f"{facts.place}: auto_map names code of the model's own, which is never run; remove "
            "auto_map if the model is an ordinary one of its model_type"
        )


def _activation(facts: Facts, family: _Family) -> Activation:
    name, default = family.activation
    value = facts.values.get(name) or default
    if not isinstance(value, str) or value not in TORCH_ACTIVATIONS:
        facts.refuse(name, f"one of {', '.join(TORCH_ACTIVATIONS)}")
    return TORCH_ACTIVATIONS[value]


def _softcaps(facts: Facts, family: _Family, kind: str) -> dict[str, float | None]:
    scores, logits = (
        facts.optional_number(name, default)
        for name, default in zip(
            ("attn_logit_softcapping", "final_logit_softcapping"), family.softcaps, strict=True
        )
    )
    if scores is not None and kind != "gemma2":  # transformers reads it for Gemma 2 only
        facts.refuse("attn_logit_softcapping", "null")
    return {"attention_logit_softcap": scores, "final_logit_softcap": logits}


def _windows(facts: Facts, family: _Family, layers: int) -> dict[str, Any]:
    """The window and the layers that have it.

    Raises:
      UserError: layer_types names other kinds of layers, or another number of layers.
    """
    if family.slides is None:
        return {}
    window = facts.values.get("sliding_window", 4096)
    if family.slides is _last_layers and not facts.flag("use_sliding_window", False):
        window = None
    kinds = facts.values.get("layer_types")
    if family.slides is _all_layers or kinds is None:  # Mistral's layers are of one kind
        sliding = () if window is None else family.slides(facts, layers)
    else:
        if not isinstance(kinds, list) or not {*map(str, kinds)} <= {_SLIDING, _FULL}:
            facts.refuse("layer_types", f"a list of {_SLIDING} and {_FULL}")
        if len(kinds) != layers:
            facts.refuse("layer_types", f"a list of num_hidden_layers ({layers}) entries")
        sliding = tuple(i for i, name in enumerate(kinds) if name == _SLIDING)
    if not sliding:
        return {}
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        facts.refuse("sliding_window", "a whole number of tokens, with sliding layers,")
    return {"window": window, "sliding_layers": sliding}


def _rope(facts: Facts, *, by_kind: bool) -> dict[str, Any]:
    """The rotary frequencies, from `rope_parameters` or the older `rope_scaling` and `rope_theta`.

    Args:
      facts: the file.
      by_kind: whether sliding layers have frequencies of their own, as in Gemma 3.

    Raises:
      UserError: the frequencies are scaled in a way that is not computed.
    """
    if facts.number("partial_rotary_factor", 1.0) != 1.0:
        facts.refuse("partial_rotary_factor", "1")
    older, parameters = facts.inner("rope_scaling"), facts.inner("rope_parameters")
    if not by_kind:
        theta, scaling = _frequencies(older or parameters, facts, "rope_theta", 10_000.0)
        return {"rope_theta": theta, "rope_scaling": scaling}
    kinds = Facts(parameters, f"{facts.place}: rope_parameters")
    full, sliding = kinds.inner(_FULL) | older, kinds.inner(_SLIDING)
    theta, scaling = _frequencies(full, facts, "rope_theta", 1_000_000.0)
    local, changed = _frequencies(sliding, facts, "rope_local_base_freq", 10_000.0)
    if changed is not None:
        kinds.refuse(_SLIDING, "rope_type 'default'")
    return {"rope_theta": theta, "rope_scaling": scaling, "local_rope_theta": local}


def _frequencies(
    entry: dict[str, Any], facts: Facts, older: str, default: float
) -> tuple[float, RopeScaling | None]:
    """The base and the scaling of one entry of `rope_parameters`.

    Args:
      entry: the entry.
      facts: the file; its value `older` is the base if the entry has none.
      older: see above.
      default: the base if there is neither.

    Raises:
      UserError: the scaling is not computed, or one of its values is missing or wrong.
    """
    values = Facts(entry, f"{facts.place}: rope_parameters")
    theta = values.number("rope_theta", facts.number(older, default))
    kind = entry.get("rope_type", entry.get("type", "default"))
    if values.number("partial_rotary_factor", 1.0) != 1.0:
        values.refuse("partial_rotary_factor", "1")
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling("linear", values.number("factor"))
    if kind != "llama3":
        raise UserError(
            f"{facts.place}: rotary positions are scaled by {str(kind)[:80]!r}; only 'default', "
            "'linear' and 'llama3' are computed here"
        )
    scaling = RopeScaling(
        "llama3",
        factor=values.number("factor"),
        low_frequency_factor=values.number("low_freq_factor"),
        high_frequency_factor=values.number("high_freq_factor"),
        original_length=int(values.number("original_max_position_embeddings")),
    )
    if scaling.high_frequency_factor <= scaling.low_frequency_factor:
        values.refuse("high_freq_factor", "a number above low_freq_factor")
    return theta, scaling
