"""Our own checkpoints: exact, and refused when they are of another model."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from sycophancy.config import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import folders, load_params, orbax
from sycophancy.training.sharding import abstract_params

NETWORK = NetworkConfig(
    vocab_size=16,
    emb_dim=8,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=1,
    head_dim=4,
    mlp_dim=12,
)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    tree = nn.unbox(abstract_params(NETWORK))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), tree)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, params):
    path = tmp_path_factory.mktemp("checkpoints") / "saved"
    orbax.save_params(path, params, NETWORK, step=7)
    return path


def test_round_trip_is_exact(saved, params):
    found = load_params(saved, NETWORK)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, params))
    assert all(
        isinstance(leaf, np.ndarray) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(found)
    )


def test_metadata_tells_the_network(saved):
    found = orbax.read_metadata(saved)
    assert found["step"] == 7
    assert found["network"]["emb_dim"] == 8


def test_a_relative_path_will_do(saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    assert folders.is_ours("saved")
    load_params("saved", NETWORK)


def test_a_folder_of_steps_stands_for_its_latest(tmp_path, params):
    for step in (9, 10):
        shifted = jax.tree.map(lambda leaf, by=step: leaf + by, params)
        orbax.save_params(tmp_path / str(step), shifted, NETWORK, step)
    (tmp_path / "11").mkdir()  # begun, not complete
    found = load_params(tmp_path, NETWORK)
    np.testing.assert_array_equal(
        found["token_embedder"]["embedding"], params["token_embedder"]["embedding"] + 10
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mlp_dim": 16}, r"mlp/wi_0/kernel is \(8, 12\) in the checkpoint, \(8, 16\)"),
        ({"num_encoder_layers": 3}, r"encoder/layers_2/.* is missing in the checkpoint, \(8, 8\)"),
        ({"logits_via_embedding": True}, r"logits_dense/kernel .*missing in the model"),
        ({"mlp_activations": ("relu", "linear")}, "mlp_activations"),
    ],
)
def test_another_model_is_refused_in_one_line(saved, change, message):
    with pytest.raises(UserError, match=message) as error:
        load_params(saved, dataclasses.replace(NETWORK, **change))
    assert "\n" not in str(error.value)
    assert str(saved) in str(error.value)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a checkpoint"):
        load_params(tmp_path, NETWORK)


def test_an_existing_folder_is_not_overwritten(saved, params):
    with pytest.raises(UserError, match="exists already"):
        orbax.save_params(saved, params, NETWORK)


def test_a_newer_format_is_refused(tmp_path, params):
    orbax.save_params(tmp_path / "new", params, NETWORK)
    file = tmp_path / "new/metadata/metadata"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="has format 2"):
        load_params(tmp_path / "new", NETWORK)
