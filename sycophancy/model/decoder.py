"""Decoder-only models in Flax linen: Llama, Qwen 2 and 3, Gemma, by configuration.

Attention with fewer key and value heads than query heads (Ainslie et al. 2023), rotary positions
(Su et al. 2021), RMS norms (Zhang and Sennrich 2019) and a gated MLP (Shazeer 2020). The parameter
tree has T5X's names. Layers are scanned: the parameters of the stack have a leading `layers` axis.
Layers with a sliding window and layers without one are the same code; each gets a flag, and with it
the mask and the rotation of its kind.

Positions decide what a window covers and how heads are rotated, so packed rows, several answers
behind one prompt (a tree mask) and rows that continue at different positions need nothing more.
Segment 0 is padding. No token is, because families use their tokens differently.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from sycophancy.config.schema import DecoderConfig
from sycophancy.model.layers import Dense, Embed, Mlp, RMSNorm, dropout_masks, stack
from sycophancy.model.rotary import Rotation, frequencies, rotate, rotation
from sycophancy.model.size import QUERY_BLOCK

EMBEDDING_STD = 0.02  # of a new embedding; checkpoints bring their own
UNUSED = -1  # the position of an empty place in the cache, and of padding that goes into it


class View(NamedTuple):
    """What the queries of one kind of layer see.

    Attributes:
      mask: True where a query may attend to a key.
      rotation: of the new positions.
    """

    mask: Bool[Array, "batch 1 queries keys"]
    rotation: Rotation


class Room(NamedTuple):
    """Where in the cache new keys and values go.

    Attributes:
      first: the place of the first one.
      size: how many places the cache has; a Python int.
    """

    first: Int[Array, ""]
    size: int


class GroupedQueryAttention(nn.Module):
    """Self-attention in which each key and value head serves several query heads.

    With `first`, keys and values are written into the cache from that place on, and queries attend
    to the whole cache, which has a place for each key of the mask.
    """

    config: DecoderConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length embed"], view: View, first: Array | None
    ) -> Float[Array, "batch length embed"]:
        config = self.config
        batch, length, width = x.shape
        groups = config.num_heads // config.num_kv_heads

        def heads(name: str, count: int, axes: tuple[str, str]) -> Array:
            dense = Dense(
                count * config.head_dim, ("embed", axes[0]), use_bias=config.qkv_bias, name=name
            )
            split = dense(x).reshape(batch, length, count, config.head_dim)
            return nn.with_logical_constraint(split, ("batch", "length", axes[1], "kv"))

        def normed(name: str, split: Array) -> Array:
            if not config.query_key_norm:
                return split
            norm = RMSNorm(config.norm_epsilon, config.norm_offset, "kv", name=f"{name}_norm")
            return norm(split)

        def remembered(name: str, new: Array) -> Array:
            if first is None:
                return new
            shape = (batch, view.mask.shape[-1], *new.shape[2:])
            cached = self.variable("cache", f"cached_{name}", jnp.zeros, shape, new.dtype)
            cached.value = jax.lax.dynamic_update_slice_in_dim(cached.value, new, first, axis=1)
            return cached.value

        query = normed("query", heads("query", config.num_heads, ("joined_kv", "heads")))
        key = normed("key", heads("key", config.num_kv_heads, ("joined_kv_heads", "kv_heads")))
        value = heads("value", config.num_kv_heads, ("joined_kv_heads", "kv_heads"))
        query = rotate(query, view.rotation, config.query_scale)
        key = remembered("key", rotate(key, view.rotation))
        value = remembered("value", value)

        grouped = query.reshape(batch, length, config.num_kv_heads, groups, config.head_dim)
        mixed = _attend(
            grouped, key, value, view.mask, config.attention_logit_softcap, in_order=first is None
        )
        mixed = mixed.reshape(batch, length, config.num_heads * config.head_dim)
        return Dense(width, ("joined_kv", "embed"), use_bias=config.out_bias, name="out")(mixed)


class DecoderLayer(nn.Module):
    """Causal self-attention and MLP, each with a norm before it and a residual around both."""

    config: DecoderConfig
    enable_dropout: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        everywhere: View,
        nearby: View | None,
        first: Array | None,
        slides: Bool[Array, ""] | None,
    ) -> tuple[Array, None]:
        config = self.config
        attended, transformed = dropout_masks(
            self, config.dropout_rate, self.enable_dropout, x, (config.emb_dim,), (config.emb_dim,)
        )
        view = everywhere
        if nearby is not None and slides is not None:
            view = jax.tree.map(lambda near, far: jnp.where(slides, near, far), nearby, everywhere)

        def norm(name: str) -> RMSNorm:
            return RMSNorm(config.norm_epsilon, config.norm_offset, name=f"{name}_layer_norm")

        def add(residual: Array, name: str, branch: Array, kept: Array) -> Array:
            branch = norm(f"post_{name}")(branch) if config.post_norms else branch
            return residual + branch * kept

        x = nn.with_logical_constraint(x, ("batch", "length", "embed"))
        attend = GroupedQueryAttention(config, name="self_attention")
        normed = norm("pre_self_attention")(x)
        x = add(x, "self_attention", attend(normed, view, first), attended)
        mlp = Mlp(
            config.mlp_dim, (config.activation, "linear"), use_bias=config.mlp_bias, name="mlp"
        )
        return add(x, "mlp", mlp(norm("pre_mlp")(x)), transformed), None


class Layers(nn.Module):
    """All layers and the norm after them."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        positions: Int[Array, "batch length"],
        mask: Bool[Array, "batch 1 length keys"] | None,
        enable_dropout: bool,
        room: Room | None = None,
    ) -> Float[Array, "batch length embed"]:
        config = self.config
        keys = positions if room is None else self._remembered(positions, room)
        if mask is None:
            earlier = keys[:, None, :] <= positions[:, :, None]
            mask = (earlier & (keys != UNUSED)[:, None, :])[:, None]
        scaled = frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
        everywhere, nearby, slides = View(mask, rotation(positions, scaled)), None, None
        if config.sliding_layers:
            assert config.window is not None
            near = positions[:, :, None] - keys[:, None, :] < config.window
            local = everywhere.rotation
            if config.local_rope_theta is not None:
                by = frequencies(config.head_dim, config.local_rope_theta)
                local = rotation(positions, by)
            nearby = View(mask & near[:, None], local)
            slides = jnp.zeros(config.num_layers, bool)
            slides = slides.at[jnp.array(config.sliding_layers)].set(True)
        (kept,) = dropout_masks(self, config.dropout_rate, enable_dropout, x, (config.emb_dim,))
        layers = stack(DecoderLayer, config.num_layers, config.remat_policy, 3, layer_inputs=1)
        first = None if room is None else room.first
        x, _ = layers(config, enable_dropout, name="layers")(
            x * kept, everywhere, nearby, first, slides
        )
        return RMSNorm(config.norm_epsilon, config.norm_offset, name="decoder_norm")(x)

    def _remembered(
        self, positions: Int[Array, "batch length"], room: Room
    ) -> Int[Array, "batch keys"]:
        """The positions of all places of the cache, once the new ones are in it."""
        empty = jnp.full((positions.shape[0], room.size), UNUSED, jnp.int32)
        cached = self.variable("cache", "cached_positions", lambda: empty)
        cached.value = jax.lax.dynamic_update_slice_in_dim(
            cached.value, positions, room.first, axis=1
        )
        return cached.value


class DecoderTransformer(nn.Module):
    """A decoder-only language model; logits are float32.

    `hidden` and `logits` are its two halves: where the vocabulary is large, compute logits only at
    the positions that are wanted. `extend` continues rows whose keys and values are in a cache.
    """

    config: DecoderConfig

    def setup(self) -> None:
        config = self.config
        init = nn.initializers.normal(EMBEDDING_STD)
        self.token_embedder = Embed(config.vocab_size, config.emb_dim, config.dtype, init)
        self.decoder = Layers(config)
        if not config.logits_via_embedding:
            self.logits_dense = Dense(
                config.vocab_size, ("embed", "vocab"), product_dtype=jnp.float32
            )

    def hidden(
        self,
        tokens: Int[Array, "batch length"],
        positions: Int[Array, "batch length"] | None = None,
        segment_ids: Int[Array, "batch length"] | None = None,
        mask: Bool[Array, "batch 1 length length"] | None = None,
        enable_dropout: bool = False,
    ) -> Float[Array, "batch length embed"]:
        """The normed output of the last layer, for `logits`.

        Args:
          tokens: int32.
          positions: of the tokens; None counts from 0 in every segment.
          segment_ids: which example of a packed row a token belongs to; 0 is padding.
          mask: True where a query may attend to a key; it never attends to a key at a later place.
            None: to the keys of its own segment up to itself. Sliding layers also need the key's
            position to be within the window.
          enable_dropout: needs the random key `dropout`.
        """
        if positions is None:
            positions = _positions(tokens, segment_ids)
        if mask is None:
            mask = _causal_mask(tokens, segment_ids)
        return self.decoder(self._embed(tokens), positions, mask, enable_dropout)

    def logits(
        self, hidden: Float[Array, "batch *shape embed"]
    ) -> Float[Array, "batch *shape vocab"]:
        """Logits of the token after each position, float32."""
        config = self.config
        if config.logits_via_embedding:
            logits = self.token_embedder.attend(hidden)
        else:
            logits = self.logits_dense(hidden)
        if config.final_logit_softcap is not None:
            logits = _softcap(logits, config.final_logit_softcap)
        between = ("length",) * (logits.ndim - 2)
        return nn.with_logical_constraint(logits, ("batch", *between, "vocab"))

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        positions: Int[Array, "batch length"] | None = None,
        segment_ids: Int[Array, "batch length"] | None = None,
        mask: Bool[Array, "batch 1 length length"] | None = None,
        enable_dropout: bool = False,
    ) -> Float[Array, "batch length vocab"]:
        """Logits of the token after each position, float32; the arguments are those of `hidden`."""
        return self.logits(self.hidden(tokens, positions, segment_ids, mask, enable_dropout))

    def extend(
        self,
        tokens: Int[Array, "batch new"],
        positions: Int[Array, "batch new"],
        room: Room,
        mask: Bool[Array, "batch 1 new size"] | None = None,
    ) -> Float[Array, "batch new embed"]:
        """`hidden` of tokens that follow those in the cache.

        The collection `cache` must be mutable; it may be empty in the first call. Places need not
        be in the order of positions: rows of a batch can end at different positions and be
        continued at the same places.

        Args:
          tokens: int32.
          positions: of the tokens in their row; `UNUSED` for padding, which no other token sees.
          room: where the cache holds the new tokens. Every call names the same size.
          mask: True where a new token may attend to a place of the cache, the new tokens' own
            included. None: to all tokens at positions up to its own.
        """
        return self.decoder(self._embed(tokens), positions, mask, False, room)

    def step(
        self, previous: Int[Array, " batch"], positions: Int[Array, " batch"], room: Room
    ) -> Float[Array, "batch vocab"]:
        """Logits of the token after `previous`, which `extend` adds to the cache.

        Args:
          previous: one token for each row.
          positions: its position in each row.
          room: as for `extend`.
        """
        return self.logits(self.extend(previous[:, None], positions[:, None], room)[:, 0])

    def _embed(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        x = self.token_embedder(tokens)
        if self.config.embedding_scale != 1.0:
            x = x * jnp.asarray(self.config.embedding_scale, x.dtype)
        return x


def _attend(
    query: Float[Array, "batch queries heads groups kv"],
    key: Float[Array, "batch keys heads kv"],
    value: Float[Array, "batch keys heads kv"],
    mask: Bool[Array, "batch 1 queries keys"],
    softcap: float | None,
    in_order: bool,
) -> Float[Array, "batch queries heads groups kv"]:
    """Dot-product attention, for `QUERY_BLOCK` queries at a time; the softmax is float32.

    The backward pass computes a block's weights again, so those of all queries are never held.
    Heads come first and the queries of a group side by side, because XLA's CPU backend has a fast
    routine for products of that form alone.

    Args:
      query: scaled.
      key: of each key and value head.
      value: likewise.
      mask: True where a query may attend to a key.
      softcap: bounds the scores, if given.
      in_order: no query attends to a key at a later place, so the later keys are left out.
    """
    batch, queries, heads, groups, size = query.shape
    query = jnp.moveaxis(query, 1, 3)
    key, value = jnp.moveaxis(key, 1, 3), jnp.moveaxis(value, 1, 2)

    @jax.checkpoint
    def block(query: Array, key: Array, value: Array, mask: Array) -> Array:
        rows = query.reshape(batch, heads, -1, size)
        scores = jnp.matmul(rows, key, preferred_element_type=jnp.float32)
        scores = scores.reshape(batch, heads, groups, *mask.shape[-2:])
        if softcap is not None:
            scores = _softcap(scores, softcap)
        scores = jnp.where(mask[:, :, None], scores, jnp.float32(-1e10))
        weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
        return jnp.matmul(weights.reshape(*rows.shape[:-1], -1), value).reshape(query.shape)

    sizes = [min(QUERY_BLOCK, queries - start) for start in range(0, queries, QUERY_BLOCK)]
    # Unlike that of slices, the gradient of a split is one concatenation.
    parts = zip(jax.lax.split(query, sizes, 3), jax.lax.split(mask, sizes, 2), strict=True)
    mixed, end = [], 0
    for rows, allowed in parts:
        end += rows.shape[3]
        seen = end if in_order else key.shape[-1]
        mixed.append(block(rows, key[..., :seen], value[:, :, :seen], allowed[..., :seen]))
    return jnp.moveaxis(jnp.concatenate(mixed, axis=3), 3, 1)


def _softcap(x: Float[Array, "*shape"], cap: float) -> Float[Array, "*shape"]:
    return cap * jnp.tanh(x / cap)


def _positions(tokens: Array, segment_ids: Array | None) -> Int[Array, "batch length"]:
    """Positions that count from 0 at the start of every segment."""
    places = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
    if segment_ids is None:
        return places
    before = jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    starts = jnp.where(segment_ids != before, places, 0)
    return places - jax.lax.cummax(starts, axis=1)


def _causal_mask(tokens: Array, segment_ids: Array | None) -> Bool[Array, "batch 1 length length"]:
    """True for the keys up to the query's own that are in its segment."""
    batch, length = tokens.shape
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((length, length), bool)), (batch, length, length))
    if segment_ids is not None:
        mask &= segment_ids[:, :, None] == segment_ids[:, None, :]
    return mask[:, None]
