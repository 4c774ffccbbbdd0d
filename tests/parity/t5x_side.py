"""The real T5X in a test: objects that our gin files configure, and T5X's own checkpoints."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax.core import freeze

from sycophancy.config import macros
from sycophancy.training.t5x import requirements

MISSING = requirements.missing()
REASON = f"Python finds no {', no '.join(MISSING)}; docs/t5x.md says how to install T5X"


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
    loose = {"jax_numpy_dtype_promotion": "standard", "jax_numpy_rank_promotion": "allow"}
    strict = {name: getattr(jax.config, name) for name in loose}
    gin.clear_config()
    gin.add_config_file_search_path(str(macros.root()))
    try:
        for name, function in scripts.items():
            setattr(main, name, function)  # the trainer files import it from the script that runs
        gin.parse_config_files_and_bindings(list(files), list(bindings))
        for name, value in loose.items():  # for all threads: T5X measures in one of its own
            jax.config.update(name, value)
        yield
    finally:
        for name, value in strict.items():
            jax.config.update(name, value)
        gin.clear_config()
        for name in scripts:
            if (value := getattr(before, name)) is None:
                delattr(main, name)
            else:
                setattr(main, name, value)


def made(name: str, scope: str = "") -> Any:
    """The object that gin makes from a class or function of T5X."""
    import gin

    with gin.config_scope(scope or None):
        return gin.get_configurable(name)()


def initializer(model: Any, partitioner: Any, rows: int, inputs: int, targets: int) -> Any:
    """T5X's initializer of train states for batches of this shape."""
    from t5x import utils

    return utils.TrainStateInitializer(
        optimizer_def=model.optimizer_def,
        init_fn=model.get_initial_variables,
        input_shapes={
            "encoder_input_tokens": (rows, inputs),
            "decoder_input_tokens": (rows, targets),
        },
        partitioner=partitioner,
    )


def state_with(maker: Any, params: Any, step: int) -> Any:
    """A train state with these parameters (T5X's layout) and this step, the moments zero."""
    state = maker.from_scratch(jax.random.PRNGKey(0))
    state = state.replace_params(freeze(jax.tree.map(jnp.asarray, params)))
    return state.replace_step(jnp.asarray(step, jnp.int32))


def write_checkpoint(folder: Path, params: Any, step: int) -> Path:
    """`folder/checkpoint_<step>` as T5X itself writes it."""
    from t5x import utils

    partitioner = made("t5x.partitioning.PjitPartitioner")
    maker = initializer(made("t5x.models.EncoderDecoderModel"), partitioner, 8, 8, 8)
    folder.mkdir(parents=True, exist_ok=True)
    manager = utils.create_orbax_checkpoint_manager(
        save_cfg=utils.SaveCheckpointConfig(dtype="float32", period=1, save_dataset=False),
        train_state=maker.global_train_state_shape,
        partitioner=partitioner,
        model_dir=str(folder),
    )
    manager.save(state_with(maker, params, step))
    manager.close()
    return folder / f"checkpoint_{step}"
