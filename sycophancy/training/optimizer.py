"""Adafactor as T5X sets it, layer by layer over stacked parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sycophancy.model.checkpoints.layout import is_stacked

DECAY_RATE = 0.8
CLIPPING_THRESHOLD = 1.0  # of the update's root mean square
EPSILON_GRADIENT = 1e-30  # added to squared gradients; T5X's epsilon1
EPSILON_PARAMETER = 1e-3  # least scale of a parameter; T5X's epsilon2
MIN_DIM_SIZE_TO_FACTOR = 128

AdafactorState = optax.FactoredState


def adafactor(
    learning_rate: float,
    *,
    step_offset: int = 0,
    min_dim_size_to_factor: int = MIN_DIM_SIZE_TO_FACTOR,
) -> optax.GradientTransformation:
    """Adafactor (Shazeer and Stern 2018) with T5X's settings: no momentum, no weight decay.

    A tensor's update is its gradient over the root of its second moment, scaled down to a root mean
    square of 1 at most, times `learning_rate` times the parameter's root mean square (1e-3 at
    least). The second moment decays by 1 - t^-0.8, t = 1, 2, ...

    Which tensors are factored: those with two dimensions of at least 128, by T5X's heuristic. T5X's
    model files do bind `logical_factor_rules`, but T5X ignores them for a parameter of one or two
    dimensions without a batch-like axis, and the unscanned `t5x.examples.t5.network`, which
    Flan-T5 finetuning uses, has no other. So heuristic and rules never disagree here.

    Layers are stacked in one tensor; clipping, scale and factors are taken per layer, as if each
    were a tensor of its own (T5X's BATCH axis).

    About `step_offset`: T5X counts steps on from the pretrained checkpoint's, t = step -
    step_offset + 1. With its default 0 and a Flan-T5 checkpoint, t is above 10^6 and the second
    moment all but frozen at what the checkpoint holds. We count finetuning steps from 0 and hold no
    pretrained moments, which equals T5X with `step_offset` = PRETRAINED_STEP: at t = 1 the decay is
    0, so whatever was stored is overwritten.

    Args:
      learning_rate: relative step size, constant.
      step_offset: subtracted from this transformation's own count, for a count that starts
        elsewhere than 0.
      min_dim_size_to_factor: smallest size of both factored dimensions.
    """
    precondition = optax.scale_by_factored_rms(
        decay_rate=DECAY_RATE,
        step_offset=step_offset,
        min_dim_size_to_factor=min_dim_size_to_factor,
        epsilon=EPSILON_GRADIENT,
    )
    # Neither keeps a state.
    rescale = optax.chain(
        optax.clip_by_block_rms(CLIPPING_THRESHOLD),
        optax.scale_by_param_block_rms(EPSILON_PARAMETER),
        optax.scale(-learning_rate),
    )

    def init_tensor(param):
        state = precondition.init(param)
        return state.v_row, state.v_col, state.v

    def update_tensor(gradient, v_row, v_col, v, param, count):
        state = AdafactorState(count, v_row, v_col, v)
        update, state = precondition.update(gradient, state, param)
        update, _ = rescale.update(update, rescale.init(param), param)
        return update, state.v_row, state.v_col, state.v

    def init(params):
        def one(path, param):
            return (jax.vmap(init_tensor) if _stacked(path) else init_tensor)(param)

        moments = jax.tree_util.tree_map_with_path(one, params)
        return AdafactorState(jnp.zeros([], jnp.int32), *_transpose(params, moments, 3))

    def update(gradients, state, params=None):
        per_layer = jax.vmap(update_tensor, in_axes=(0, 0, 0, 0, 0, None))

        def one(path, *tensors):
            update: Any = per_layer if _stacked(path) else update_tensor
            return update(*tensors, state.count)

        moved = jax.tree_util.tree_map_with_path(
            one, gradients, state.v_row, state.v_col, state.v, params
        )
        updates, *moments = _transpose(params, moved, 4)
        return updates, AdafactorState(optax.safe_increment(state.count), *moments)

    return optax.GradientTransformation(init, update)


def _stacked(path: tuple[Any, ...]) -> bool:
    return is_stacked("/".join(str(key.key) for key in path))


def _transpose(outer: Any, tree_of_tuples: Any, size: int) -> list[Any]:
    """A tree of tuples as a list of trees."""
    outer_tree = jax.tree.structure(outer)
    inner_tree = jax.tree.structure(tuple(range(size)))
    return list(jax.tree.transpose(outer_tree, inner_tree, tree_of_tuples))
