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
    """Sums over the target tokens of a batch, without padding; divide by `tokens` for means.

    Attributes:
      loss: cross entropy plus z-loss, natural log; the same as T5X's `loss`.
      z_loss: only the z-loss.
      correct: the number of target tokens that are the argmax.
      tokens: the number of target tokens.
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
    """The cross entropy of the target tokens plus `z_loss` * log(Z)^2; Z normalises the softmax.

    The second term keeps log(Z) near zero, where bfloat16 is precise enough (PaLM, Chowdhery et al.
    2022, section 5; T5X has it too).

    The caller should divide by `tokens`, as T5X does with NUM_REAL_TARGET_TOKENS; then losses can
    be compared between batches and do not overflow in half precision. T5X's default is the sum
    (`loss_normalizing_factor=None`). The choice hardly matters to Adafactor, which divides
    gradients by their own size.

    Args:
      logits: float32.
      targets: token ids; 0 is padding.
      weights: 1 for a target token, 0 for padding.
      z_loss: the coefficient, 1e-4 in T5X.
    """
    log_z = jax.nn.logsumexp(logits, axis=-1)
    # A masked sum instead of a gather: with a sharded vocabulary it needs no communication.
    vocabulary = jnp.arange(logits.shape[-1], dtype=targets.dtype)
    is_target = targets[..., None] == vocabulary[None, None, :]
    target_logits = jnp.sum(jnp.where(is_target, logits, jnp.zeros_like(logits)), axis=-1)
    penalty = z_loss * jnp.square(log_z)
    correct = jnp.argmax(logits, axis=-1) == targets
    return LossSums(
        loss=jnp.sum((log_z - target_logits + penalty) * weights),
        z_loss=jnp.sum(penalty * weights),
        correct=jnp.sum(correct.astype(jnp.float32) * weights),
        tokens=jnp.sum(weights),
    )
