"""Greedy decoding of a batch on the devices: one compiled program starts it, another continues.

The first program reads the prompts and writes the first token. The second one writes further
tokens until every row has ended or a given number is reached, so that the host can look at the
texts in between. Keys and values of the prompts are computed once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from sycophancy.config.schema import DecoderConfig, Network, NetworkConfig
from sycophancy.model import sharding
from sycophancy.model.decoder import UNUSED, DecoderTransformer, Room
from sycophancy.model.network import Transformer

Prompts: TypeAlias = Int[Array, "rows inputs"]
Logits: TypeAlias = Float[Array, "rows vocab"]


class State(NamedTuple):
    """A batch that is being written.

    Attributes:
      tokens: what was written so far; 0 after it.
      ended: the rows that have written an end, or are not to be continued.
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
      start: from the parameters and int32 prompts [rows, inputs], padded with `padding`, to the
        state after one token. A row of padding alone has ended.
      go_on: from the parameters, the prompts, a state, which is used up, the rows to end, bool
        [rows], and the number of tokens to stop at, to the next state.
      padding: what stands behind the tokens of a prompt.
    """

    start: Any
    go_on: Any
    padding: int


class Reader(NamedTuple):
    """How a family of networks reads prompts and what was written.

    Attributes:
      first: from the parameters, the prompts and the most tokens that a row may get, to the logits
        of the first token and a cache.
      following: from the parameters, the prompts, a state and the token before, to the logits of
        the next token and the next cache.
      padding: what stands behind the tokens of a prompt.
    """

    first: Callable[[Any, Prompts, int], tuple[Logits, Any]]
    following: Callable[[Any, Prompts, State, Int[Array, " rows"]], tuple[Logits, Any]]
    padding: int


@functools.cache
def make_programs(network: Network, mesh: Mesh, targets: int, ends: tuple[int, ...]) -> Programs:
    """The programs; every process gets all tokens, and the cache stays split over the devices.

    Args:
      network: its shape. Its dtype is that of the activations; dropout is off.
      mesh: the devices; rows are split over data and fsdp.
      targets: the most tokens that a row may get.
      ends: the tokens that end a row.
    """
    reader = _decoder(network) if isinstance(network, DecoderConfig) else _encoder_decoder(network)
    rules = sharding.logical_rules(network, mesh)
    whole = sharding.replicated(mesh)
    shardings: Any = (whole, whole, whole, None)
    return Programs(
        jax.jit(
            functools.partial(_start, reader, rules, targets, ends),
            out_shardings=State(*shardings),
        ),
        jax.jit(
            functools.partial(_go_on, reader, rules, ends),
            out_shardings=State(*shardings),
            donate_argnames="state",
        ),
        reader.padding,
    )


def _encoder_decoder(network: NetworkConfig) -> Reader:
    model = Transformer(network)

    def step(
        params: Any, cache: Any, encoded: Any, prompts: Any, previous: Any, position: Any, size: int
    ) -> tuple[Logits, Any]:
        logits, variables = model.apply(
            {"params": params, "cache": cache},
            encoded,
            prompts,
            previous,
            position,
            size,
            method=model.step,
            mutable=["cache"],
        )
        return logits, variables["cache"]

    def first(params: Any, prompts: Prompts, targets: int) -> tuple[Logits, Any]:
        encoded: Any = model.apply({"params": params}, prompts, method=model.encode)
        start = jnp.zeros(prompts.shape[0], jnp.int32), jnp.zeros((), jnp.int32)
        return step(params, {}, encoded, prompts, *start, targets)

    def following(
        params: Any, prompts: Prompts, state: State, previous: Int[Array, " rows"]
    ) -> tuple[Logits, Any]:
        place = state.position, state.tokens.shape[1]
        return step(params, state.cache, None, prompts, previous, *place)

    return Reader(first, following, padding=0)


def _decoder(network: DecoderConfig) -> Reader:
    """The prompt's keys and values come first in the cache; written tokens have places behind."""
    model = DecoderTransformer(network)

    def run(method: Any, params: Any, cache: Any, *arguments: Any) -> tuple[Array, Any]:
        found, variables = model.apply(
            {"params": params, "cache": cache}, *arguments, method=method, mutable=["cache"]
        )
        return found, variables["cache"]

    def first(params: Any, prompts: Prompts, targets: int) -> tuple[Logits, Any]:
        real = prompts != UNUSED
        places = jnp.arange(prompts.shape[1], dtype=jnp.int32)[None]
        hidden, cache = run(
            model.extend,
            params,
            {},
            jnp.where(real, prompts, 0),
            jnp.where(real, places, UNUSED),
            Room(jnp.zeros((), jnp.int32), prompts.shape[1] + targets),
        )
        last = jnp.maximum(_lengths(prompts) - 1, 0)
        hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
        logits: Any = model.apply({"params": params}, hidden, method=model.logits)
        return logits, cache

    def following(
        params: Any, prompts: Prompts, state: State, previous: Int[Array, " rows"]
    ) -> tuple[Logits, Any]:
        before, size = state.position - 1, prompts.shape[1] + state.tokens.shape[1]
        return run(
            model.step,
            params,
            state.cache,
            previous,
            _lengths(prompts) + before,
            Room(prompts.shape[1] + before, size),
        )

    return Reader(first, following, padding=UNUSED)


def _lengths(prompts: Prompts) -> Int[Array, " rows"]:
    return jnp.sum(prompts != UNUSED, axis=1, dtype=jnp.int32)


def _start(
    reader: Reader,
    rules: sharding.Rules,
    targets: int,
    ends: tuple[int, ...],
    params: Any,
    prompts: Prompts,
) -> State:
    # By default, accelerators multiply float32 matrices with less precision.
    with jax.default_matmul_precision("float32"), nn.logical_axis_rules(rules):
        logits, cache = reader.first(params, prompts, targets)
    nothing = State(
        tokens=jnp.zeros((prompts.shape[0], targets), jnp.int32),
        ended=prompts[:, 0] == reader.padding,
        position=jnp.zeros((), jnp.int32),
        cache=cache,
    )
    return _written(nothing, logits, ends)


def _go_on(
    reader: Reader,
    rules: sharding.Rules,
    ends: tuple[int, ...],
    params: Any,
    prompts: Prompts,
    state: State,
    stopped: Bool[Array, " rows"],
    limit: Int[Array, ""],
) -> State:
    def step(state: State) -> State:
        before = state.position - 1
        previous = jax.lax.dynamic_index_in_dim(state.tokens, before, axis=1, keepdims=False)
        logits, cache = reader.following(params, prompts, state, previous)
        return _written(state._replace(cache=cache), logits, ends)

    with jax.default_matmul_precision("float32"), nn.logical_axis_rules(rules):
        return jax.lax.while_loop(
            lambda state: (state.position < limit) & ~state.ended.all(),
            step,
            state._replace(ended=state.ended | stopped),
        )


def _written(state: State, logits: Logits, ends: tuple[int, ...]) -> State:
    """The state with one more token in each row that has not ended."""
    written = jnp.where(state.ended, 0, jnp.argmax(logits, axis=-1).astype(jnp.int32))
    is_end = jnp.isin(written, jnp.array(ends, jnp.int32)) & ~state.ended
    tokens = jax.lax.dynamic_update_slice(state.tokens, written[:, None], (0, state.position))
    return State(tokens, state.ended | is_end, state.position + 1, state.cache)
