"""One training step: a batch's gradients, the optimizer's update, and sums for the log."""

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

from sycophancy.config.schema import Network, TrainingConfig
from sycophancy.model import sharding
from sycophancy.model.decoder import DecoderTransformer
from sycophancy.model.mesh import check_batch
from sycophancy.model.parameters import ParameterTree, StateTree
from sycophancy.model.sharding import Rules, like_params, sharded_params
from sycophancy.training.loss import (
    Batch,
    LossSums,
    TokenLosses,
    loss_sums,
    sparse_token_losses,
    token_losses,
)
from sycophancy.training.optimizer import make_optimizer
from sycophancy.training.validation import ValidationSums, validation_sums

GOOD = -1  # the value of `first_bad_step` while all losses and gradients were finite


class Window(NamedTuple):
    """Sums over the steps since the last logged step; they stay on the device, so no step waits.

    Attributes:
      loss: the sums of `loss_sums`.
      examples: the number of examples; a packed row holds several.
      input_tokens: the number of prompt tokens without padding.
    """

    loss: LossSums
    examples: Float[Array, ""]
    input_tokens: Float[Array, ""]


class TrainState(NamedTuple):
    """Everything that a step changes, and that a resumed run needs besides the batches.

    Attributes:
      params: float32, in the stacked layout.
      optimizer: the optimizer's state.
      step: the number of steps done, int32.
      first_bad_step: the number of steps before the first one whose loss or gradient was not
        finite, int32; GOOD if there is none.
      window: sums since the last logged step.
    """

    params: ParameterTree
    optimizer: StateTree
    step: Int[Array, ""]
    first_bad_step: Int[Array, ""]
    window: Window


def init_state(params: ParameterTree, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(
        params=params,
        optimizer=optimizer.init(params),
        step=jnp.zeros([], jnp.int32),
        first_bad_step=jnp.full([], GOOD, jnp.int32),
        window=empty_window(),
    )


def sharded_state(
    network: Network, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The shapes and shardings of a state, as `jax.ShapeDtypeStruct`."""
    params = sharded_params(network, mesh)
    state = jax.eval_shape(lambda tree: init_state(tree, optimizer), params)
    sharded: TrainState = like_params(state, params, mesh)
    return sharded


def empty_window() -> Window:
    """A window whose sums are zero."""
    return Window(
        LossSums(*(jnp.zeros([]) for _ in LossSums._fields)), jnp.zeros([]), jnp.zeros([])
    )


def named_key(seed: int, name: str) -> jax.Array:
    """A random key for one purpose; it depends on the seed and the name alone."""
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
    """Makes the step function: from a state and a batch to the next state and the batch's loss.

    The loss is the mean over all target tokens of the batch. A microbatch therefore contributes its
    sum divided by the number of tokens of the whole batch, and the number of microbatches does not
    change the loss. Dropout masks depend only on the seed, the step and the microbatch's index, so
    a resumed run draws the same masks as an uninterrupted run; with another number of microbatches
    the masks are other ones.

    Args:
      model: the network.
      optimizer: the optimizer.
      z_loss: coefficient of the z-loss.
      seed: seed of the dropout masks.
      microbatches: number of parts of a batch, which are computed one after the other.
      rules: the mesh axis of each logical axis.
    """
    dropout_key = named_key(seed, "dropout")

    def loss_of(
        params: ParameterTree, batch: Batch, key: Array, tokens: Array
    ) -> tuple[Array, LossSums]:
        weights = batch["decoder_loss_weights"].astype(jnp.float32)
        found = batch_losses(model, params, batch, dropout=key)
        sums = loss_sums(found, weights, z_loss)
        return sums.loss / tokens, sums

    def gradients_of(
        params: ParameterTree, batch: Batch, key: Array
    ) -> tuple[ParameterTree, LossSums]:
        tokens = jnp.maximum(jnp.sum(batch["decoder_loss_weights"].astype(jnp.float32)), 1.0)
        gradient = jax.grad(loss_of, has_aux=True)
        gradients: tuple[ParameterTree, LossSums]
        if microbatches == 1:
            gradients = gradient(params, batch, key, tokens)
            return gradients

        def add(
            total: tuple[ParameterTree, LossSums], part: tuple[Batch, Array]
        ) -> tuple[tuple[ParameterTree, LossSums], None]:
            microbatch, index = part
            more = gradient(params, microbatch, jax.random.fold_in(key, index), tokens)
            return jax.tree.map(jnp.add, total, more), None

        # Of m microbatches, microbatch i takes the rows i, i+m, i+2m, ..., so that each device
        # splits its own rows and none are moved.
        parts = {
            name: jnp.swapaxes(rows.reshape(-1, microbatches, rows.shape[-1]), 0, 1)
            for name, rows in batch.items()
        }
        zero = (jax.tree.map(jnp.zeros_like, params), empty_window().loss)
        gradients, _ = jax.lax.scan(add, zero, (parts, jnp.arange(microbatches)))
        return gradients

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
    """Makes the function that validates one batch: it adds the batch's sums to the sums so far.

    Dropout is off; activations have the dtype that they have in training.
    """

    def add_sums(params: ParameterTree, batch: Batch, sums: ValidationSums) -> ValidationSums:
        with nn.logical_axis_rules(rules):
            found = batch_losses(model, params, batch)
        return jax.tree.map(jnp.add, sums, validation_sums(found, batch))

    return add_sums


def batch_losses(
    model: nn.Module, params: ParameterTree, batch: Batch, dropout: Array | None = None
) -> TokenLosses:
    """What a network of either family says about the targets of a batch.

    Args:
      model: `sharding.module` of the network.
      params: its parameters.
      batch: its features.
      dropout: the random key of the dropout; without one, there is none.
    """
    variables, targets = {"params": params}, batch["decoder_target_tokens"]
    options: dict[str, Any] = {"enable_dropout": dropout is not None}
    if dropout is not None:
        options["rngs"] = {"dropout": dropout}
    if not isinstance(model, DecoderTransformer):
        options |= {name: rows for name, rows in batch.items() if name != "decoder_loss_weights"}
        logits: Any = model.apply(variables, **options)
        return token_losses(logits, targets)
    hidden: Any = model.apply(
        variables,
        batch["decoder_input_tokens"],
        batch["decoder_positions"],
        batch["decoder_segment_ids"],
        method=model.hidden,
        **options,
    )

    def logits_of(part: Array) -> Array:
        logits: Any = model.apply(variables, part, method=model.logits)
        return logits

    return sparse_token_losses(logits_of, hidden, targets, batch["decoder_loss_weights"])


class Program(NamedTuple):
    """The functions of a finetuning that run on devices, wrapped in `jax.jit`.

    Attributes:
      state: the shapes and shardings of a state, as `jax.ShapeDtypeStruct`.
      start: from parameters to the state before the first step.
      step: from a state, whose memory is reused, and a batch to the next state and the loss.
      add_sums: from parameters, a batch of held-out rows and sums to the sums with the batch.
    """

    state: TrainState
    start: Callable[[ParameterTree], TrainState]
    step: jax.stages.Wrapped
    add_sums: Callable[[ParameterTree, Batch, ValidationSums], ValidationSums]


def make_program(network: Network, training: TrainingConfig, mesh: Mesh) -> Program:
    """The functions of a finetuning that run on devices; nothing is compiled yet.

    Raises:
      UserError: BATCH_SIZE does not fit the mesh.
    """
    sizes = (mesh.shape["data"], mesh.shape["fsdp"], mesh.shape["model"])
    check_batch(training.batch_size, training.microbatches, sizes)
    network = dataclasses.replace(network, dropout_rate=training.dropout_rate)
    optimizer = make_optimizer(training)
    state = sharded_state(network, optimizer, mesh)
    placement = sharding.shardings_of(state)
    rules = sharding.logical_rules(network, mesh)
    model = sharding.module(network)
    step = make_step(
        model,
        optimizer,
        z_loss=training.z_loss,
        seed=training.seed,
        microbatches=training.microbatches,
        rules=rules,
    )
    add_sums = make_validation_step(model, rules)
    return Program(
        state=state,
        start=jax.jit(lambda params: init_state(params, optimizer), out_shardings=placement),
        step=jax.jit(step, donate_argnums=0, out_shardings=(placement, sharding.replicated(mesh))),
        add_sums=jax.jit(add_sums, out_shardings=sharding.replicated(mesh)),
    )


def _all_finite(tree: ParameterTree) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(array)) for array in jax.tree.leaves(tree)]))


def _count(batch: Batch) -> tuple[Array, Array]:
    """The number of examples and of prompt tokens; an unpacked row of padding is no example."""
    segments = batch.get("decoder_segment_ids", batch["decoder_loss_weights"])
    examples = jnp.sum(jnp.max(segments, axis=1))
    if "encoder_input_tokens" in batch:
        inputs = jnp.sum(batch["encoder_input_tokens"] > 0)
    else:
        inputs = jnp.sum((segments > 0) & (batch["decoder_loss_weights"] == 0)) + examples
    return examples.astype(jnp.float32), inputs.astype(jnp.float32)
