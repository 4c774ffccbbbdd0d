"""Greedy decoding of a batch on the devices: one compiled program starts it, another continues.

The first program reads the prompts and writes the first token. The second one writes further tokens
until every row has ended or a given number is reached, so that the host can look at the texts in
between. Keys and values of the prompts are computed once.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from sycophancy.config.schema import DecoderConfig, Network
from sycophancy.model import sharding
from sycophancy.model.decoder import UNUSED, DecoderTransformer, Room
from sycophancy.model.network import Transformer

_Model = Transformer | DecoderTransformer


class State(NamedTuple):
    """A batch that is being written.

    Attributes:
      tokens: what was written so far; 0 after it.
      ended: the rows that have written the end of sequence, or are not to be continued.
      position: the number of tokens written.
      cache: the network's keys and values.
    """

    tokens: Int[Array, "rows targets"]
    ended: Bool[Array, " rows"]
    position: Int[Array, ""]
    cache: Any


class Programs(NamedTuple):
    """The two programs of a network on a mesh, compiled for each shape.

    Attributes:
      start: from the parameters and int32 prompts [rows, inputs], padded at their ends with
        `padding(network)`, to the state after one token. A row of padding alone has ended.
      go_on: from the parameters, the prompts, a state, which is used up, the rows to end, bool
        [rows], and the number of tokens to stop at, to the next state.
    """

    start: Any
    go_on: Any


def padding(network: Network) -> int:
    """What fills up the rows of prompts; 0 may be a token of a decoder-only model."""
    return UNUSED if isinstance(network, DecoderConfig) else 0


@functools.cache
def make_programs(
    network: Network, mesh: Mesh, targets: int, end: int | tuple[int, ...]
) -> Programs:
    """The programs; every process gets all tokens, and the cache stays split over the devices.

    Args:
      network: its shape. Its dtype is that of the activations; dropout is off.
      mesh: the devices; rows are split over data and fsdp.
      targets: the most tokens that a row may get.
      end: the token, or any of the tokens, that ends a row.
    """
    model = (
        DecoderTransformer(network) if isinstance(network, DecoderConfig) else Transformer(network)
    )
    network_and_rules = model, sharding.logical_rules(network, mesh)
    ends = (end,) if isinstance(end, int) else end
    whole = sharding.replicated(mesh)
    shardings: Any = (whole, whole, whole, None)
    return Programs(
        jax.jit(
            functools.partial(_start, *network_and_rules, targets, ends),
            out_shardings=State(*shardings),
        ),
        jax.jit(
            functools.partial(_go_on, *network_and_rules, ends),
            out_shardings=State(*shardings),
            donate_argnames="state",
        ),
    )


def _start(
    model: _Model,
    rules: sharding.Rules,
    targets: int,
    ends: tuple[int, ...],
    params: Any,
    prompts: Int[Array, "rows inputs"],
) -> State:
    # By default, accelerators multiply float32 matrices with less precision.
    with jax.default_matmul_precision("float32"), nn.logical_axis_rules(rules):
        return _step(
            model,
            ends,
            params,
            prompts,
            State(
                tokens=jnp.zeros((prompts.shape[0], targets), jnp.int32),
                ended=prompts[:, 0] == padding(model.config),
                position=jnp.zeros((), jnp.int32),
                cache={},
            ),
            first=True,
        )


def _go_on(
    model: _Model,
    rules: sharding.Rules,
    ends: tuple[int, ...],
    params: Any,
    prompts: Int[Array, "rows inputs"],
    state: State,
    stopped: Bool[Array, " rows"],
    limit: Int[Array, ""],
) -> State:
    with jax.default_matmul_precision("float32"), nn.logical_axis_rules(rules):
        return jax.lax.while_loop(
            lambda state: (state.position < limit) & ~state.ended.all(),
            functools.partial(_step, model, ends, params, prompts),
            state._replace(ended=state.ended | stopped),
        )


def _step(
    model: _Model,
    ends: tuple[int, ...],
    params: Any,
    prompts: Int[Array, "rows inputs"],
    state: State,
    first: bool = False,
) -> State:
    """Writes one token in each row that has not ended; `first` says that it is the first one."""
    tokens, ended, position, cache = state
    before = jnp.maximum(position - 1, 0)
    previous = jax.lax.dynamic_index_in_dim(tokens, before, axis=1, keepdims=False)
    where = params, cache, prompts, previous, position, tokens.shape[1], first
    if isinstance(model, DecoderTransformer):
        logits, variables = _decoder_logits(model, *where)
    else:
        logits, variables = _logits(model, *where)
    written = jnp.where(ended, 0, jnp.argmax(logits, axis=-1).astype(jnp.int32))
    tokens = jax.lax.dynamic_update_slice(tokens, written[:, None], (0, position))
    for end in ends:
        ended |= written == end
    return State(tokens, ended, position + 1, variables["cache"])


def _logits(
    model: Transformer,
    params: Any,
    cache: Any,
    prompts: Int[Array, "rows inputs"],
    previous: Int[Array, " rows"],
    position: Int[Array, ""],
    targets: int,
    first: bool,
) -> tuple[Any, Any]:
    """An encoder-decoder's logits of the token at `position`, and the cache."""
    encoded: Any = None
    if first:
        encoded = model.apply({"params": params}, prompts, method=model.encode)
    return model.apply(
        {"params": params, "cache": cache},
        encoded,
        prompts,
        previous,
        position,
        targets,
        method=model.step,
        mutable=["cache"],
    )


def _decoder_logits(
    model: DecoderTransformer,
    params: Any,
    cache: Any,
    prompts: Int[Array, "rows inputs"],
    previous: Int[Array, " rows"],
    position: Int[Array, ""],
    targets: int,
    first: bool,
) -> tuple[Any, Any]:
    """A decoder-only model's logits of the token at `position`, and the cache.

    The cache has a place for each column of the prompts and, behind them, for each token written;
    the places between a short prompt and its first token stay unused.
    """
    inputs = prompts.shape[1]
    real = prompts != UNUSED
    lengths = real.sum(axis=1, dtype=jnp.int32)
    size = inputs + targets - 1  # the last token is not read
    if not first:
        return model.apply(
            {"params": params, "cache": cache},
            previous,
            lengths + position - 1,
            Room(inputs + position - 1, size),
            method=model.step,
            mutable=["cache"],
        )
    columns = jnp.broadcast_to(jnp.arange(inputs, dtype=jnp.int32), prompts.shape)
    hidden, variables = model.apply(
        {"params": params},
        jnp.where(real, prompts, 0),
        jnp.where(real, columns, UNUSED),
        Room(jnp.zeros((), jnp.int32), size),
        method=model.extend,
        mutable=["cache"],
    )
    last = jnp.maximum(lengths - 1, 0)[:, None, None]
    ends = jnp.take_along_axis(hidden, jnp.broadcast_to(last, (*last.shape[:2], 1)), axis=1)[:, 0]
    return model.apply({"params": params}, ends, method=model.logits), variables
