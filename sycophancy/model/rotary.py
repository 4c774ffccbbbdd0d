"""Rotary positions (Su et al. 2021), with the frequency scalings of Llama 3 and Gemma 3."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sycophancy.config.schema import RopeScaling


class Rotation(NamedTuple):
    """Cosines and sines by which the heads at some positions are rotated, float32."""

    cosines: Float[Array, "batch length half"]
    sines: Float[Array, "batch length half"]


def frequencies(head_dim: int, theta: float, scaling: RopeScaling | None = None) -> np.ndarray:
    """Radians per position for each pair of a head's dimensions, float32 [head_dim / 2].

    Llama 3's scaling looks at how many periods a frequency has in a text of the original length:
    with many it stays, with few it is divided by the factor, in between both are mixed (the Llama 3
    herd of models, 2024; the mixture is that of Meta's code).

    >>> frequencies(4, 100.0).tolist()
    [1.0, 0.10000000149011612]
    >>> frequencies(4, 100.0, RopeScaling("linear", 8.0)).tolist()
    [0.125, 0.012500000186264515]
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    plain = (1.0 / np.float32(theta) ** exponents).astype(np.float32)
    if scaling is None:
        return plain
    divided = plain / np.float32(scaling.factor)
    if scaling.kind == "linear":
        return divided
    periods = scaling.original_length * plain / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = np.clip((periods - low) / (high - low), 0.0, 1.0)
    return (kept * plain + (1.0 - kept) * divided).astype(np.float32)


def rotation(positions: Int[Array, "batch length"], by: np.ndarray) -> Rotation:
    """The rotation at each position, for frequencies `by` [half]."""
    angles = positions[:, :, None].astype(jnp.float32) * jnp.asarray(by)[None, None, :]
    return Rotation(jnp.cos(angles), jnp.sin(angles))


def rotate(
    heads: Float[Array, "batch length heads dim"], by: Rotation, scale: float = 1.0
) -> Float[Array, "batch length heads dim"]:
    """Rotates the pairs (i, i + dim/2) of every head, in float32, and multiplies by `scale`.

    The result has the dtype of `heads`.
    """
    first, second = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
    cosines, sines = (part[:, :, None, :] * scale for part in by)
    cosines, sines = (jnp.broadcast_to(part, first.shape) for part in (cosines, sines))
    rotated = [first * cosines - second * sines, second * cosines + first * sines]
    return jnp.concatenate(rotated, axis=-1).astype(heads.dtype)
