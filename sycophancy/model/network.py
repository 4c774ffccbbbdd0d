"""T5 1.1 in Flax linen: gated MLP, RMS norm, shared relative position bias, untied logits.

The unstacked parameter tree and the logical axis names are those of `t5x.examples.t5.network`
(Raffel et al. 2020; Shazeer 2020 for the gated MLP), so that T5X's checkpoints and partitioning
rules fit. Layers are scanned: the parameters of a stack have a leading `layers` axis, and compile
time does not grow with depth. `Transformer.step` decodes one position at a time: the variable
collection `cache` then holds the keys and values of earlier positions and of the encoded prompt.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from sycophancy.config.schema import NetworkConfig
from sycophancy.model.attention import Attention, RelativePositionBias
from sycophancy.model.layers import Dense, Embed, Mlp, RMSNorm, dropout_masks, stack


class EncoderLayer(nn.Module):
    """Self-attention and MLP, each with a norm before it and a residual connection around it."""

    config: NetworkConfig
    enable_dropout: bool

    @nn.compact
    def __call__(self, x: Array, mask: Array, bias: Array) -> tuple[Array, None]:
        config = self.config
        weights, attended, hidden, transformed = dropout_masks(
            self,
            config.dropout_rate,
            self.enable_dropout,
            x,
            (config.num_heads, mask.shape[-1]),
            (config.emb_dim,),
            (config.mlp_dim,),
            (config.emb_dim,),
        )
        x = nn.with_logical_constraint(x, ("batch", "length", "embed"))
        normed = RMSNorm(name="pre_attention_layer_norm")(x)
        attention = Attention(config, name="attention")
        x = x + attention(normed, normed, mask, bias, weights) * attended
        mlp = Mlp(config.mlp_dim, config.mlp_activations, name="mlp")
        return x + mlp(RMSNorm(name="pre_mlp_layer_norm")(x), hidden) * transformed, None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoded prompt, and MLP, with norms and residuals."""

    config: NetworkConfig
    enable_dropout: bool

    @nn.compact
    def __call__(
        self,
        x: Array,
        encoded: Array | None,
        mask: Array,
        bias: Array,
        cross_mask: Array,
        position: Array | None = None,
    ) -> tuple[Array, None]:
        config = self.config
        weights, attended, cross_weights, crossed, hidden, transformed = dropout_masks(
            self,
            config.dropout_rate,
            self.enable_dropout,
            x,
            (config.num_heads, mask.shape[-1]),
            (config.emb_dim,),
            (config.num_heads, cross_mask.shape[-1]),
            (config.emb_dim,),
            (config.mlp_dim,),
            (config.emb_dim,),
        )
        x = nn.with_logical_constraint(x, ("batch", "length", "embed"))
        normed = RMSNorm(name="pre_self_attention_layer_norm")(x)
        attention = Attention(config, name="self_attention")
        x = x + attention(normed, normed, mask, bias, weights, position) * attended
        normed = RMSNorm(name="pre_cross_attention_layer_norm")(x)
        attention = Attention(config, name="encoder_decoder_attention")
        x = x + attention(normed, encoded, cross_mask, None, cross_weights, position) * crossed
        mlp = Mlp(config.mlp_dim, config.mlp_activations, name="mlp")
        return x + mlp(RMSNorm(name="pre_mlp_layer_norm")(x), hidden) * transformed, None


class Encoder(nn.Module):
    """Encodes an embedded prompt."""

    config: NetworkConfig

    @nn.compact
    def __call__(self, x: Array, mask: Array, enable_dropout: bool) -> Array:
        config = self.config
        before, after = dropout_masks(
            self, config.dropout_rate, enable_dropout, x, (config.emb_dim,), (config.emb_dim,)
        )
        length = x.shape[1]
        bias = RelativePositionBias(config.num_heads, True, name="relpos_bias")(length, length)
        layers = stack(EncoderLayer, config.num_encoder_layers, config.remat_policy, 2)
        x, _ = layers(config, enable_dropout, name="layers")(x * before, mask, bias)
        return RMSNorm(name="encoder_norm")(x) * after


class Decoder(nn.Module):
    """Computes the logits of an embedded, shifted answer, given the encoded prompt.

    If the embedding is the output layer, it returns the hidden states that `Embed.attend` needs.
    """

    config: NetworkConfig

    @nn.compact
    def __call__(
        self,
        x: Array,
        encoded: Array | None,
        mask: Array,
        cross_mask: Array,
        enable_dropout: bool,
        position: Array | None = None,
    ) -> Array:
        config = self.config
        before, after = dropout_masks(
            self, config.dropout_rate, enable_dropout, x, (config.emb_dim,), (config.emb_dim,)
        )
        bias = RelativePositionBias(config.num_heads, False, name="relpos_bias")(
            x.shape[1], mask.shape[-1], position
        )
        layers = stack(DecoderLayer, config.num_decoder_layers, config.remat_policy, 5)
        x, _ = layers(config, enable_dropout, name="layers")(
            x * before, encoded, mask, bias, cross_mask, position
        )
        x = RMSNorm(name="decoder_norm")(x) * after
        if config.logits_via_embedding:
            return x
        x = x.astype(jnp.float32)
        return Dense(config.vocab_size, ("embed", "vocab"), name="logits_dense")(x)


class Transformer(nn.Module):
    """The encoder-decoder. Token 0 is padding, and so is segment 0 of a packed row.

    Arguments have T5X's names. With packing, `*_segment_ids` separate the examples of a row.
    `*_positions` are ignored, because positions are relative; they are accepted so that SeqIO's
    batches can be passed unchanged. Logits are float32.
    """

    config: NetworkConfig

    def setup(self) -> None:
        config = self.config
        self.token_embedder = Embed(config.vocab_size, config.emb_dim, config.dtype)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(
        self,
        encoder_input_tokens: Int[Array, "batch inputs"],
        encoder_segment_ids: Int[Array, "batch inputs"] | None = None,
        enable_dropout: bool = False,
    ) -> Float[Array, "batch inputs embed"]:
        """Encodes prompts; `decode` can then be called for several answers to them."""
        real = encoder_input_tokens > 0
        mask = _pair_mask(real, real, encoder_segment_ids, encoder_segment_ids)
        return self.encoder(self.token_embedder(encoder_input_tokens), mask, enable_dropout)

    def decode(
        self,
        encoded: Float[Array, "batch inputs embed"],
        encoder_input_tokens: Int[Array, "batch inputs"],
        decoder_input_tokens: Int[Array, "batch targets"],
        decoder_target_tokens: Int[Array, "batch targets"],
        encoder_segment_ids: Int[Array, "batch inputs"] | None = None,
        decoder_segment_ids: Int[Array, "batch targets"] | None = None,
        enable_dropout: bool = False,
    ) -> Float[Array, "batch targets vocab"]:
        """Logits of each target token, given the prompt and the target tokens before it."""
        real = decoder_target_tokens > 0
        length = decoder_target_tokens.shape[1]
        causal = jnp.tril(jnp.ones((1, 1, length, length), bool))
        mask = _pair_mask(real, real, decoder_segment_ids, decoder_segment_ids) & causal
        cross_mask = _pair_mask(
            real, encoder_input_tokens > 0, decoder_segment_ids, encoder_segment_ids
        )
        x = self.token_embedder(decoder_input_tokens)
        return self._logits(self.decoder(x, encoded, mask, cross_mask, enable_dropout))

    def step(
        self,
        encoded: Float[Array, "batch inputs embed"] | None,
        encoder_input_tokens: Int[Array, "batch inputs"],
        previous: Int[Array, " batch"],
        position: Int[Array, ""],
        length: int,
    ) -> Float[Array, "batch vocab"]:
        """Logits of the target token at one position; the collection `cache` must be mutable.

        Args:
          encoded: the encoded prompts at position 0; None at later positions, because the cache
            then has their keys and values.
          encoder_input_tokens: the prompts.
          previous: the target tokens before `position`; 0 at position 0.
          position: the number of target tokens so far.
          length: the most target tokens that the cache has room for.
        """
        rows = encoder_input_tokens.shape[0]
        mask = jnp.broadcast_to(jnp.arange(length) <= position, (rows, 1, 1, length))
        cross_mask = (encoder_input_tokens > 0)[:, None, None, :]
        x = self.token_embedder(previous[:, None])
        return self._logits(self.decoder(x, encoded, mask, cross_mask, False, position))[:, 0]

    def _logits(self, hidden: Array) -> Float[Array, "batch targets vocab"]:
        logits = hidden
        if self.config.logits_via_embedding:  # scaled by 1/sqrt(embed) as in every T5 that ties
            width = jnp.sqrt(jnp.float32(self.config.emb_dim))
            logits = self.token_embedder.attend(hidden.astype(jnp.float32) / width)
        return nn.with_logical_constraint(logits, ("batch", "length", "vocab"))

    def __call__(
        self,
        encoder_input_tokens: Int[Array, "batch inputs"],
        decoder_input_tokens: Int[Array, "batch targets"],
        decoder_target_tokens: Int[Array, "batch targets"],
        encoder_segment_ids: Int[Array, "batch inputs"] | None = None,
        decoder_segment_ids: Int[Array, "batch targets"] | None = None,
        encoder_positions: Int[Array, "batch inputs"] | None = None,
        decoder_positions: Int[Array, "batch targets"] | None = None,
        *,
        enable_dropout: bool = False,
    ) -> Float[Array, "batch targets vocab"]:
        """Teacher-forced logits, float32."""
        del encoder_positions, decoder_positions  # positions are relative
        encoded = self.encode(encoder_input_tokens, encoder_segment_ids, enable_dropout)
        return self.decode(
            encoded,
            encoder_input_tokens,
            decoder_input_tokens,
            decoder_target_tokens,
            encoder_segment_ids,
            decoder_segment_ids,
            enable_dropout,
        )


def _pair_mask(
    queries: Bool[Array, "batch queries"],
    keys: Bool[Array, "batch keys"],
    query_segments: Int[Array, "batch queries"] | None,
    key_segments: Int[Array, "batch keys"] | None,
) -> Bool[Array, "batch 1 queries keys"]:
    """True where a query that is not padding may attend to such a key of its own segment."""
    mask = queries[:, :, None] & keys[:, None, :]
    if query_segments is not None and key_segments is not None:
        mask &= query_segments[:, :, None] == key_segments[:, None, :]
    return mask[:, None]
