"""The programs of the scorer: what a network says about the tokens of choices after a prompt.

All choices of a prompt lie side by side in one row, so the prompt is computed once. Segment numbers
tell the choices apart, as they tell packed examples apart in training.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from sycophancy.config.schema import DecoderConfig, NetworkConfig
from sycophancy.model.decoder import UNUSED, DecoderTransformer
from sycophancy.model.network import Transformer
from sycophancy.model.sharding import Rules

Outcomes = tuple[
    Float[Array, "rows targets"], Bool[Array, "rows targets"], Float[Array, "rows targets"]
]


def encoder_decoder_outcomes(
    network: NetworkConfig,
    rules: Rules,
    params: Any,
    prompts: Int[Array, "rows inputs"],
    targets: Int[Array, "rows targets"],
    segments: Int[Array, "rows targets"],
) -> Outcomes:
    """The log-likelihood of each target token; whether the token is the argmax; and its lead, which
    is its logit minus the largest of the others. Logits and all that follows are float32.

    Args:
      network: the network's shape.
      rules: the mesh axis of each logical axis. Without them, XLA would not gather split
        parameters but sum activations over all devices, which is far slower.
      params: the network's parameters.
      prompts: the prompts' tokens.
      targets: the tokens of all choices, side by side.
      segments: the number of each target token's choice, from 1.
    """
    model = Transformer(network)
    shifted = jnp.where(_starts(segments), 0, _shifted(targets))
    # By default, accelerators multiply float32 matrices with less precision.
    with jax.default_matmul_precision("float32"), nn.logical_axis_rules(rules):
        encoded = model.apply({"params": params}, prompts, method=model.encode)
        logits: Any = model.apply(
            {"params": params},
            encoded,
            prompts,
            shifted,
            targets,
            decoder_segment_ids=segments,
            method=model.decode,
        )
    return _of_targets(logits, targets)


def decoder_outcomes(
    network: DecoderConfig,
    rules: Rules,
    params: Any,
    prompts: Int[Array, "rows inputs"],
    targets: Int[Array, "rows targets"],
    segments: Int[Array, "rows targets"],
) -> Outcomes:
    """The same for a decoder-only network.

    The choices stand behind their prompt in one row. By a tree mask, a token of a choice attends to
    the prompt and to its own choice, at the positions that it would have without the others. The
    first token of each choice is predicted at the end of the prompt. Logits, which are large where
    the vocabulary is, are computed only where a target is predicted.

    Args:
      network, rules, params, targets, segments: as above.
      prompts: the prompts' tokens; -1 behind them.
    """
    model = DecoderTransformer(network)
    rows, inputs = prompts.shape
    ends = jnp.sum(prompts != UNUSED, axis=1, dtype=jnp.int32)[:, None]
    places = jnp.arange(targets.shape[1], dtype=jnp.int32)[None]
    first = jax.lax.cummax(jnp.where(_starts(segments), places, 0), axis=1)  # of each choice
    before = jnp.broadcast_to(jnp.arange(inputs, dtype=jnp.int32)[None], (rows, inputs))
    positions = jnp.concatenate([before, ends + places - first], axis=1)
    # The prompt is segment 0, which every choice sees; padding is seen by itself alone.
    numbers = jnp.concatenate([jnp.where(prompts == UNUSED, UNUSED, 0), segments], axis=1)
    is_prompt = jnp.arange(numbers.shape[1])[None] < inputs
    mine = numbers[:, :, None] == numbers[:, None, :]
    of_prompt = (numbers == 0) & is_prompt
    causal = positions[:, None, :] <= positions[:, :, None]
    mask = (mine | of_prompt[:, None, :]) & causal
    tokens = jnp.concatenate([jnp.where(prompts == UNUSED, 0, prompts), targets], axis=1)
    predicted_at = jnp.where(_starts(segments), jnp.maximum(ends - 1, 0), inputs + places - 1)
    with jax.default_matmul_precision("float32"), nn.logical_axis_rules(rules):
        hidden: Any = model.apply(
            {"params": params}, tokens, positions, None, mask[:, None], method=model.hidden
        )
        hidden = jnp.take_along_axis(hidden, jnp.maximum(predicted_at, 0)[:, :, None], axis=1)
        logits: Any = model.apply({"params": params}, hidden, method=model.logits)
    return _of_targets(logits, targets)


def _starts(segments: Int[Array, "rows targets"]) -> Bool[Array, "rows targets"]:
    """Where a choice begins."""
    return segments != _shifted(segments)


def _shifted(tokens: Int[Array, "rows targets"]) -> Int[Array, "rows targets"]:
    return jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]


def _of_targets(
    logits: Float[Array, "rows targets vocab"], targets: Int[Array, "rows targets"]
) -> Outcomes:
    log_likelihoods = jax.nn.log_softmax(logits)
    of_targets = jnp.take_along_axis(log_likelihoods, targets[:, :, None], axis=-1)[:, :, 0]
    tokens = jnp.arange(logits.shape[-1], dtype=targets.dtype)[None, None]
    others = jnp.where(tokens == targets[:, :, None], -jnp.inf, logits)
    own = jnp.take_along_axis(logits, targets[:, :, None], axis=-1)[:, :, 0]
    leads = own - jnp.max(others, axis=-1)
    return of_targets, jnp.argmax(logits, axis=-1) == targets, leads
