"""Intervals have their closed forms, and cover the truth as often as they say."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from sycophancy.evaluation import intervals
from sycophancy.evaluation.intervals import Sample


def sample(values, clusters=None, strata=None, weights=None) -> Sample:
    count = len(values)
    return Sample(
        values=np.asarray(values, float),
        weights=np.ones(count) if weights is None else np.asarray(weights, float),
        clusters=np.arange(count) if clusters is None else np.asarray(clusters),
        strata=np.zeros(count) if strata is None else np.asarray(strata),
    )


@pytest.mark.parametrize(("right", "n"), [(0, 1), (0, 20), (7, 10), (37, 100), (500, 500)])
def test_wilson_is_scipys(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert intervals.wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert intervals.wilson(right, n)[0] <= right / n <= intervals.wilson(right, n)[1]


@pytest.mark.parametrize(("right", "n"), [(0, 20), (7, 10), (37, 100), (500, 500)])
def test_wilson_is_statsmodels(right, n):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    expected = proportion.proportion_confint(right, n, method="wilson")
    assert intervals.wilson(right, n) == pytest.approx(expected, abs=1e-12)


def test_wilson_without_trials_is_from_zero_to_one():
    assert intervals.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.9])
def test_wilson_covers(rate):
    draw = np.random.default_rng(0)
    counts = draw.binomial(100, rate, 4_000)
    bounds = np.array([intervals.wilson(k, 100) for k in range(101)])[counts]
    covered = ((bounds[:, 0] <= rate) & (rate <= bounds[:, 1])).mean()
    assert 0.93 <= covered <= 0.985


def test_a_value_is_the_mean_over_strata_of_weighted_rates():
    measure = sample([1, 0, 1, 1, 0], strata=list("aabbb"), weights=[1, 1, 1, 0, 1])
    assert measure.value == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert measure.n == 4


def test_a_stratum_where_no_item_counts_has_no_value():
    assert np.isnan(sample([1, 0], strata=["a", "b"], weights=[1, 0]).value)


def test_the_bootstrap_has_the_standard_error_of_clusters():
    """Items of a cluster are copies, so the error is that of 200 clusters, not of 1,000 items."""
    outcomes = np.random.default_rng(0).random(200) < 0.3
    clusters = np.repeat(np.arange(200), 5)
    [drawn] = intervals.clustered_bootstrap(sample(outcomes.repeat(5), clusters))
    rate = outcomes.mean()
    assert drawn.std() == pytest.approx((rate * (1 - rate) / 200) ** 0.5, rel=0.06)
    assert drawn.mean() == pytest.approx(rate, abs=0.005)


def test_strata_keep_their_size_and_have_equal_weight():
    """Variances of stratum rates add, divided by the number of strata squared."""
    draw = np.random.default_rng(1)
    small, large = draw.random(50) < 0.5, draw.random(800) < 0.2
    measure = sample(np.r_[small, large], strata=["s"] * 50 + ["l"] * 800)
    variance = sum(x.mean() * (1 - x.mean()) / len(x) for x in (small, large)) / 4
    assert intervals.clustered_bootstrap(measure)[0].std() == pytest.approx(variance**0.5, rel=0.06)


def test_the_clustered_interval_covers():
    """Pairs of correlated items; 95 % intervals hold the truth in 92 to 98 % of 400 samples."""
    draw = np.random.default_rng(2)
    hits = 0
    for _ in range(400):
        chance = draw.beta(2, 3, 80).repeat(2)  # mean 0.4
        measure = sample(draw.random(160) < chance, clusters=np.arange(80).repeat(2))
        [drawn] = intervals.clustered_bootstrap(measure, replicates=400, seed=3)
        low, high = intervals.percentiles(drawn)
        hits += low <= 0.4 <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_bootstrap_repeats_by_seed_and_ignores_the_order_of_items():
    draw = np.random.default_rng(4)
    measure = sample(draw.random(90) < 0.5, draw.integers(0, 30, 90), draw.integers(0, 2, 90))
    order = draw.permutation(90)
    shuffled = sample(measure.values[order], measure.clusters[order], measure.strata[order])
    first = intervals.clustered_bootstrap(measure, seed=5)
    assert np.array_equal(intervals.clustered_bootstrap(measure, seed=5), first)
    assert np.array_equal(intervals.clustered_bootstrap(shuffled, seed=5), first)
    assert not np.array_equal(intervals.clustered_bootstrap(measure, seed=6), first)


def test_drawing_numbers_of_each_kind_has_the_distribution_of_drawing_clusters():
    """The same quantiles as drawing 60 clusters of one to four items one by one."""
    draw = np.random.default_rng(7)
    clusters = np.repeat(np.arange(60), draw.integers(1, 5, 60))
    measure = sample(draw.random(len(clusters)) < 0.35, clusters)
    right, counted = np.bincount(clusters, measure.values), np.bincount(clusters)
    drawn = draw.integers(60, size=(20_000, 60))
    expected = right[drawn].sum(axis=1) / counted[drawn].sum(axis=1)
    [replicates] = intervals.clustered_bootstrap(measure, replicates=20_000)
    at = [0.025, 0.25, 0.5, 0.75, 0.975]
    assert np.quantile(replicates, at) == pytest.approx(np.quantile(expected, at), abs=0.003)


def test_samples_of_the_same_items_are_resampled_together():
    measure = sample(np.random.default_rng(8).random(50) < 0.5)
    opposite = sample(1 - measure.values)
    first, second, third = intervals.clustered_bootstrap(measure, opposite, measure)
    assert np.array_equal(first, third)
    assert np.allclose(first + second, 1)


def test_replicates_where_no_item_counts_are_left_out():
    measure = sample([1, 1, 1, 0], clusters=[0, 1, 2, 3], weights=[1, 0, 0, 0])
    [drawn] = intervals.clustered_bootstrap(measure)
    assert np.isnan(drawn).any()
    assert intervals.percentiles(drawn) == (1.0, 1.0)


def test_an_independent_proportion_gets_wilsons_interval():
    assert intervals.interval(sample([1] * 9 + [0])) == intervals.wilson(9, 10)


def test_clusters_of_several_items_get_the_bootstrap():
    measure = sample([1, 1, 0, 0] * 10, clusters=np.arange(20).repeat(2))
    assert intervals.interval(measure) == intervals.percentiles(
        intervals.clustered_bootstrap(measure)[0]
    )
    assert intervals.interval(measure)[0] < intervals.wilson(20, 40)[0]


def test_an_interval_of_equal_outcomes_still_has_a_width():
    measure = sample([1] * 40, clusters=np.arange(20).repeat(2))
    assert intervals.interval(measure) == pytest.approx(intervals.wilson(20, 20))
    low, high = intervals.interval(sample([1] * 40, strata=["a"] * 20 + ["b"] * 20))
    assert intervals.wilson(20, 20)[0] < low < intervals.wilson(40, 40)[0]
    assert high == 1.0


def test_combined_is_newcombes_interval_for_a_difference():
    """The worked example of his table II: 56/70 minus 48/80."""
    bounds = [intervals.wilson(56, 70), intervals.wilson(48, 80)]
    low, high = intervals.combined([56 / 70, 48 / 80], bounds, [1.0, -1.0])
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(("first", "second"), [((56, 70), (48, 80)), ((9, 10), (3, 30))])
def test_combined_is_statsmodels_newcombe_interval(first, second):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    expected = proportion.confint_proportions_2indep(*first, *second, method="newcomb")
    bounds = [intervals.wilson(*first), intervals.wilson(*second)]
    rates = [right / n for right, n in (first, second)]
    assert intervals.combined(rates, bounds, [1.0, -1.0]) == pytest.approx(expected, abs=1e-12)


def test_outcomes_other_than_zero_and_one_get_the_bootstrap():
    """Of a mean of normal outcomes, it is close to Student's interval."""
    outcomes = np.random.default_rng(1).normal(-3.0, 2.0, 200)
    measure = sample(outcomes)
    assert not measure.is_one_proportion
    expected = ttest_1samp(outcomes, 0).confidence_interval()
    width = expected.high - expected.low
    assert intervals.interval(measure) == pytest.approx(tuple(expected), abs=0.06 * width)


def test_shares_of_probability_are_no_proportion():
    measure = sample([0.5, 0.25, 0.75, 1.0] * 10)
    assert not measure.is_one_proportion
    low, high = intervals.interval(measure)
    assert high - low < np.diff(intervals.wilson(25, 40))


@pytest.mark.parametrize("constant", [-2.5, 0.3, 7e6])
@pytest.mark.parametrize("strata", [None, ["a"] * 20 + ["b"] * 20])
def test_a_constant_other_than_zero_or_one_is_marked_by_equal_bounds(constant, strata):
    outcomes = sample([constant] * 40, strata=strata)
    unbounded = dataclasses.replace(outcomes, bounds=(-np.inf, np.inf))
    low, high = intervals.interval(unbounded)
    assert low == high == pytest.approx(constant)


def covered(draw: np.random.Generator, trials: int, questions: int) -> float:
    """How often the interval of a mean of skewed, clustered outcomes in nats holds the truth."""
    hits = 0
    for trial in range(trials):
        shared = draw.exponential(1.0, questions).repeat(2)  # mean 1
        measure = sample(shared + draw.normal(0, 0.5, len(shared)), np.arange(questions).repeat(2))
        low, high = intervals.interval(measure, seed=trial)
        hits += low <= 1.0 <= high
    return hits / trials


def test_the_interval_of_a_mean_covers():
    assert 0.90 <= covered(np.random.default_rng(10), 150, 60) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("questions", "least"), [(30, 0.90), (100, 0.93), (400, 0.935)])
def test_the_interval_of_a_mean_covers_more_precisely(questions, least):
    """With 30 questions of skewed outcomes the percentile bootstrap is known to fall short."""
    assert least <= covered(np.random.default_rng(11), 1500, questions) <= 0.965


def test_many_kinds_of_clusters_are_drawn_as_few_kinds_are():
    """Two ways to draw have the same standard error: that of a mean."""
    outcomes = np.random.default_rng(12).normal(0, 1, 300)
    for values in (outcomes, outcomes.round()):
        [drawn] = intervals.clustered_bootstrap(sample(values), replicates=4000)
        assert drawn.std() == pytest.approx(values.std() / 300**0.5, rel=0.05)
        assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)


def test_samples_without_common_questions_are_resampled_independently():
    draw = np.random.default_rng(13)
    first = sample(draw.random(80) < 0.5)
    for second in (
        sample(draw.random(80) < 0.5, clusters=np.arange(80, 160)),
        sample(draw.random(80) < 0.5, strata=np.ones(80)),
    ):
        drawn = intervals.clustered_bootstrap(first, second, replicates=8000)
        assert abs(np.corrcoef(drawn)[0, 1]) < 0.04
        assert drawn.mean(axis=1) == pytest.approx([first.value, second.value], abs=0.003)
    again = sample(first.values[:40], clusters=np.arange(40))  # half of the same questions
    drawn = intervals.clustered_bootstrap(first, again, replicates=8000)
    assert np.corrcoef(drawn)[0, 1] == pytest.approx(0.5**0.5, abs=0.1)


@pytest.mark.parametrize("strata", [None, np.arange(600) % 3])
def test_a_measure_is_resampled_alike_whether_or_not_draws_were_kept(strata, monkeypatch):
    """Draws that one measure leaves for the next are those that it would draw itself."""
    draw = np.random.default_rng(14)
    first, second = (sample(draw.normal(0, 1, 600), strata=strata) for _ in range(2))
    intervals.clustered_bootstrap(first, seed=1)
    with_kept = intervals.clustered_bootstrap(second, seed=1)
    monkeypatch.setattr(intervals, "_KEPT", 0)
    np.testing.assert_allclose(with_kept, intervals.clustered_bootstrap(second, seed=1), atol=1e-12)
    assert not np.allclose(with_kept, intervals.clustered_bootstrap(second, seed=2))


def test_counts_of_draws_are_multinomial():
    """Means and variances of how often each of 300 clusters is drawn, and their sum."""
    times = intervals._times(np.random.default_rng(15), 4_000, 300)
    assert (times.sum(axis=1, dtype=int) == 300).all()
    assert times.mean(axis=0) == pytest.approx(np.ones(300), abs=0.09)
    assert times.var() == pytest.approx(1 - 1 / 300, rel=0.01)
