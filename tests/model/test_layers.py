"""Masks of dropout: their values, their share, and that no two places share their draws."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from sycophancy.model.layers import dropout_masks

INPUT = np.zeros((64, 3, 500), np.float32)
ASKED = ((500,), (4, 50), (500,))
SHAPES = ((64, 1, 500), (64, 4, 1, 50), (64, 1, 500))


class Masks(nn.Module):
    rate: float
    enabled: bool = True

    @nn.compact
    def __call__(self):
        return dropout_masks(self, self.rate, self.enabled, INPUT, *ASKED)


def draw(seed=0, **options):
    return [
        np.asarray(m) for m in Masks(**options).apply({}, rngs={"dropout": jax.random.key(seed)})
    ]


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_a_mask_drops_its_share_and_keeps_the_mean(rate):
    masks = draw(rate=rate)
    assert [mask.shape for mask in masks] == list(SHAPES)
    for mask in masks:
        assert set(np.unique(mask)) == {0.0, np.float32(1 / (1 - rate))}
        error = np.sqrt(rate * (1 - rate) / mask.size)
        assert abs((mask == 0).mean() - rate) < 4 * error


def test_places_rows_and_keys_have_draws_of_their_own():
    first, _, last = draw(rate=0.5)
    other = draw(rate=0.5, seed=1)[0]
    for a, b in ((first, last), (first, other), (first[:32], first[32:])):
        assert 0.45 < (a == b).mean() < 0.55


def test_without_dropout_nothing_is_drawn():
    for masks in (Masks(0.0).apply({}), Masks(0.5, enabled=False).apply({})):
        assert all((mask == 1).all() for mask in masks)
