"""Stacking and unstacking layers."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints.layout import check_shapes, flatten, stack, unflatten, unstack
from sycophancy.model.sharding import abstract_params

NETWORK = NetworkConfig(
    vocab_size=16,
    emb_dim=8,
    num_heads=2,
    num_encoder_layers=3,
    num_decoder_layers=2,
    head_dim=4,
    mlp_dim=12,
)


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    tree = nn.unbox(abstract_params(NETWORK))
    return jax.tree.map(lambda array: rng.normal(size=array.shape).astype(array.dtype), tree)


def test_round_trip_is_exact(params):
    assert jax.tree.all(jax.tree.map(np.array_equal, stack(unstack(params)), params))


def test_unstacked_names_are_those_of_t5x(params):
    names = flatten(unstack(params))
    assert names["encoder/layers_2/attention/query/kernel"].shape == (8, 8)
    assert names["decoder/layers_1/encoder_decoder_attention/out/kernel"].shape == (8, 8)
    assert names["encoder/layers_0/pre_mlp_layer_norm/scale"].shape == (8,)
    assert names["token_embedder/embedding"].shape == (16, 8)
    assert not any("layers/" in name for name in names)
    # Per encoder layer 4 + 3 kernels and 2 norms, per decoder layer 8 + 3 and 3; outside of layers
    # 2 biases, 2 norms, embedding and logits.
    assert len(names) == 3 * 9 + 2 * 14 + 6


def test_layer_i_is_row_i(params):
    kernel = params["encoder"]["layers"]["mlp"]["wo"]["kernel"]
    for i in range(3):
        found = unstack(params)["encoder"][f"layers_{i}"]["mlp"]["wo"]["kernel"]
        np.testing.assert_array_equal(found, kernel[i])


def test_ten_layers_keep_their_order():
    tree = {f"layers_{i}": {"scale": np.full(2, i)} for i in reversed(range(12))}
    assert stack(tree)["layers"]["scale"][:, 0].tolist() == list(range(12))


def test_flatten_and_back(params):
    assert jax.tree.all(jax.tree.map(np.array_equal, unflatten(flatten(params)), params))


def test_a_missing_layer_is_named():
    tree = {"layers_0": {"scale": np.ones(2)}, "layers_2": {"scale": np.ones(2)}}
    with pytest.raises(UserError, match=r"layers_2 but no layers_1"):
        stack(tree)


def test_layers_of_different_shape_are_named():
    tree = {"layers_0": {"scale": np.ones(2)}, "layers_1": {"scale": np.ones(3)}}
    with pytest.raises(UserError, match=r"layers_1/scale is \(3,\), in layers_0 it is \(2,\)"):
        stack(tree)


def test_parameters_of_another_size_are_refused_with_both_shapes(params):
    other = {**params, "token_embedder": {"embedding": np.ones((16, 9), np.float32)}}
    with pytest.raises(UserError, match=r"token_embedder/embedding is \(16, 9\).*\(16, 8\)"):
        check_shapes(other, params, "the checkpoint")
    check_shapes(params, params, "the checkpoint")


def test_a_missing_parameter_is_refused(params):
    fewer = {name: value for name, value in params.items() if name != "token_embedder"}
    with pytest.raises(UserError, match="token_embedder/embedding is missing"):
        check_shapes(fewer, params, "the checkpoint")
