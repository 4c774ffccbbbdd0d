"""The permutation test lists or draws what scipy lists, and errs as seldom as it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sycophancy.evaluation.comparison import mcnemar
from sycophancy.evaluation.intervals import Sample
from sycophancy.evaluation.permutation import permutation_test


def sample(values, weights=None, clusters=None, strata=None) -> Sample:
    count = len(values)
    return Sample(
        np.asarray(values, float),
        np.ones(count) if weights is None else np.asarray(weights, float),
        np.arange(count) if clusters is None else np.asarray(clusters),
        np.zeros(count, int) if strata is None else np.asarray(strata),
    )


def scipys(before: Sample, after: Sample) -> float:
    """scipy permutes which of the two models answered each question; every way is listed."""
    names, cluster = np.unique(before.clusters, return_inverse=True)

    def change(first, second):
        """After minus before, where `second[i]` is 1 if question i keeps its two sides."""
        kept = (second == 1)[cluster]
        sides = [
            Sample(
                np.where(kept, one.values, other.values),
                np.where(kept, one.weights, other.weights),
                before.clusters,
                before.strata,
            )
            for one, other in ((after, before), (before, after))
        ]
        return sides[0].value - sides[1].value

    result = stats.permutation_test(
        (np.zeros(len(names)), np.ones(len(names))),
        change,
        permutation_type="samples",
        vectorized=False,
        n_resamples=np.inf,
    )
    return float(np.mean(np.abs(result.null_distribution) >= abs(result.statistic) - 1e-9))


KINDS = ("yes or no", "nats", "shares")


def pair(draw: np.random.Generator, kind: str, questions: int) -> tuple[Sample, Sample]:
    """Two models, two sets, some questions with two items, and a few items that do not count."""
    clusters = np.sort(np.r_[np.arange(questions), draw.integers(questions, size=3)])
    strata = clusters % 2
    values = {
        "yes or no": lambda: draw.random(len(clusters)) < 0.6,
        "nats": lambda: draw.normal(0, 2, len(clusters)),
        "shares": lambda: draw.random(len(clusters)).round(1),
    }[kind]
    weights = [np.ones(len(clusters)) for _ in range(2)]
    if kind != "nats":  # as flips, which count other questions in each model
        for side in weights:
            side[draw.integers(4, len(clusters), size=2)] = 0
    return tuple(sample(values(), side, clusters, strata) for side in weights)  # type: ignore[return-value]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_listed_p_value_is_scipys(kind, seed):
    sides = pair(np.random.default_rng(seed), kind, 9)
    assert permutation_test(*sides) == pytest.approx(scipys(*sides))


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_p_value_is_close_to_the_listed_one(kind):
    sides = pair(np.random.default_rng(9), kind, 9)
    drawn = permutation_test(*sides, draws=3, seed=1)
    assert drawn in (1 / 4, 2 / 4, 3 / 4, 1.0)
    first, second = pair(np.random.default_rng(3), kind, 40)
    fewer, more = (permutation_test(first, second, draws=n) for n in (4_000, 40_000))
    assert fewer == pytest.approx(more, abs=4 * (0.25 / 4_000) ** 0.5)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 9))
def test_one_answer_a_question_is_mcnemars_test(rose, fell, same):
    before = np.r_[np.zeros(rose), np.ones(fell), np.zeros(same)]
    after = np.r_[np.ones(rose), np.zeros(fell), np.zeros(same)]
    if len(before):
        found = permutation_test(sample(before), sample(after))
        assert found == pytest.approx(mcnemar(rose, fell))


@pytest.mark.parametrize("kind", KINDS)
def test_a_p_value_repeats_and_depends_on_neither_the_order_nor_the_direction(kind):
    before, after = pair(np.random.default_rng(4), kind, 60)
    order = np.random.default_rng(5).permutation(len(before.values))

    def shuffled(side: Sample) -> Sample:
        return Sample(
            side.values[order], side.weights[order], side.clusters[order], side.strata[order]
        )

    p_value = permutation_test(before, after, seed=7)
    assert permutation_test(before, after, seed=7) == p_value
    assert permutation_test(shuffled(before), shuffled(after), seed=7) == pytest.approx(p_value)
    assert permutation_test(after, before, seed=7) == pytest.approx(p_value)


def test_a_set_in_which_nothing_changed_is_no_obstacle():
    strata = np.repeat([0, 1], 40)
    before = sample(np.zeros(80), strata=strata)
    after = sample(np.r_[np.zeros(40), np.random.default_rng(0).random(40)], strata=strata)
    assert permutation_test(before, after) < 1e-3


def test_no_change_has_the_p_value_one():
    same = sample(np.random.default_rng(1).normal(size=50))
    assert permutation_test(same, same) == 1.0


def errors(draw: np.random.Generator, trials: int) -> float:
    """How often a p-value is below 0.05 where the two models answer alike but for chance."""
    wrong = 0
    for trial in range(trials):
        clusters = np.arange(25).repeat(2)
        shared = draw.exponential(1.0, 25).repeat(2)
        sides = [sample(shared + draw.normal(0, 1, 50), clusters=clusters) for _ in range(2)]
        wrong += permutation_test(*sides, draws=400, seed=trial) < 0.05
    return wrong / trials


def test_chance_alone_is_seldom_called_a_change():
    assert errors(np.random.default_rng(2), 300) <= 0.09


@pytest.mark.slow
def test_chance_alone_is_called_a_change_in_five_of_a_hundred():
    assert errors(np.random.default_rng(3), 5_000) == pytest.approx(0.05, abs=0.01)
