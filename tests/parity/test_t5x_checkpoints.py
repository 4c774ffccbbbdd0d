"""The real T5X reads our checkpoints, and we read its checkpoints."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest
from flax import linen as nn
from t5x_side import configured, initializer, made, needs_t5x, state_with

from sycophancy.config.schema import NetworkConfig
from sycophancy.model.checkpoints import layout, orbax
from sycophancy.model.checkpoints.convert import convert
from sycophancy.model.checkpoints.formats import load_params, open_checkpoint
from sycophancy.model.sharding import abstract_params
from sycophancy.training.optimizer import adafactor
from sycophancy.training.step import init_state

FILES = ("models/mini_base.gin", "recipes/demo.gin", "trainers/t5x.gin")
STEP = 1_138_000
NETWORK = NetworkConfig(
    vocab_size=256,
    emb_dim=128,
    num_heads=8,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=192,
)
BINDINGS = [
    "VOCAB_SIZE = 256",
    "EMBED_DIM = 128",
    "NUM_HEADS = 8",
    "HEAD_DIM = 8",
    "MLP_DIM = 192",
    "NUM_ENCODER_LAYERS = 2",
    "NUM_DECODER_LAYERS = 2",
    "MLP_ACTIVATIONS = ('gelu', 'linear')",
    "DATA_DIR = '/nowhere'",
    "MODEL_DIR = '/nowhere'",
]


def draw(seed: int):
    numbers = np.random.default_rng(seed)
    return jax.tree.map(
        lambda array: numbers.normal(size=array.shape).astype(np.float32),
        nn.unbox(abstract_params(NETWORK)),
    )


@pytest.fixture
def t5x_state():
    """T5X's train state with random parameters and moments, and T5X's checkpointer."""
    with configured(FILES, BINDINGS):
        partitioner = made("t5x.partitioning.PjitPartitioner")
        maker = initializer(made("t5x.models.EncoderDecoderModel"), partitioner, 8, 16, 8)
        state = state_with(maker, layout.unstack(draw(0)), STEP)
        numbers = np.random.default_rng(1)
        tree = state.state_dict()
        tree["state"]["param_states"] = jax.tree.map(
            lambda array: array if array.size == 1 else numbers.random(array.shape, np.float32),
            tree["state"]["param_states"],
        )
        yield state.restore_state(tree), maker, partitioner


def same(found, tree) -> None:
    """Asserts that an opened checkpoint equals T5X's own tree bit for bit."""
    target = layout.flatten(jax.tree.map(np.asarray, tree["target"]))
    assert found.params.keys() == target.keys()
    for path, value in target.items():
        np.testing.assert_array_equal(np.asarray(found.params[path]), value, err_msg=path)
    states = layout.flatten(jax.tree.map(np.asarray, tree["state"]["param_states"]))
    moments = {path: value for path, value in states.items() if not path.endswith("/m")}
    assert found.moments.keys() == moments.keys()
    for path, value in moments.items():
        np.testing.assert_array_equal(np.asarray(found.moments[path]), value, err_msg=path)
    assert found.step == int(tree["state"]["step"])


@needs_t5x
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_we_read_what_t5x_wrote_in_its_legacy_format(t5x_state, tmp_path, dtype):
    from t5x import checkpoints

    state, maker, partitioner = t5x_state
    checkpoints.Checkpointer(
        maker.global_train_state_shape, partitioner, str(tmp_path), save_dtype=dtype
    ).save(state)
    tree = state.state_dict()
    if dtype == "bfloat16":
        tree["target"] = jax.tree.map(
            lambda array: array.astype("bfloat16").astype("float32"), tree["target"]
        )
    found = open_checkpoint(tmp_path / f"checkpoint_{STEP}")
    assert found.format == "t5x-legacy"
    same(found, tree)
    found.check(NETWORK)


@needs_t5x
def test_we_read_what_t5x_writes_today(t5x_state, tmp_path):
    from t5x import checkpoints

    state, maker, partitioner = t5x_state
    manager = checkpoints.OrbaxCheckpointManagerInterface(
        str(tmp_path), maker.global_train_state_shape, partitioner, save_dtype="float32"
    )
    manager.save(state)
    manager.close()
    found = open_checkpoint(tmp_path)
    assert found.format == "t5x"
    same(found, state.state_dict())


@needs_t5x
@pytest.mark.parametrize("through", ["the manager", "what its trainer calls"])
def test_t5x_restores_what_we_wrote(t5x_state, tmp_path, through):
    """From our own finetuning step with its optimizer, by way of T5X's format."""
    from t5x import checkpoints, utils

    _, maker, partitioner = t5x_state
    optimizer = adafactor(1e-3)
    params = draw(2)
    _, after = optimizer.update(draw(3), init_state(params, optimizer).optimizer, params)
    rest = init_state(params, optimizer)._replace(optimizer=after)._asdict()
    with orbax.Checkpoints(tmp_path / "ours", None) as steps:
        about = orbax.metadata(NETWORK, 20, pretrained_step=STEP)
        steps.save(20, rest.pop("params"), rest, about)
        steps.wait()
    done = convert(str(tmp_path / "ours"), str(tmp_path / "there"), "t5x")
    if through == "the manager":
        manager = checkpoints.OrbaxCheckpointManagerInterface(
            str(tmp_path / "there"),
            maker.global_train_state_shape,
            partitioner,
            restore_dtype="float32",
        )
        found = manager.restore(path=done.path)
        manager.close()
    else:
        found, _ = utils.create_checkpoint_manager_and_restore(
            maker,
            partitioner,
            utils.RestoreCheckpointConfig(path=done.path, mode="specific", dtype="float32"),
            done.path,
            jax.random.PRNGKey(0),
            model_dir=str(tmp_path / "model"),
            use_orbax=True,  # as train.py says
        )
    assert int(found.step) == STEP + 20
    same(open_checkpoint(tmp_path / "ours"), jax.tree.map(np.asarray, found.state_dict()))
    trees = load_params(done.path, NETWORK), params
    assert jax.tree.all(jax.tree.map(np.array_equal, *trees))


@needs_t5x
def test_t5x_and_we_agree_on_which_tensors_are_factored(t5x_state):
    from sycophancy.model.checkpoints.moments import zero_moments

    state, _, _ = t5x_state
    states = layout.flatten(jax.tree.map(np.asarray, state.state_dict()["state"]["param_states"]))
    shapes = {path: v.shape for path, v in states.items() if not path.endswith("/m")}
    ours = {path: array.shape for path, array in zero_moments(NETWORK).items()}
    assert ours == shapes
    factored = [path for path in itertools.islice(ours, None) if len(ours[path]) == 1]
    assert any("v_row" in path and ours[path] != (1,) for path in factored)
