"""Meshes, the shardings of parameters and batches, and batches that a mesh cannot split."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from sycophancy.errors import UserError
from sycophancy.model import sharding
from sycophancy.model.mesh import check_batch
from sycophancy.training.optimizer import adafactor
from sycophancy.training.step import sharded_state


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((-1, 1, 1), (8, 1, 1)), ((2, -1, 2), (2, 2, 2)), ((1, 8, 1), (1, 8, 1))],
)
def test_one_size_of_a_mesh_may_be_minus_one(shape, expected):
    mesh = sharding.make_mesh(shape)
    assert tuple(mesh.shape.values()) == expected
    assert mesh.axis_names == ("data", "fsdp", "model")


@pytest.mark.parametrize("shape", [(3, 1, 1), (-1, -1, 1), (-1, 3, 1), (0, 1, 8), (4, 1, 1)])
def test_a_mesh_that_does_not_fit_is_refused(shape):
    with pytest.raises(UserError, match="does not fit 8 devices"):
        sharding.make_mesh(shape)


def test_a_mesh_may_have_one_device():
    assert sharding.make_mesh((-1, 1, 1), jax.devices()[:1]).size == 1


@pytest.mark.parametrize(("batch", "micro"), [(6, 1), (8, 4), (4, 2), (0, 1)])
def test_a_batch_that_does_not_divide_is_refused(batch, micro):
    with pytest.raises(UserError, match=rf"BATCH_SIZE {batch} .*2 data x 2 fsdp x 2 model"):
        check_batch(batch, micro, (2, 2, 2))
    check_batch(8, 2, (2, 2, 2))


def test_parameters_and_moments_are_split(network):
    mesh = sharding.make_mesh((2, 2, 2))
    state = sharded_state(network, adafactor(0.1, min_dim_size_to_factor=16), mesh)
    kernel = state.params["encoder"]["layers"]["mlp"]["wi_0"]["kernel"]
    assert kernel.sharding.spec == P(None, "fsdp", "model")
    scale = state.params["decoder"]["decoder_norm"]["scale"]
    assert scale.sharding.spec == P("fsdp")
    # An unfactored moment lies where its parameter does, the small sums of a factored one anywhere.
    assert state.optimizer.v["decoder"]["decoder_norm"]["scale"].sharding == scale.sharding
    assert state.optimizer.v_row["encoder"]["layers"]["mlp"]["wi_0"]["kernel"].sharding.spec == P()
    assert state.optimizer.count.sharding.spec == P()
    per_device = kernel.sharding.shard_shape(kernel.shape)
    assert np.prod(per_device) * 4 == np.prod(kernel.shape)


def test_an_axis_that_the_mesh_does_not_divide_is_not_split(network):
    rules = dict(sharding.logical_rules(network, sharding.make_mesh((1, 1, 8))))
    assert rules["heads"] is None  # 2 heads on 8 devices
    assert rules["mlp"] == "model"


def test_put_keeps_the_values():
    mesh = sharding.make_mesh((2, 2, 2))
    rows = np.arange(32, dtype=np.int32).reshape(8, 4)
    found = sharding.put_batch({"rows": rows}, mesh)["rows"]
    np.testing.assert_array_equal(found, rows)
    assert found.addressable_shards[0].data.shape == (2, 4)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(None, (-1, 1, 1)), (2.0, (-1, 1, 1)), (1.0, (1, -1, 1)), (0.01, (1, -1, 1))],
)
def test_auto_mesh_splits_parameters_only_if_memory_requires_it(network, memory, expected):
    """`memory` is in units of the size of parameters and gradients."""
    leaves = jax.tree.leaves(nn.unbox(sharding.abstract_params(network)))
    needed = 8 * sum(array.size for array in leaves)
    limit = None if memory is None else int(memory * needed)
    assert sharding.resolve((-1, -1, 1), network, memory=limit) == expected
    assert sharding.resolve((2, 2, 2), network, memory=limit) == (2, 2, 2)
