"""Intervals over seeds and questions cover as often as they say; resampling seeds does not."""

import numpy as np
import pytest

from sycophancy.evaluation.intervals import Sample
from sycophancy.evaluation.metrics import Metric
from sycophancy.study.answers import Measured
from sycophancy.study.contrasts import contrast


def covered(seeds: int, spread: float, shared: float, trials: int) -> float:
    """How often the interval of a mean over seeds and questions holds the truth, which is zero.

    Args:
      spread: standard deviation between seeds.
      shared: that of questions, the same for all seeds; each answer adds 1 of its own.
    """
    draw = np.random.default_rng(seeds)
    held, questions = 0, 60
    for _ in range(trials):
        outcomes = (
            spread * draw.standard_normal((seeds, 1))
            + shared * draw.standard_normal(questions)
            + draw.standard_normal((seeds, questions))
        )
        by_seed = {}
        for seed, row in enumerate(outcomes):
            sample = Sample(row, np.ones(questions), np.arange(questions), np.zeros(questions))
            by_seed[seed] = Measured(Metric(sample.value, -9.0, 9.0, questions), sample, "q")
        found = contrast([(1.0, by_seed)])
        held += found.low <= 0 <= found.high
    return held / trials


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_intervals_over_three_seeds_and_questions_cover(spread):
    assert covered(3, spread, 1.0, 25) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_intervals_over_seeds_and_questions_cover_more_precisely(seeds, spread, shared):
    assert covered(seeds, spread, shared, 300) >= 0.91  # 0.95 less three standard errors


def test_drawing_three_seeds_again_would_promise_too_much():
    """Why seeds are not drawn again: the bootstrap's 95 % hold the truth far less often."""
    rng = np.random.default_rng(4)
    estimates = rng.standard_normal((2000, 3))
    drawn = estimates[:, rng.integers(0, 3, (400, 3))].mean(axis=2)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
    assert np.mean((low <= 0) & (high >= 0)) < 0.8
