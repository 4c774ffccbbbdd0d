"""One training step: gradients of a batch, an optimizer update, sums for the log."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from sycophancy.config.schema import NetworkConfig, TrainingConfig
from sycophancy.model import sharding
from sycophancy.model.mesh import check_batch
from sycophancy.model.network import Transformer
from sycophancy.model.parameters import ParameterTree
from sycophancy.model.sharding import Rules, like_params, sharded_params
from sycophancy.training.loss import Batch, LossSums, cross_entropy
from sycophancy.training.optimizer import adafactor
from sycophancy.training.validation import ValidationSums, validation_sums

GOOD = -1  # `first_bad_step` while all is well


class Window(NamedTuple):
    """Sums since the last log, kept on the device so that no step waits for the host.

    Attributes:
      loss: what `cross_entropy` sums.
      examples: examples seen; a packed row holds several.
      input_tokens: real tokens of the prompts.
    """

    loss: LossSums
    examples: Float[Array, ""]
    input_tokens: Float[Array, ""]


class TrainState(NamedTuple):
    """Everything a step changes, and everything a resumed run needs besides the batches.

    Attributes:
      params: float32, stacked layout.
      optimizer: the optimizer's own.
      step: steps done, int32.
      first_bad_step: the first step whose loss or gradient was not finite, int32; GOOD if none.
      window: sums since the last log.
    """

    params: Any
    optimizer: Any
    step: Int[Array, ""]
    first_bad_step: Int[Array, ""]
    window: Window


def init_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(
        params=params,
        optimizer=optimizer.init(params),
        step=jnp.zeros([], jnp.int32),
        first_bad_step=jnp.full([], GOOD, jnp.int32),
        window=empty_window(),
    )


def sharded_state(
    network: NetworkConfig, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The state as `jax.ShapeDtypeStruct` with shardings: what to restore, and where to."""
    params = sharded_params(network, mesh)
    state = jax.eval_shape(lambda tree: init_state(tree, optimizer), params)
    return like_params(state, params, mesh)


def empty_window() -> Window:
    """All sums zero."""
    return Window(
        LossSums(*(jnp.zeros([]) for _ in LossSums._fields)), jnp.zeros([]), jnp.zeros([])
    )


def named_key(seed: int, name: str) -> jax.Array:
    """A random key for one purpose; the same for a seed and a name, whatever else is drawn."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def make_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    z_loss: float,
    seed: int,
    microbatches: int = 1,
    rules: Rules = (),
) -> Callable[[TrainState, Batch], tuple[TrainState, Array]]:
    """The function `jit` compiles: a state and a batch to the next state and the batch's loss.

    The loss is the mean over the batch's real target tokens, whatever the microbatches: each
    contributes its sum over the whole batch's count. Dropout depends on the seed, the step and the
    microbatch alone, so a resumed run draws what the uninterrupted one would have; with dropout,
    another number of microbatches means other masks.
    """
    dropout_key = named_key(seed, "dropout")

    def loss_of(params: Any, batch: Batch, key: Array, tokens: Array) -> tuple[Array, LossSums]:
        weights = batch["decoder_loss_weights"].astype(jnp.float32)
        logits: Any = model.apply(
            {"params": params},
            **_model_arguments(batch),
            enable_dropout=True,
            rngs={"dropout": key},
        )
        sums = cross_entropy(logits, batch["decoder_target_tokens"], weights, z_loss)
        return sums.loss / tokens, sums

    def gradients_of(params: Any, batch: Batch, key: Array) -> tuple[Any, LossSums]:
        tokens = jnp.maximum(jnp.sum(batch["decoder_loss_weights"].astype(jnp.float32)), 1.0)
        gradient = jax.grad(loss_of, has_aux=True)
        if microbatches == 1:
            return gradient(params, batch, key, tokens)

        def add(total: Any, part: tuple[Batch, Array]) -> tuple[Any, None]:
            microbatch, index = part
            found = gradient(params, microbatch, jax.random.fold_in(key, index), tokens)
            return jax.tree.map(jnp.add, total, found), None

        # Every so-manieth row, so that each device keeps the rows it has.
        parts = {
            name: jnp.swapaxes(rows.reshape(-1, microbatches, rows.shape[-1]), 0, 1)
            for name, rows in batch.items()
        }
        zero = (jax.tree.map(jnp.zeros_like, params), empty_window().loss)
        total, _ = jax.lax.scan(add, zero, (parts, jnp.arange(microbatches)))
        return total

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        with nn.logical_axis_rules(rules):
            key = jax.random.fold_in(dropout_key, state.step)
            gradients, sums = gradients_of(state.params, batch, key)
        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        finite = jnp.isfinite(sums.loss) & _all_finite(gradients)
        first_bad = jnp.where((state.first_bad_step == GOOD) & ~finite, state.step, GOOD)
        seen = Window(sums, *_count(batch))
        after = TrainState(
            params=optax.apply_updates(state.params, updates),
            optimizer=moments,
            step=state.step + 1,
            first_bad_step=jnp.maximum(state.first_bad_step, first_bad),
            window=jax.tree.map(jnp.add, state.window, seen),
        )
        return after, sums.loss / jnp.maximum(sums.tokens, 1.0)

    return step


def make_validation_step(
    model: nn.Module, rules: Rules = ()
) -> Callable[[ParameterTree, Batch, ValidationSums], ValidationSums]:
    """The function `jit` compiles for validation: adds a batch's sums to the sums so far.

    Dropout is off; activations have the dtype that they have in training.
    """

    def add_sums(params: ParameterTree, batch: Batch, sums: ValidationSums) -> ValidationSums:
        with nn.logical_axis_rules(rules):
            logits: Any = model.apply({"params": params}, **_model_arguments(batch))
        return jax.tree.map(jnp.add, sums, validation_sums(logits, batch))

    return add_sums


def _model_arguments(batch: Batch) -> dict[str, Any]:
    """The features of a batch that the network takes."""
    return {name: rows for name, rows in batch.items() if name != "decoder_loss_weights"}


class Program(NamedTuple):
    """A finetuning on a mesh, as `jit` compiles it.

    Attributes:
      state: what a state looks like, as `jax.ShapeDtypeStruct` with shardings.
      start: parameters to the state before the first step.
      step: a state, which is used up, and a batch to the next state and the batch's loss.
      add_sums: parameters, a batch of held-out rows and the sums so far to the sums with the batch.
    """

    state: TrainState
    start: Callable[[Any], TrainState]
    step: Any
    add_sums: Callable[[ParameterTree, Batch, ValidationSums], ValidationSums]


def make_program(network: NetworkConfig, training: TrainingConfig, mesh: Mesh) -> Program:
    """Everything of a finetuning that runs on devices; nothing is compiled yet.

    Raises:
      UserError: BATCH_SIZE does not fit the mesh.
    """
    sizes = (mesh.shape["data"], mesh.shape["fsdp"], mesh.shape["model"])
    check_batch(training.batch_size, training.microbatches, sizes)
    network = dataclasses.replace(network, dropout_rate=training.dropout_rate)
    optimizer = adafactor(training.learning_rate)
    state = sharded_state(network, optimizer, mesh)
    placement = sharding.shardings_of(state)
    rules = sharding.logical_rules(network, mesh)
    step = make_step(
        Transformer(network),
        optimizer,
        z_loss=training.z_loss,
        seed=training.seed,
        microbatches=training.microbatches,
        rules=rules,
    )
    add_sums = make_validation_step(Transformer(network), rules)
    return Program(
        state=state,
        start=jax.jit(lambda params: init_state(params, optimizer), out_shardings=placement),
        step=jax.jit(step, donate_argnums=0, out_shardings=(placement, sharding.replicated(mesh))),
        add_sums=jax.jit(add_sums, out_shardings=sharding.replicated(mesh)),
    )


def _all_finite(tree: Any) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _count(batch: Batch) -> tuple[Array, Array]:
    """Examples and prompt tokens; unpacked, a row is an example unless it is all padding."""
    segments = batch.get("decoder_segment_ids", batch["decoder_loss_weights"])
    examples = jnp.sum(jnp.max(segments, axis=1))
    inputs = jnp.sum(batch["encoder_input_tokens"] > 0)
    return examples.astype(jnp.float32), inputs.astype(jnp.float32)
