"""Small random decoder-only networks for tests."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from sycophancy.config.schema import DecoderConfig, RopeScaling
from sycophancy.model.decoder import DecoderTransformer

LLAMA = DecoderConfig(
    vocab_size=50,
    emb_dim=32,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    query_scale=8**-0.5,
    rope_scaling=RopeScaling("llama3", factor=2.0, original_length=16),
)
# Windows shorter than the rows, and everything that distinguishes Gemma 3 from Llama.
GEMMA = dataclasses.replace(
    LLAMA,
    num_layers=5,
    num_kv_heads=1,
    activation="gelu",
    norm_offset=True,
    logits_via_embedding=True,
    embedding_scale=32**0.5,
    query_key_norm=True,
    post_norms=True,
    rope_scaling=None,
    window=4,
    sliding_layers=(0, 1, 3, 4),
    local_rope_theta=100.0,
)
LONGEST = 32  # tokens of a row that `logits_of` takes
KINDS = {"llama": LLAMA, "gemma": GEMMA}


def draw(network: DecoderConfig, seed: int = 0):
    """Random parameters that are large enough for tokens to matter."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    init = jax.jit(DecoderTransformer(network).init)
    params = nn.unbox(init(jax.random.key(seed), tokens))["params"]
    embedding = params["token_embedder"]["embedding"]
    params["token_embedder"]["embedding"] = jax.random.normal(
        jax.random.key(seed + 1), embedding.shape
    )
    return params


def logits_of(network: DecoderConfig, params, tokens):
    """Logits at each place of one row, without anything before or beside it."""
    padded = jnp.zeros((1, LONGEST), jnp.int32).at[0, : len(tokens)].set(jnp.asarray(tokens))
    return _apply(network)({"params": params}, padded)[0, : len(tokens)]


@functools.cache
def _apply(network: DecoderConfig):
    return jax.jit(DecoderTransformer(network).apply)
