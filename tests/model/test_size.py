"""Sizes by closed forms are those of the networks themselves."""

import json

import decoder_folders
import jax
import pytest
from etils import epath

from sycophancy.config.load import load_config
from sycophancy.model import size as sizes
from sycophancy.model.checkpoints import families


@pytest.mark.parametrize(
    ("size", "published"),  # Chung et al. 2022, and what the hub counts in the checkpoints
    [
        ("small", 76.96e6),
        ("base", 247.58e6),
        ("large", 783.15e6),
        ("xl", 2.850e9),
        ("xxl", 11.14e9),
    ],
)
def test_parameters_are_the_published_count_and_the_networks_own(size, published):
    from flax import linen as nn

    from sycophancy.model.sharding import abstract_params

    network = load_config(f"flan_t5_{size}", "paper").model.network
    assert sizes.parameter_count(network) == pytest.approx(published, rel=1e-3)
    leaves = jax.tree.leaves(nn.unbox(abstract_params(network)))
    assert sizes.parameter_count(network) == sum(leaf.size for leaf in leaves)


@pytest.mark.parametrize("kind", decoder_folders.CONFIGS)
def test_parameters_of_decoders_are_the_networks_own(tmp_path, kind):
    from flax import linen as nn

    from sycophancy.model.sharding import abstract_params

    (tmp_path / "config.json").write_text(json.dumps(decoder_folders.CONFIGS[kind]))
    network = families.read(epath.Path(tmp_path))
    leaves = jax.tree.leaves(nn.unbox(abstract_params(network)))
    assert sizes.parameter_count(network) == sum(leaf.size for leaf in leaves)
