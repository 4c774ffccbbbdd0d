"""The optimizers: Adafactor with T5X's settings, and AdamW.

Adafactor is applied to each layer of stacked parameters separately. AdamW treats every number by
itself, so that stacking makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from sycophancy.config.schema import TrainingConfig
from sycophancy.model.checkpoints.layout import is_stacked
from sycophancy.model.checkpoints.moments import MIN_DIM_SIZE_TO_FACTOR
from sycophancy.model.parameters import ParameterTree, StateTree

DECAY_RATE = 0.8
CLIPPING_THRESHOLD = 1.0  # of the update's root mean square
EPSILON_GRADIENT = 1e-30  # added to squared gradients; T5X's epsilon1
EPSILON_PARAMETER = 1e-3  # least scale of a parameter; T5X's epsilon2

AdafactorState: TypeAlias = optax.FactoredState

Moments = tuple[Array, Array, Array]  # v_row, v_col and v of one tensor
Path = tuple[jax.tree_util.DictKey, ...]  # of a parameter in its tree


def make_optimizer(training: TrainingConfig) -> optax.GradientTransformation:
    """The optimizer of a recipe."""
    if training.optimizer == "adafactor":
        return adafactor(training.learning_rate)
    adamw = optax.adamw(training.learning_rate, weight_decay=training.weight_decay)

    def update(
        gradients: ParameterTree, state: StateTree, params: ParameterTree | None = None
    ) -> tuple[ParameterTree, StateTree]:
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the count of steps
            updates: tuple[ParameterTree, StateTree] = adamw.update(gradients, state, params)
        return updates

    return optax.GradientTransformation(adamw.init, update)


def adafactor(
    learning_rate: float,
    *,
    step_offset: int = 0,
    min_dim_size_to_factor: int = MIN_DIM_SIZE_TO_FACTOR,
) -> optax.GradientTransformation:
    """Adafactor (Shazeer and Stern 2018) with T5X's settings: no momentum, no weight decay.

    The update of a tensor is its gradient divided by the root of its second moment, scaled down to
    a root mean square of at most 1, and multiplied by `learning_rate` and the parameter's root mean
    square (or 1e-3 if that is larger). The second moment decays by 1 - t^-0.8, for t = 1, 2, ...

    A moment is factored if two dimensions of its tensor have at least 128 entries, which is T5X's
    heuristic. T5X's model files also bind `logical_factor_rules`, but T5X ignores them for
    parameters of one or two dimensions without a batch-like axis, and the unscanned
    `t5x.examples.t5.network`, with which Flan-T5 is finetuned, has only such parameters.

    A tensor of stacked layers is clipped, scaled and factored layer by layer, as if each layer were
    a tensor of its own (T5X's BATCH axis).

    T5X continues the pretrained checkpoint's count of steps, with t = step - step_offset + 1. With
    a `step_offset` of 0, T5X's default, t would be above 10^6 for a Flan-T5 checkpoint, and the
    stored second moment would hardly change. Here the count of steps starts at 0 and there are no
    stored moments. That equals T5X with `step_offset` = PRETRAINED_STEP: at t = 1 the decay is 0,
    and the stored moments are overwritten.

    Args:
      learning_rate: relative step size, constant.
      step_offset: subtracted from this transformation's count of steps, if the count does not start
        at 0.
      min_dim_size_to_factor: the smallest size of a factored dimension.
    """
    precondition = optax.scale_by_factored_rms(
        decay_rate=DECAY_RATE,
        step_offset=step_offset,
        min_dim_size_to_factor=min_dim_size_to_factor,
        epsilon=EPSILON_GRADIENT,
    )
    # These transformations have no state.
    rescale = optax.chain(
        optax.clip_by_block_rms(CLIPPING_THRESHOLD),
        optax.scale_by_param_block_rms(EPSILON_PARAMETER),
        optax.scale(-learning_rate),
    )

    def init_tensor(param: Array) -> Moments:
        state = precondition.init(param)
        return state.v_row, state.v_col, state.v

    def update_tensor(
        gradient: Array, v_row: Array, v_col: Array, v: Array, param: Array, count: Int[Array, ""]
    ) -> tuple[Array, Array, Array, Array]:
        state = AdafactorState(count, v_row, v_col, v)
        update, state = precondition.update(gradient, state, param)
        update, _ = rescale.update(update, rescale.init(param), param)
        return update, state.v_row, state.v_col, state.v

    def init(params: ParameterTree) -> AdafactorState:
        def init_stacked(path: Path, param: Array) -> Moments:
            init_param: Callable[[Array], Moments] = (
                jax.vmap(init_tensor) if _is_stacked(path) else init_tensor
            )
            return init_param(param)

        moments = jax.tree_util.tree_map_with_path(init_stacked, params)
        return AdafactorState(jnp.zeros([], jnp.int32), *_transpose(params, moments, 3))

    def update(
        gradients: ParameterTree, state: AdafactorState, params: ParameterTree | None = None
    ) -> tuple[ParameterTree, AdafactorState]:
        update_layers = jax.vmap(update_tensor, in_axes=(0, 0, 0, 0, 0, None))

        def update_stacked(path: Path, *tensors: Array) -> tuple[Array, ...]:
            update_param: Callable[..., tuple[Array, ...]] = (
                update_layers if _is_stacked(path) else update_tensor
            )
            return update_param(*tensors, state.count)

        results = jax.tree_util.tree_map_with_path(
            update_stacked, gradients, state.v_row, state.v_col, state.v, params
        )
        updates, *moments = _transpose(params, results, 4)
        return updates, AdafactorState(optax.safe_increment(state.count), *moments)

    return optax.GradientTransformation(init, update)


def _is_stacked(path: Path) -> bool:
    return is_stacked("/".join(str(key.key) for key in path))


def _transpose(outer: StateTree, tree_of_tuples: StateTree, size: int) -> list[StateTree]:
    """Turns a tree of tuples into a list of trees.

    Args:
      outer: a tree with the structure of the tree of tuples.
      tree_of_tuples: the tree.
      size: the length of the tuples.
    """
    outer_tree = jax.tree.structure(outer)
    inner_tree = jax.tree.structure(tuple(range(size)))
    return list(jax.tree.transpose(outer_tree, inner_tree, tree_of_tuples))
