"""Layers that the network families share, in Flax linen with T5X's names of logical axes.

Parameters are float32; a product is computed in the dtype of its input.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from sycophancy.config.schema import Activation, RematPolicy

NORM_EPSILON = 1e-6  # T5's
UNROLLED_DEPTH = 4  # stacks of at most this depth are unrolled, which is faster

# T5's gelu is the approximated one. transformers calls the exact one gelu.
ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "gelu": nn.gelu,
    "gelu_exact": functools.partial(nn.gelu, approximate=False),
    "relu": nn.relu,
    "silu": nn.silu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "linear": lambda x: x,
}
_REMAT_POLICIES = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}

KernelInit: TypeAlias = Callable[..., Array]  # from a key, a shape and a dtype

kernel_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


class Dense(nn.Module):
    """Matrix product; the parameters are float32, the product is in the input's dtype.

    Attributes:
      product_dtype: of the product, in place of the input's.
    """

    features: int
    axes: tuple[str, str]
    kernel_init: KernelInit = kernel_init
    use_bias: bool = False
    product_dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, inputs: Float[Array, "*shape in"]) -> Float[Array, "*shape out"]:
        init = nn.with_logical_partitioning(self.kernel_init, self.axes)
        kernel = cast(
            Array, self.param("kernel", init, (inputs.shape[-1], self.features), jnp.float32)
        )
        # XLA's CPU backend uses its fast routine only for products of two-dimensional matrices. On
        # other backends the reshape costs nothing.
        flat = jnp.matmul(
            inputs.reshape(-1, inputs.shape[-1]),
            kernel.astype(inputs.dtype),
            preferred_element_type=self.product_dtype,
        )
        if self.use_bias:
            zeros = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:])
            bias = cast(Array, self.param("bias", zeros, (self.features,), jnp.float32))
            flat = flat + jnp.broadcast_to(bias.astype(flat.dtype), flat.shape)
        return flat.reshape(*inputs.shape[:-1], self.features)


class RMSNorm(nn.Module):
    """Root-mean-square norm with a scale and no bias, computed in float32.

    Attributes:
      epsilon: is added to the mean square.
      offset: whether the factor is 1 + scale and is applied in float32, as in Gemma.
      axis: the logical axis that is normed.
    """

    epsilon: float = NORM_EPSILON
    offset: bool = False
    axis: str = "embed"

    @nn.compact
    def __call__(self, inputs: Float[Array, "*shape embed"]) -> Float[Array, "*shape embed"]:
        initial = nn.initializers.zeros if self.offset else nn.initializers.ones
        init = nn.with_logical_partitioning(initial, (self.axis,))
        scale = cast(Array, self.param("scale", init, (inputs.shape[-1],), jnp.float32))
        x = inputs.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        normed = x * jax.lax.rsqrt(mean_square + self.epsilon)
        if self.offset:
            return (normed * jnp.broadcast_to(1.0 + scale, x.shape)).astype(inputs.dtype)
        normed = normed.astype(inputs.dtype)
        return normed * jnp.broadcast_to(scale.astype(inputs.dtype), normed.shape)


class Mlp(nn.Module):
    """Gated feed-forward block: the product of one projection for each activation, and another."""

    mlp_dim: int
    activations: tuple[Activation, ...]
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "batch length embed"], kept: Array | None = None) -> Array:
        """The block's output; its inner activations are multiplied by `kept`, a dropout's mask."""
        hidden = jnp.ones((), x.dtype)
        for i, activation in enumerate(self.activations):
            name = "wi" if len(self.activations) == 1 else f"wi_{i}"
            branch = Dense(self.mlp_dim, ("embed", "mlp"), use_bias=self.use_bias, name=name)(x)
            branch = ACTIVATIONS[activation](branch)
            hidden = branch if i == 0 else hidden * branch
        hidden = hidden if kept is None else hidden * kept
        hidden = nn.with_logical_constraint(hidden, ("batch", "length", "mlp"))
        return Dense(x.shape[-1], ("mlp", "embed"), use_bias=self.use_bias, name="wo")(hidden)


class Embed(nn.Module):
    """The token embedding; `attend` is the output layer that shares its parameters."""

    vocab_size: int
    emb_dim: int
    dtype: DTypeLike
    embedding_init: KernelInit = nn.initializers.normal(1.0)

    def setup(self) -> None:
        init = nn.with_logical_partitioning(self.embedding_init, ("vocab", "embed"))
        shape = (self.vocab_size, self.emb_dim)
        self.embedding = cast(Array, self.param("embedding", init, shape, jnp.float32))

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        return jnp.take(self.embedding, tokens, axis=0).astype(self.dtype)

    def attend(self, x: Float[Array, "*shape embed"]) -> Float[Array, "*shape vocab"]:
        """The product of each vector, in its dtype, with each token's embedding; float32."""
        return jnp.matmul(x, self.embedding.astype(x.dtype).T, preferred_element_type=jnp.float32)


def dropout_masks(
    module: nn.Module, rate: float, enabled: bool, x: Array, *shapes: tuple[int, ...]
) -> list[Array]:
    """What a layer's dropouts multiply by: 0, or 1 / (1 - rate); ones if there is no dropout.

    All positions of a sequence share a mask, as in T5X. One draw serves all masks, because the
    compiler takes as long for a small one as for a large one.

    Args:
      module: the layer, whose random key `dropout` is drawn from.
      rate: the share of zeros.
      enabled: whether to drop anything.
      x: the layer's input, (batch, ...), which decides the masks' dtype.
      shapes: of what is masked, without the batch and the positions: (width,), or (heads, keys) for
        weights of attention.

    Returns:
      A mask for each shape, (batch, 1, width) or (batch, heads, 1, keys).
    """
    if not enabled or rate == 0.0:
        return [jnp.ones((), x.dtype)] * len(shapes)
    sizes = [math.prod(shape) for shape in shapes]
    kept = jax.random.bernoulli(module.make_rng("dropout"), 1.0 - rate, (len(x), sum(sizes)))
    masks = nn.with_logical_constraint(kept.astype(x.dtype) / (1.0 - rate), ("batch", None))
    return [
        part.reshape(len(x), *shape[:-1], 1, shape[-1])
        for part, shape in zip(jax.lax.split(masks, sizes, axis=1), shapes, strict=True)
    ]


def stack(
    layer: type[nn.Module],
    depth: int,
    remat_policy: RematPolicy,
    broadcast_inputs: int,
    layer_inputs: int = 0,
) -> Callable[..., Any]:
    """The class of a module that scans over `depth` layers with stacked parameters.

    Args:
      layer: the class of one layer.
      depth: the number of layers.
      remat_policy: which activations the backward pass computes again.
      broadcast_inputs: how many inputs after the first one are the same for all layers.
      layer_inputs: how many inputs after those have a leading axis with an entry for each layer.
    """
    if remat_policy != "none":
        layer = nn.remat(layer, policy=_REMAT_POLICIES[remat_policy], prevent_cse=False)
    return nn.scan(
        layer,
        variable_axes={"params": 0, "cache": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(nn.broadcast,) * broadcast_inputs + (0,) * layer_inputs,
        length=depth,
        metadata_params={nn.PARTITION_NAME: "layers"},
        unroll=depth if depth <= UNROLLED_DEPTH else 1,
    )
