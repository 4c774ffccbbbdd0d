"""Cross entropy with z-loss, as sums over target tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# T5X's model features by name: `encoder_input_tokens`, `decoder_target_tokens`, ...
Batch = Mapping[str, Int[Array, "batch length"]]


class LossSums(NamedTuple):
    """Sums over the real target tokens of a batch; divide by `tokens` for means.

    Attributes:
      loss: cross entropy plus z-loss, natural log. T5X's `loss` is the same.
      z_loss: the z-loss alone.
      correct: tokens that are the argmax.
      tokens: real target tokens.
    """

    loss: Float[Array, ""]
    z_loss: Float[Array, ""]
    correct: Float[Array, ""]
    tokens: Float[Array, ""]


def cross_entropy(
    logits: Float[Array, "batch length vocab"],
    targets: Int[Array, "batch length"],
    weights: Float[Array, "batch length"],
    z_loss: float,
) -> LossSums:
    """Cross entropy of each target token, plus `z_loss` * log(Z)^2, Z the softmax normaliser.

    The second term keeps log(Z) near zero, where bfloat16 is exact enough (PaLM, Chowdhery et al.
    2022, section 5; the same in T5X).

    T5X sums over tokens and by default divides by nothing (`loss_normalizing_factor=None`), which
    Adafactor hardly notices: it divides gradients by their own size. Here the caller divides by
    `tokens` (T5X's NUM_REAL_TARGET_TOKENS), so that a loss can be read, compared between batches,
    and does not overflow in half precision.

    Args:
      logits: float32.
      targets: token ids; 0 is padding.
      weights: 1 for a token to learn, 0 for padding.
      z_loss: coefficient, 1e-4 in T5X.
    """
    log_z = jax.nn.logsumexp(logits, axis=-1)
    # A masked sum, not a gather: it stays local when the vocabulary is sharded.
    vocabulary = jnp.arange(logits.shape[-1], dtype=targets.dtype)
    chosen = targets[..., None] == vocabulary[None, None, :]
    target_logits = jnp.sum(jnp.where(chosen, logits, jnp.zeros_like(logits)), axis=-1)
    penalty = z_loss * jnp.square(log_z)
    correct = jnp.argmax(logits, axis=-1) == targets
    return LossSums(
        loss=jnp.sum((log_z - target_logits + penalty) * weights),
        z_loss=jnp.sum(penalty * weights),
        correct=jnp.sum(correct.astype(jnp.float32) * weights),
        tokens=jnp.sum(weights),
    )
