import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sycophancy.data import draws

HASHES = draws.content_hashes(str(row) for row in range(40_000))


def test_hashes_are_blake2b() -> None:
    expected = hashlib.blake2b("naïve".encode(), digest_size=16).hexdigest()
    assert draws.hexadecimal(draws.content_hashes(["naïve"])) == [expected]


def test_draws_are_the_same_on_every_machine() -> None:
    words = draws.words(draws.content_hashes(["a", "b"]), 7, "opinion")
    assert words.tolist() == [16873919712066780080, 1034508443967622420]


@given(st.permutations(range(50)))
def test_a_draw_does_not_depend_on_the_other_rows(order: list[int]) -> None:
    some = HASHES[:50]
    assert (draws.words(some, 0, "x")[order] == draws.words(some[order], 0, "x")).all()


@pytest.mark.parametrize("purpose", ["opinion", "choice order", "is or is not"])
def test_coins_are_fair_and_uniform_is_uniform(purpose: str) -> None:
    heads = draws.coins(HASHES, 0, purpose).sum()
    assert stats.binomtest(int(heads), len(HASHES)).pvalue > 1e-4
    assert stats.kstest(draws.uniform(HASHES, 0, purpose), "uniform").pvalue > 1e-4


def test_below_is_uniform_over_its_range() -> None:
    counts = np.bincount(draws.below(HASHES, 0, "age", 61), minlength=61)
    assert len(counts) == 61
    assert stats.chisquare(counts).pvalue > 1e-4


def test_seeds_and_purposes_are_independent() -> None:
    columns = [draws.coins(HASHES, seed, name) for seed in (0, 1) for name in ("a", "b")]
    for first in range(4):
        for second in range(first):
            table = np.histogram2d(columns[first], columns[second], bins=2)[0]
            assert stats.chi2_contingency(table).pvalue > 1e-4
