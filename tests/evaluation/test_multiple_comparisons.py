"""Holm's correction against statsmodels, and by its properties."""

import numpy as np
import pytest
from holm_of_statsmodels import holm_of_statsmodels
from hypothesis import given, settings
from hypothesis import strategies as st

from sycophancy.evaluation.multiple_comparisons import ALPHA, holm

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(p_values)
@settings(deadline=None)  # the first example imports statsmodels
def test_holm_is_statsmodels(values):
    assert holm(values) == pytest.approx(holm_of_statsmodels(values), abs=1e-12)


@given(p_values)
def test_an_adjusted_p_value_is_never_below_the_raw_one_and_keeps_the_order(values):
    adjusted = holm(values)
    assert all(raw <= new <= 1 for raw, new in zip(values, adjusted, strict=True))
    ranked = [new for _, new in sorted(zip(values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


@given(p_values, st.randoms(use_true_random=False))
def test_the_order_of_the_tests_does_not_matter(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    shuffled = holm([values[index] for index in order])
    assert shuffled == [holm(values)[index] for index in order]


@given(p_values, st.floats(0, 1))
def test_a_further_test_never_makes_another_more_certain(values, further):
    assert all(b >= a for a, b in zip(holm(values), holm([*values, further]), strict=False))


def test_one_test_is_not_adjusted_and_none_is_none():
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_the_chance_of_any_error_is_held():
    """Ten dependent tests without an effect: at least one is below 0.05 in at most 5 %."""
    draw = np.random.default_rng(0)
    errors = 0
    for _ in range(4000):
        shared = draw.random()
        values = np.where(draw.random(10) < 0.5, draw.random(10), shared)
        errors += min(holm(values.tolist())) < ALPHA
    assert errors / 4000 < 0.06
