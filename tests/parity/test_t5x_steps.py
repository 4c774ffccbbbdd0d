"""T5X's trainer and ours on the same batches, starting with the same parameters."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from prepared_run import write_run
from t5x_side import configured, initializer, made, needs_t5x, state_with

from sycophancy.config.load import load_config
from sycophancy.config.schema import NetworkConfig
from sycophancy.model.checkpoints import layout
from sycophancy.model.network import Transformer
from sycophancy.training.feed import Feed, open_dataset
from sycophancy.training.optimizer import adafactor
from sycophancy.training.step import init_state, make_step

STEPS = 20
PRETRAINED = 1_000_000  # as a Flan-T5's, so that the step's offset matters
FILES = ("models/mini_base.gin", "recipes/demo.gin", "trainers/t5x.gin")
# Some tensors are factored (two sizes of at least 128), some are not.
SHAPE = {
    "VOCAB_SIZE": 256,
    "EMBED_DIM": 128,
    "NUM_HEADS": 8,  # on a CPU T5X splits matrices over all devices, whatever MESH says
    "HEAD_DIM": 8,
    "MLP_DIM": 192,
    "NUM_ENCODER_LAYERS": 2,
    "NUM_DECODER_LAYERS": 2,
    "MLP_ACTIVATIONS": ("gelu", "linear"),
    "BATCH_SIZE": 8,
    "TASK_FEATURE_LENGTHS": {"inputs": 48, "targets": 12},
    "DROPOUT_RATE": 0.0,
    "PRETRAINED_STEP": PRETRAINED,
    "SEED": 3,
}


@dataclasses.dataclass(frozen=True)
class Trained:
    """The result of one trainer; trees by path, in T5X's layout."""

    losses: np.ndarray
    params: dict[str, np.ndarray]
    moments: dict[str, np.ndarray]


def bindings(**more: Any) -> list[str]:
    return [f"{name} = {value!r}" for name, value in (SHAPE | more).items()]


def random_params(network: NetworkConfig) -> Any:
    tokens = np.zeros((1, 2), np.int32)
    variables = Transformer(network).init(jax.random.key(7), tokens, tokens, tokens)
    return jax.tree.map(np.asarray, nn.unbox(variables["params"]))


def flat(tree: Any) -> dict[str, np.ndarray]:
    return {path: np.asarray(array) for path, array in layout.flatten(tree).items()}


def with_t5x(params: Any, batches: list[Any], run: Any) -> Trained:
    """T5X's own trainer, as trainers/t5x.gin configures it."""
    import gin

    with configured(FILES, bindings(DATA_DIR=str(run), MODEL_DIR=str(run / "t5x"))):
        partitioner = made("t5x.partitioning.PjitPartitioner")
        model = made("t5x.models.EncoderDecoderModel")
        maker = initializer(model, partitioner, 8, 48, 12)
        trainer = gin.get_configurable("t5x.trainer.Trainer")(
            model=model,
            train_state=state_with(maker, layout.unstack(params), PRETRAINED),
            partitioner=partitioner,
            eval_names=[],
            summary_dir=None,
            train_state_axes=maker.train_state_axes,
            rng=jax.random.PRNGKey(0),
        )
        with trainer:
            steps = [trainer.train(iter([batch]), 1).result() for batch in batches]
            state = trainer.train_state.state_dict()
    return Trained(
        losses=np.array([float(step["loss"].value) for step in steps]),
        params=flat(state["target"]),
        moments={
            path: array
            for path, array in flat(state["state"]["param_states"]).items()
            if not path.endswith("/m")  # momentum, which nobody uses
        },
    )


def with_ours(params: Any, batches: list[Any], network: NetworkConfig, config: Any) -> Trained:
    optimizer = adafactor(config.training.learning_rate)
    step = jax.jit(
        make_step(Transformer(network), optimizer, z_loss=config.training.z_loss, seed=0)
    )
    state = init_state(jax.tree.map(jnp.asarray, params), optimizer)
    losses = []
    for batch in batches:
        state, loss = step(state, batch)
        losses.append(float(loss))
    moments = {
        f"{path}/{name}": array
        for name in ("v_row", "v_col", "v")
        for path, array in flat(layout.unstack(getattr(state.optimizer, name))).items()
    }
    return Trained(np.array(losses), flat(layout.unstack(state.params)), moments)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("run"), kept=1000, instructions=300)
    said = [f"{name}={value!r}" for name, value in SHAPE.items()]
    config = load_config("mini_base", "demo", [*said, f"VOCABULARY={run / 'spiece.model'}"])
    dataset, told = open_dataset(config.training, run, config.model)
    with Feed(dataset, told) as feed:
        batches = list(itertools.islice(feed, STEPS))
    network = dataclasses.replace(config.model.network, dropout_rate=0.0)
    params = random_params(network)
    assert max(int(batch["decoder_segment_ids"].max()) for batch in batches) > 1  # packed
    return with_t5x(params, batches, run), with_ours(params, batches, network, config)


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))


@needs_t5x
def test_losses_of_twenty_steps_are_those_of_t5x(both, record_property):
    theirs, ours = both
    difference = np.max(np.abs(ours.losses - theirs.losses) / theirs.losses)
    record_property("largest relative difference of a loss", difference)
    print(f"losses {theirs.losses[0]:.4f} to {theirs.losses[-1]:.4f}: {difference:.2e} relative")
    assert theirs.losses[-1] < theirs.losses[0] - 1.0  # it learns
    assert difference < 1e-5


@needs_t5x
def test_second_moments_are_those_of_t5x_under_the_same_names(both):
    theirs, ours = both
    assert ours.moments.keys() == theirs.moments.keys()
    worst = {}
    for path, moment in theirs.moments.items():
        assert ours.moments[path].shape == moment.shape, path
        if np.any(moment):
            worst[path] = relative(ours.moments[path], moment)
        else:  # the names that a tensor does not use stay (1,) zeros on both sides
            assert not np.any(ours.moments[path]), path
    factored = {path.rsplit("/", 1)[0] for path in worst if path.endswith("/v_row")}
    whole = {path.rsplit("/", 1)[0] for path in worst if path.endswith("/v")}
    assert "encoder/layers_0/mlp/wi_0/kernel" in factored
    assert "encoder/layers_0/attention/query/kernel" in whole
    assert factored | whole == theirs.params.keys()
    print(f"second moments: {max(worst.values()):.2e} relative, {len(factored)} factored")
    assert max(worst.values()) < 1e-4


@needs_t5x
def test_parameters_after_twenty_steps_are_those_of_t5x(both):
    theirs, ours = both
    assert ours.params.keys() == theirs.params.keys()
    worst = max(relative(ours.params[path], theirs.params[path]) for path in theirs.params)
    print(f"parameters: {worst:.2e} relative")
    assert worst < 1e-5
