"""Cross entropy with z-loss, as sums over target tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sycophancy.model.size import SPARSE_CHUNK

# The model's features by name: `encoder_input_tokens`, `decoder_target_tokens`, ...
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


class TokenLosses(NamedTuple):
    """What the loss needs to know of each position.

    Attributes:
      log_z: logarithm of the softmax's normalizer.
      target_logits: the logit of the target token.
      correct: whether the target token is the argmax.
    """

    log_z: Float[Array, "batch length"]
    target_logits: Float[Array, "batch length"]
    correct: Bool[Array, "batch length"]


def token_losses(
    logits: Float[Array, "batch length vocab"], targets: Int[Array, "batch length"]
) -> TokenLosses:
    """What float32 logits say about the target token at each position."""
    vocabulary = jnp.arange(logits.shape[-1], dtype=targets.dtype)
    # A masked sum instead of a gather: with a sharded vocabulary it needs no communication.
    is_target = targets[..., None] == vocabulary[None, None, :]
    return TokenLosses(
        log_z=jax.nn.logsumexp(logits, axis=-1),
        target_logits=jnp.sum(jnp.where(is_target, logits, jnp.zeros_like(logits)), axis=-1),
        correct=jnp.argmax(logits, axis=-1) == targets,
    )


def sparse_token_losses(
    logits_of: Callable[[Float[Array, "batch some embed"]], Float[Array, "batch some vocab"]],
    hidden: Float[Array, "batch length embed"],
    targets: Int[Array, "batch length"],
    weights: Int[Array, "batch length"],
) -> TokenLosses:
    """`token_losses` at the positions that count; all zero elsewhere.

    A row of a decoder-only model is mostly prompt, and its vocabulary is large: of a small model,
    logits at every position cost more than all layers. So each row's positions that count come
    first, and logits are computed for `SPARSE_CHUNK` positions of all rows at a time, until no row
    has one left. The backward pass computes them again, so they are never held together.

    Args:
      logits_of: from the last layer's output to float32 logits.
      hidden: the last layer's output.
      targets: token ids.
      weights: above 0 where a position counts.
    """
    length = targets.shape[1]
    chunks = -(-length // SPARSE_CHUNK)
    order = jnp.argsort(weights <= 0, axis=1, stable=True)

    def split(rows: Array) -> Array:
        """Rows in the order, as [chunks, batch, SPARSE_CHUNK, ...]."""
        index = order.reshape(*order.shape, *(1,) * (rows.ndim - 2))
        rows = jnp.take_along_axis(rows, index, axis=1)
        padding = ((0, 0), (0, chunks * SPARSE_CHUNK - length), *((0, 0),) * (rows.ndim - 2))
        rows = jnp.pad(rows, padding)
        return jnp.swapaxes(rows.reshape(len(rows), chunks, SPARSE_CHUNK, *rows.shape[2:]), 0, 1)

    def losses(part: tuple[Array, Array]) -> TokenLosses:
        return token_losses(logits_of(part[0]), part[1])

    def nothing(part: tuple[Array, Array]) -> TokenLosses:
        zeros = jnp.zeros(part[1].shape)
        return TokenLosses(zeros, zeros, jnp.zeros(part[1].shape, bool))

    # Around `cond`, not inside it: what a branch keeps is an output of `cond`, and the scan would
    # keep the output layer once for each chunk.
    @jax.checkpoint
    def chunk(_: None, part: tuple[Array, Array, Array]) -> tuple[None, TokenLosses]:
        return None, jax.lax.cond(jnp.any(part[2] > 0), losses, nothing, part[:2])

    _, found = jax.lax.scan(chunk, None, (split(hidden), split(targets), split(weights)))
    back = jnp.argsort(order, axis=1)

    def joined(parts: Array) -> Array:
        rows = jnp.swapaxes(parts, 0, 1).reshape(len(targets), chunks * SPARSE_CHUNK)
        return jnp.take_along_axis(rows, back, axis=1)

    return TokenLosses(*map(joined, found))


def loss_sums(
    tokens: TokenLosses, weights: Float[Array, "batch length"], z_loss: float
) -> LossSums:
    """The cross entropy of the target tokens plus `z_loss` * log(Z)^2; Z normalises the softmax.

    The second term keeps log(Z) near zero, where bfloat16 is precise enough (PaLM, Chowdhery et al.
    2022, section 5; T5X has it too).

    The caller should divide by `tokens`, as T5X does with NUM_REAL_TARGET_TOKENS; then losses can
    be compared between batches and do not overflow in half precision. T5X's default is the sum
    (`loss_normalizing_factor=None`). The choice hardly matters to Adafactor, which divides
    gradients by their own size.

    Args:
      tokens: of each position.
      weights: 1 for a target token, 0 for padding.
      z_loss: the coefficient, 1e-4 in T5X.
    """
    penalty = z_loss * jnp.square(tokens.log_z)
    return LossSums(
        loss=jnp.sum((tokens.log_z - tokens.target_logits + penalty) * weights),
        z_loss=jnp.sum(penalty * weights),
        correct=jnp.sum(tokens.correct.astype(jnp.float32) * weights),
        tokens=jnp.sum(weights),
    )
