"""Cross entropy with z-loss, as sums over target tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
    most = jnp.max(jnp.sum(weights > 0, axis=1))

    def split(rows: Array) -> Array:
        """Rows in the order, as [chunks, batch, SPARSE_CHUNK, ...]."""
        index = order.reshape(*order.shape, *(1,) * (rows.ndim - 2))
        rows = jnp.take_along_axis(rows, index, axis=1)
        padding = ((0, 0), (0, chunks * SPARSE_CHUNK - length), *((0, 0),) * (rows.ndim - 2))
        rows = jnp.pad(rows, padding)
        return jnp.swapaxes(rows.reshape(len(rows), chunks, SPARSE_CHUNK, *rows.shape[2:]), 0, 1)

    parts = split(hidden)
    layer, kernels = jax.closure_convert(logits_of, parts[0])
    found = _chunk_losses(layer, -(-most // SPARSE_CHUNK), split(targets), parts, kernels)
    back = jnp.argsort(order, axis=1)

    def joined(parts: Array) -> Array:
        rows = jnp.swapaxes(parts, 0, 1).reshape(len(targets), chunks * SPARSE_CHUNK)
        return jnp.take_along_axis(rows, back, axis=1)

    return TokenLosses(*map(joined, found))


Layer = Callable[..., Float[Array, "batch some vocab"]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunk_losses(
    layer: Layer,
    used: Int[Array, ""],
    targets: Int[Array, "chunks batch some"],
    hidden: Float[Array, "chunks batch some embed"],
    kernels: list[Array],
) -> TokenLosses:
    """`token_losses` of the first `used` chunks; all zero in the others.

    Its own derivative, because that of a loop over all chunks adds a gradient as large as the
    output layer for each chunk, also where no position counts.
    """

    def chunk(index: Array, found: TokenLosses) -> TokenLosses:
        losses = token_losses(layer(hidden[index], *kernels), targets[index])
        return TokenLosses(
            *(every.at[index].set(one) for every, one in zip(found, losses, strict=True))
        )

    zeros = jnp.zeros(targets.shape)
    nothing = TokenLosses(zeros, zeros, jnp.zeros(targets.shape, bool))
    return jax.lax.fori_loop(0, used, chunk, nothing)


def _chunk_losses_forward(layer: Layer, *arguments: Any) -> tuple[TokenLosses, Any]:
    return _chunk_losses(layer, *arguments), arguments


def _chunk_losses_backward(layer: Layer, arguments: Any, wanted: TokenLosses) -> tuple[Any, ...]:
    """Computes the logits of each chunk again, so they are never held together."""
    used, targets, hidden, kernels = arguments

    def chunk(index: Array, gradients: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
        def losses(part: Array, kernels: list[Array]) -> tuple[Array, Array]:
            return token_losses(layer(part, *kernels), targets[index])[:2]

        _, pull_back = jax.vjp(losses, hidden[index], kernels)
        of_hidden, of_kernels = pull_back((wanted.log_z[index], wanted.target_logits[index]))
        sums = jax.tree.map(jnp.add, gradients[1], of_kernels)
        return gradients[0].at[index].set(of_hidden), sums

    nothing = jax.tree.map(jnp.zeros_like, (hidden, kernels))
    return None, None, *jax.lax.fori_loop(0, used, chunk, nothing)


_chunk_losses.defvjp(_chunk_losses_forward, _chunk_losses_backward)


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
