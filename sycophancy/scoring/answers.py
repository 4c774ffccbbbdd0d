"""One pass over questions: a network's answers, computed on the mesh in one dtype.

Prompts of similar length share a compiled shape.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from sycophancy.config.schema import ActivationType, DecoderConfig, Network
from sycophancy.model import sharding
from sycophancy.model.decoder import UNUSED
from sycophancy.scoring.batching import Answer, Question, Shape, plan
from sycophancy.scoring.outcomes import Outcomes, decoder_outcomes, encoder_decoder_outcomes

# Encoder positions of a batch on one device, by platform. A small batch fits a CPU's caches.
BATCH_TOKENS = {"cpu": 2_048}
BATCH_TOKENS_ACCELERATOR = 16_384
MATRICES = ("kernel", "embedding")  # parameters that nearly all memory and time goes into

T = TypeVar("T")
Progress = Callable[[int, int], None]


def answer(
    params: Mapping[str, Any],
    network: Network,
    questions: Sequence[Question],
    *,
    dtype: ActivationType = "float32",
    mesh: Mesh | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Fills the answers of questions whose prompts and choices are tokens already.

    Args:
      params, mesh, batch_tokens, progress: as `score`.
      network: the shape of a network of either family. Its dropout and dtype have no effect.
      questions: what to answer.
      dtype: of weights and activations. Logits, softmax and sums are float32.
    """
    mesh = mesh or sharding.make_mesh((-1, 1, 1))
    if batch_tokens is None:
        batch_tokens = BATCH_TOKENS.get(mesh.devices.flat[0].platform, BATCH_TOKENS_ACCELERATOR)
    network = dataclasses.replace(network, dtype=dtype, dropout_rate=0.0, remat_policy="none")
    params = placed(params, network, mesh)
    program = make_program(network, mesh)
    by_row = sharding.batch_sharding(mesh)
    splits = math.prod(mesh.shape[axis] for axis in sharding.BATCH_AXES)
    padding = UNUSED if isinstance(network, DecoderConfig) else 0
    items, done = sum(len(question.items) for question in questions), 0
    for batch, outcome in _one_behind(
        (batch, _start(program, params, by_row, *arrays(batch, shape, rows, padding)))
        for shape, rows, batch in plan(questions, splits, batch_tokens, network.vocab_size)
    ):
        _record(batch, *map(np.asarray, outcome))
        done += sum(len(question.items) for question in batch)
        if progress:
            progress(done, items)


def arrays(
    batch: Sequence[Question], shape: Shape, rows: int, padding: int = 0
) -> tuple[
    Int[np.ndarray, "rows inputs"], Int[np.ndarray, "rows targets"], Int[np.ndarray, "rows targets"]
]:
    """The arrays of one batch.

    Args:
      batch: at most `rows` questions.
      shape: of a row.
      rows: the rows of the batch.
      padding: what stands behind the tokens of a prompt; behind choices and their numbers, it is 0.

    Returns:
      The prompts' tokens; the tokens of their choices, side by side; and for each of these the
      number of its choice, from 1.
    """
    prompts = np.full((rows, shape[0]), padding, np.int32)
    targets, segments = (np.zeros((rows, shape[1]), np.int32) for _ in range(2))
    for row, question in enumerate(batch):
        prompts[row, : len(question.prompt)] = question.prompt
        start = 0
        for number, choice in enumerate(question.choices.values(), 1):
            targets[row, start : start + len(choice)] = choice
            segments[row, start : start + len(choice)] = number
            start += len(choice)
    return prompts, targets, segments


def placed(params: Mapping[str, Any], network: Network, mesh: Mesh) -> Any:
    """The parameters on the mesh: host arrays split as in training, JAX arrays where they lie.

    Matrices are in the network's dtype. Norms and biases are few, and stay float32.
    """

    def place(path: tuple[Any, ...], array: Any, like: Any) -> Array:
        dtype = jnp.dtype(network.dtype if path[-1].key in MATRICES else "float32")
        if isinstance(array, jax.Array):
            return array if array.dtype == dtype else array.astype(dtype)
        return sharding.put(np.asarray(array).astype(dtype, copy=False), like.sharding)

    return jax.tree.map_with_path(place, params, sharding.sharded_params(network, mesh))


def _start(
    program: Callable[..., Any], params: Any, by_row: Any, *batch: Int[np.ndarray, "rows positions"]
) -> Outcomes:
    """Starts the computation of a batch. Each process holds only its own rows of the inputs."""
    with jax.set_mesh(by_row.mesh):
        return program(params, *(sharding.put(array, by_row) for array in batch))


@functools.cache
def make_program(network: Network, mesh: Mesh) -> Any:
    """`outcomes` of a network, compiled; every process gets the outcomes of all rows."""
    rules = sharding.logical_rules(network, mesh)
    if isinstance(network, DecoderConfig):
        outcomes = functools.partial(decoder_outcomes, network, rules)
    else:
        outcomes = functools.partial(encoder_decoder_outcomes, network, rules)
    return jax.jit(outcomes, out_shardings=sharding.replicated(mesh))


def _one_behind(started: Iterator[T]) -> Iterator[T]:
    """Yields each value one step late, so that devices compute a batch while the host reads one."""
    for value, _ in itertools.pairwise(itertools.chain(started, [None])):
        if value is not None:
            yield value


def _record(
    batch: Sequence[Question],
    log_likelihoods: Float[np.ndarray, "rows targets"],
    greedy: Bool[np.ndarray, "rows targets"],
    leads: Float[np.ndarray, "rows targets"],
) -> None:
    """Stores in the questions what the tokens of each choice amount to."""
    for row, question in enumerate(batch):
        start = 0
        for choice, tokens in question.choices.items():
            span = slice(start, start + len(tokens))
            total = np.float32(log_likelihoods[row, span].sum(dtype=np.float64))
            question.answers[choice] = Answer(
                float(total), bool(greedy[row, span].all()), float(leads[row, span].min())
            )
            start = span.stop
