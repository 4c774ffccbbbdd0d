"""Limits of settings: which values they accept, and how they state their expectation."""

import typing

import pytest

from sycophancy.config import bounds, conversion, load, schema
from sycophancy.config.bounds import Between, Name, Place, Rates, Text
from sycophancy.model import layers


@pytest.mark.parametrize(
    ("limit", "fits", "refused"),
    [
        (Between(1, 9), (1, 9), (0, 10, 10**400, float("inf"), float("nan"))),
        (Between(0, 1, below=True), (0, 0.999), (1.0, -1e-9)),
        (Text(1, 5), ("a", "é" * 2, "a\u202fb"), ("", "é" * 3, "a\nb", "a\0", "\udcff")),
        (Place(), ("a/b", "gs://a/b", "/", "ü" * 127), ("", "a\tb", "x/" + "ü" * 128, "a/" * 2049)),
        (Name(), ("a", "...", " "), ("", ".", "..", "a/b", "/a", "a/", "\udc80", "a\x7f")),
        (Name(nested=True), ("a", "a/b"), ("../a", "a/../b", "/a", "a//b", "a/", "a" * 256)),
        (Rates(1e-6, 1e6), ((5, 1), (0, 1)), ((0, 0), (-1, 2), (1e308, 1e-308), (1, float("nan")))),
    ],
)
def test_a_limit_accepts_fitting_values_and_states_its_expectation_of_others(limit, fits, refused):
    assert [limit.problem(value) for value in fits] == [None] * len(fits)
    for value in refused:
        assert limit.problem(value), value
        assert limit.problem(value).isascii()


def test_any_value_is_short_in_a_message():
    for value in ("a" * 10**6, 10**5000, (10**5000,), "\udcff" * 200, list(range(10**4))):
        assert len(bounds.shown(value)) <= 120


def test_the_description_of_a_type_includes_its_limits():
    assert (
        conversion.describe(load.macro_types()["BATCH_SIZE"]) == "a whole number from 1 to 65,536"
    )
    assert conversion.describe(load.macro_types()["SAVE_MINUTES"]).endswith("1,000,000 or None")


def test_the_allowed_activations_are_those_of_the_network():
    assert set(typing.get_args(schema.Activation)) == set(layers.ACTIVATIONS)


def test_different_seeds_within_the_limit_draw_differently():
    """JAX keeps 32 bits of a seed, TensorFlow its remainder by 2^31 - 1."""
    import jax
    from tensorflow.python.framework import random_seed

    assert load.load_config("mini_base", "quick", [f"SEED={2**31 - 2}"]).data.seed == 2**31 - 2
    with pytest.raises(Exception, match="SEED: expected at most 2,147,483,646"):
        load.load_config("mini_base", "quick", [f"SEED={2**31 - 1}"])
    first, last = (jax.random.key_data(jax.random.key(seed)).tolist() for seed in (0, 2**31 - 2))
    assert first != last
    assert len({random_seed._truncate_seed(seed) for seed in (0, 1, 2**31 - 2)}) == 3
    assert random_seed._truncate_seed(2**31 - 1) == random_seed._truncate_seed(0)
