"""T5's attention: a bias by relative position, and scores that are not scaled.

The bias is that of Raffel et al. 2020, section 2.1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from sycophancy.config.schema import NetworkConfig
from sycophancy.model.layers import Dense, KernelInit, kernel_init

RELPOS_BUCKETS = 32
RELPOS_MAX_DISTANCE = 128
QUERY_PARTS = 4  # attention is computed for such a part of the queries at a time,
QUERY_BLOCK_LEAST = 16  # and for at least so many
FUSED_DTYPES = (jnp.bfloat16, jnp.float16)  # of cuDNN's attention,
FUSED_HEAD_DIM = 128  # its widest heads on all GPUs that have it,
FUSED_COMPUTE_CAPABILITY = 8.0  # which are those from Ampere on


class RelativePositionBias(nn.Module):
    """A learned bias for each head and distance bucket, shared by all layers of a stack."""

    num_heads: int
    bidirectional: bool

    @nn.compact
    def __call__(
        self, queries: int, keys: int, first: Int[Array, ""] | None = None
    ) -> Float[Array, "1 heads queries keys"]:
        """The bias of each pair; `first` is the position of the first query, by default 0."""
        init = nn.with_logical_partitioning(
            nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
            ("heads", "relpos_buckets"),
        )
        table = cast(
            Array, self.param("rel_embedding", init, (self.num_heads, RELPOS_BUCKETS), jnp.float32)
        )
        distance = jnp.arange(keys)[None, :] - jnp.arange(queries)[:, None]
        distance = distance if first is None else distance - first
        return table[:, relative_position_bucket(distance, self.bidirectional)][None]


def relative_position_bucket(
    distance: Int[Array, "*shape"], bidirectional: bool
) -> Int[Array, "*shape"]:
    """The bucket of each distance, which is the key's position minus the query's position.

    Near distances have buckets of their own; far distances share buckets whose width grows
    logarithmically. There are 32 buckets, and distances beyond 128 share the last one (Raffel et
    al. 2020, section 2.1).
    """
    buckets, offset = RELPOS_BUCKETS, jnp.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        offset = jnp.where(distance > 0, buckets, 0)
        distance = jnp.abs(distance)
    else:
        distance = jnp.maximum(-distance, 0)
    exact = buckets // 2
    far = jnp.maximum(distance, exact).astype(jnp.float32) / exact
    log_ratio = jnp.log(far) / jnp.log(RELPOS_MAX_DISTANCE / exact)
    logarithmic = exact + (log_ratio * (buckets - exact)).astype(distance.dtype)
    logarithmic = jnp.minimum(logarithmic, buckets - 1)
    return offset + jnp.where(distance < exact, distance, logarithmic)


class Attention(nn.Module):
    """Multi-head dot-product attention.

    Scores are not divided by sqrt(head_dim); the query's kernel starts smaller by that factor.

    When decoding, `first` is the position of the first row of `memory`. Its keys and values are
    added to those in the cache, which has a place for each position of the mask. Without `memory`,
    those in the cache are attended to as they are. `kept` is the dropout's mask of the weights; it
    is the same for every query, as in T5X.
    """

    config: NetworkConfig

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "batch queries embed"],
        memory: Float[Array, "batch keys embed"] | None,
        mask: Bool[Array, "batch 1 queries keys"],
        bias: Float[Array, "1 heads queries keys"] | None,
        kept: Array,
        first: Int[Array, ""] | None = None,
    ) -> Float[Array, "batch queries embed"]:
        config = self.config
        joined = config.num_heads * config.head_dim

        def query_init(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
            return kernel_init(key, shape, dtype) / jnp.sqrt(jnp.float32(config.head_dim))

        def heads(name: str, x: Array, init: KernelInit = kernel_init) -> Array:
            projected = Dense(joined, ("embed", "joined_kv"), init, name=name)(x)
            split = projected.reshape(*x.shape[:2], config.num_heads, config.head_dim)
            return nn.with_logical_constraint(split, ("batch", "length", "heads", "kv"))

        def remembered(name: str) -> Array:
            """The projections of all positions up to the last row of `memory`."""
            if memory is not None and first is None:
                return heads(name, memory)
            shape = (queries.shape[0], mask.shape[-1], config.num_heads, config.head_dim)
            cached = self.variable("cache", f"cached_{name}", jnp.zeros, shape, queries.dtype)
            if memory is not None and first is not None:
                cached.value = jax.lax.dynamic_update_slice_in_dim(
                    cached.value, heads(name, memory), first, axis=1
                )
            return cached.value

        query = heads("query", queries, query_init)
        key, value = remembered("key"), remembered("value")
        attend = _attend_fused if _has_fused(query, key) else _attend_in_parts
        mixed = attend(query, key, value, mask, bias, kept)
        mixed = mixed.reshape(*mixed.shape[:2], joined)
        return Dense(queries.shape[-1], ("joined_kv", "embed"), name="out")(mixed)


def _has_fused(
    query: Float[Array, "batch queries heads kv"], key: Float[Array, "batch keys heads kv"]
) -> bool:
    """Whether the GPU's library has attention for such arrays as one operation."""
    if jax.default_backend() != "gpu":
        return False
    device = jax.local_devices()[0]
    capability = getattr(device, "compute_capability", None)
    return (
        "cuda" in device.client.platform_version
        and float(capability or 0) >= FUSED_COMPUTE_CAPABILITY
        and query.dtype in FUSED_DTYPES
        and query.shape[-1] <= FUSED_HEAD_DIM
        and query.shape[-1] % 8 == query.shape[1] % 2 == key.shape[1] % 2 == 0
    )


def _attend_fused(
    query: Float[Array, "batch queries heads kv"],
    key: Float[Array, "batch keys heads kv"],
    value: Float[Array, "batch keys heads kv"],
    mask: Bool[Array, "batch 1 queries keys"],
    bias: Float[Array, "1 heads queries keys"] | None,
    kept: Array,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "batch queries heads kv"]:
    """`_attend_in_parts` as one operation, which never holds the weights in memory.

    All queries share the dropout's mask, so it can be applied to the values instead of the weights.
    """
    if kept.ndim:
        value = value * jnp.swapaxes(kept[:, :, 0], 1, 2)[..., None]
    # JAX adds the mask to the bias. Its gradient, which some versions compute even of a mask alone,
    # then has one form, with all rows and heads.
    mask = jnp.broadcast_to(mask, (len(query), query.shape[2], *mask.shape[2:]))
    bias = None if bias is None else bias.astype(query.dtype)
    return jax.nn.dot_product_attention(
        query, key, value, bias, mask, scale=1.0, implementation=implementation
    )


def _attend_in_parts(
    query: Float[Array, "batch queries heads kv"],
    key: Float[Array, "batch keys heads kv"],
    value: Float[Array, "batch keys heads kv"],
    mask: Bool[Array, "batch 1 queries keys"],
    bias: Float[Array, "1 heads queries keys"] | None,
    kept: Array,
) -> Float[Array, "batch queries heads kv"]:
    """Dot-product attention, for a part of the queries at a time; the softmax is float32.

    Heads come first, because XLA's CPU backend has a fast routine for products of that form alone,
    and what it computes at once stays in the cache. The weights are multiplied by `kept`.
    """
    query, value = jnp.swapaxes(query, 1, 2), jnp.swapaxes(value, 1, 2)
    key = jnp.transpose(key, (0, 2, 3, 1))

    queries = query.shape[2]
    size = max(-(-queries // QUERY_PARTS), QUERY_BLOCK_LEAST)
    sizes = [min(size, queries - start) for start in range(0, queries, size)]

    def split(rows: Array) -> Sequence[Array]:
        # Unlike that of slices, the gradient of this is one concatenation.
        return jax.lax.split(rows, sizes, axis=2)

    def block(query: Array, mask: Array, bias: Array | None) -> Array:
        scores = jnp.matmul(query, key)
        if bias is not None:
            scores = scores + _for_each_row(bias.astype(scores.dtype), len(scores))
        scores = jnp.where(mask, scores, jnp.asarray(-1e10, scores.dtype))
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(value.dtype)
        return jnp.matmul(weights * kept, value)

    biases = [None] * len(sizes) if bias is None else split(bias)
    parts = list(map(block, split(query), split(mask), biases))
    return jnp.swapaxes(jnp.concatenate(parts, axis=2), 1, 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _for_each_row(
    bias: Float[Array, "1 heads queries keys"], rows: int
) -> Float[Array, "rows heads queries keys"]:
    """The bias of every row of a batch.

    Its gradient is a product with ones: as a sum over the first axis, XLA's CPU backend takes 70
    times as long for it.
    """
    return jnp.broadcast_to(bias, (rows, *bias.shape[1:]))


def _for_each_row_forward(bias: Array, rows: int) -> tuple[Array, None]:
    return _for_each_row(bias, rows), None


def _for_each_row_backward(rows: int, _: None, gradient: Array) -> tuple[Array]:
    return (jnp.tensordot(jnp.ones((1, rows), gradient.dtype), gradient, 1),)


_for_each_row.defvjp(_for_each_row_forward, _for_each_row_backward)
