"""Greedy decoding of a batch on the devices: one compiled program starts it, another continues.

The first program encodes the prompts and writes the first token. The second one writes further
tokens until every row has ended or a given number is reached, so that the host can look at the
texts in between. Keys and values of the prompts are computed once.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from sycophancy.config.schema import NetworkConfig
from sycophancy.model import sharding
from sycophancy.model.network import Transformer


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
      start: from the parameters and int32 prompts [rows, inputs], padded with 0, to the state after
        one token. A row of padding alone has ended.
      go_on: from the parameters, the prompts, a state, which is used up, the rows to end, bool
        [rows], and the number of tokens to stop at, to the next state.
    """

    start: Any
    go_on: Any


@functools.cache
def make_programs(network: NetworkConfig, mesh: Mesh, targets: int, end: int) -> Programs:
    """The programs; every process gets all tokens, and the cache stays split over the devices.

    Args:
      network: its shape. Its dtype is that of the activations; dropout is off.
      mesh: the devices; rows are split over data and fsdp.
      targets: the most tokens that a row may get.
      end: the token that ends a row.
    """
    network_and_rules = Transformer(network), sharding.logical_rules(network, mesh)
    whole = sharding.replicated(mesh)
    shardings: Any = (whole, whole, whole, None)
    return Programs(
        jax.jit(
            functools.partial(_start, *network_and_rules, targets, end),
            out_shardings=State(*shardings),
        ),
        jax.jit(
            functools.partial(_go_on, *network_and_rules, end),
            out_shardings=State(*shardings),
            donate_argnames="state",
        ),
    )


def _start(
    model: Transformer,
    rules: sharding.Rules,
    targets: int,
    end: int,
    params: Any,
    prompts: Int[Array, "rows inputs"],
) -> State:
    # By default, accelerators multiply float32 matrices with less precision.
    with jax.default_matmul_precision("float32"), nn.logical_axis_rules(rules):
        encoded: Any = model.apply({"params": params}, prompts, method=model.encode)
        return _step(
            model,
            end,
            params,
            prompts,
            State(
                tokens=jnp.zeros((prompts.shape[0], targets), jnp.int32),
                ended=prompts[:, 0] == 0,
                position=jnp.zeros((), jnp.int32),
                cache={},
            ),
            encoded,
        )


def _go_on(
    model: Transformer,
    rules: sharding.Rules,
    end: int,
    params: Any,
    prompts: Int[Array, "rows inputs"],
    state: State,
    stopped: Bool[Array, " rows"],
    limit: Int[Array, ""],
) -> State:
    with jax.default_matmul_precision("float32"), nn.logical_axis_rules(rules):
        return jax.lax.while_loop(
            lambda state: (state.position < limit) & ~state.ended.all(),
            functools.partial(_step, model, end, params, prompts),
            state._replace(ended=state.ended | stopped),
        )


def _step(
    model: Transformer,
    end: int,
    params: Any,
    prompts: Int[Array, "rows inputs"],
    state: State,
    encoded: Array | None = None,
) -> State:
    """Writes one token in each row that has not ended."""
    tokens, ended, position, cache = state
    before = jnp.maximum(position - 1, 0)
    previous = jax.lax.dynamic_index_in_dim(tokens, before, axis=1, keepdims=False)
    logits, variables = model.apply(
        {"params": params, "cache": cache},
        encoded,
        prompts,
        previous,
        position,
        tokens.shape[1],
        method=model.step,
        mutable=["cache"],
    )
    written = jnp.where(ended, 0, jnp.argmax(logits, axis=-1).astype(jnp.int32))
    tokens = jax.lax.dynamic_update_slice(tokens, written[:, None], (0, position))
    return State(tokens, ended | (written == end), position + 1, variables["cache"])
