"""The real T5X inside a test: its objects as our gin files make them, and its own checkpoints."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import pytest

from sycophancy import macros

MISSING = [
    name
    for name in ("t5x", "airio", "jestimator", "fiddle")
    if (spec := importlib.util.find_spec(name)) is None or spec.origin is None
]
REASON = f"{', '.join(MISSING)} cannot be imported; docs/t5x.md says how to install T5X"


def needs_t5x(test: Any) -> Any:
    """Marks a test that needs the real T5X; its own warnings are not ours to mend."""
    for mark in (
        pytest.mark.t5x,
        pytest.mark.skipif(bool(MISSING), reason=REASON),
        pytest.mark.filterwarnings("ignore"),
    ):
        test = mark(test)
    return test


@contextlib.contextmanager
def configured(files: Sequence[str], bindings: Sequence[str] = ()) -> Iterator[None]:
    """gin's global configuration made of files under gin_configs/ and `NAME = value` lines.

    JAX's strict promotions are off inside, for T5X promotes.
    """
    import gin
    from t5x import eval as t5x_eval
    from t5x import infer, train

    main: Any = sys.modules["__main__"]
    scripts = {"train": train.train, "evaluate": t5x_eval.evaluate, "infer": infer.infer}
    before = types.SimpleNamespace(**{name: getattr(main, name, None) for name in scripts})
    gin.clear_config()
    gin.add_config_file_search_path(str(macros.root()))
    try:
        for name, function in scripts.items():
            setattr(main, name, function)  # the trainer files import it from the script that runs
        gin.parse_config_files_and_bindings(list(files), list(bindings))
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield
    finally:
        gin.clear_config()
        for name in scripts:
            if (value := getattr(before, name)) is None:
                delattr(main, name)
            else:
                setattr(main, name, value)


def made(name: str, scope: str = "") -> Any:
    """The object that gin's configuration makes of a class or function of T5X."""
    import gin

    with gin.config_scope(scope or None):
        return gin.get_configurable(name)()


def train_state(model: Any, params: Any, step: int, batch: int, lengths: tuple[int, int]) -> Any:
    """T5X's own initial state with these parameters (T5X's layout) and this step."""
    import jax.numpy as jnp
    from t5x import train_state as states

    shapes = {
        "encoder_input_tokens": (batch, lengths[0]),
        "decoder_input_tokens": (batch, lengths[1]),
    }
    variables = jax.jit(lambda key: model.get_initial_variables(key, shapes))(jax.random.key(0))
    state = states.FlaxOptimTrainState.create(model.optimizer_def, variables)
    return state.replace_params(params).replace_step(jnp.asarray(step, jnp.int32))


def write_checkpoint(folder: Path, params: Any, step: int) -> Path:
    """`folder/checkpoint_<step>` as T5X itself writes it."""
    from t5x import partitioning, utils

    model = made("t5x.models.EncoderDecoderModel")
    partitioner = partitioning.PjitPartitioner(
        num_partitions=1, logical_axis_rules=partitioning.standard_logical_axis_rules()
    )
    initializer = utils.TrainStateInitializer(
        optimizer_def=model.optimizer_def,
        init_fn=model.get_initial_variables,
        input_shapes={"encoder_input_tokens": (8, 8), "decoder_input_tokens": (8, 8)},
        partitioner=partitioner,
    )
    state = initializer.from_scratch(jax.random.PRNGKey(0))
    import jax.numpy as jnp

    state = state.replace_params(jax.tree.map(jnp.asarray, params))
    state = state.replace_step(jnp.asarray(step, jnp.int32))
    folder.mkdir(parents=True, exist_ok=True)
    manager = utils.create_orbax_checkpoint_manager(
        save_cfg=utils.SaveCheckpointConfig(dtype="float32", period=1, save_dataset=False),
        train_state=initializer.global_train_state_shape,
        partitioner=partitioner,
        model_dir=str(folder),
    )
    manager.save(state)
    manager.close()
    return folder / f"checkpoint_{step}"
