"""Adafactor's second moments as checkpoints store them."""

from __future__ import annotations

import numpy as np

from sycophancy.config.schema import Network
from sycophancy.model.checkpoints import layout
from sycophancy.model.checkpoints.checkpoint import Checkpoint
from sycophancy.model.checkpoints.lazy_array import LazyArray

# The names of a parameter's moments: the row and the column factor of a factored moment, and the
# whole moment. A name that a parameter does not use holds one zero.
MOMENTS = ("v_row", "v_col", "v")

# A parameter's moment is factored if two of its dimensions have at least this size.
MIN_DIM_SIZE_TO_FACTOR = 128


def are_complete(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint has the moments of all of its parameters."""
    wanted = {f"{path}/{moment}" for path in checkpoint.params for moment in MOMENTS}
    return wanted <= checkpoint.moments.keys()


def zero_moments(network: Network) -> dict[str, LazyArray]:
    """Adafactor's moments before its first step, as `Checkpoint.moments` holds them."""
    import jax
    import optax
    from flax import linen as nn

    from sycophancy.model.sharding import abstract_params

    params = layout.unstack(layout.lazy(nn.unbox(abstract_params(network))))
    precondition = optax.scale_by_factored_rms(min_dim_size_to_factor=MIN_DIM_SIZE_TO_FACTOR)
    zeros = {}
    for path, param in layout.flatten(params).items():
        shape = jax.ShapeDtypeStruct(param.shape, param.dtype)
        state = jax.eval_shape(precondition.init, shape)
        for moment in MOMENTS:
            zeros[f"{path}/{moment}"] = _zeros(getattr(state, moment).shape)
    return zeros


def _zeros(shape: tuple[int, ...]) -> LazyArray:
    return LazyArray(shape, lambda: np.zeros(shape, np.float32))
