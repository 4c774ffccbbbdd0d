"""Verdicts follow from intervals: against cases worked out by hand, and against simulation."""

import dataclasses

import numpy as np
import pytest

from sycophancy.evaluation.comparison import paired_change
from sycophancy.evaluation.intervals import Sample, wilson
from sycophancy.evaluation.metrics import Metric, metric
from sycophancy.study.answers import Measured
from sycophancy.study.claims import Claim, Experiment, Side, difference
from sycophancy.study.verdicts import Contrast, Decision, Outcome, contrast, verdict

SIDE = Side("m", "r", "after", "x")


def measured(values, asked: str = "questions") -> Measured:
    outcomes = np.asarray(values, float)
    count = len(outcomes)
    sample = Sample(outcomes, np.ones(count), np.arange(count), np.zeros(count, int))
    return Measured(metric(sample), sample, asked)


@pytest.mark.parametrize(
    ("expected", "line", "margin", "low", "high", "said"),
    [
        ("above", 0.0, 0.0, 0.01, 0.2, "agree"),
        ("above", 0.0, 0.0, -0.2, -0.01, "disagree"),
        ("above", 0.0, 0.0, -0.01, 0.2, "undecided"),
        ("above", 0.0, 0.0, 0.0, 0.2, "undecided"),
        ("below", 0.0, 0.0, -0.2, -0.01, "agree"),
        ("below", 0.0, 0.0, 0.01, 0.2, "disagree"),
        ("below", 0.0, 0.0, -0.2, 0.0, "undecided"),
        ("above", 0.9, 0.0, 0.91, 0.95, "agree"),
        ("above", 0.9, 0.0, 0.2, 0.89, "disagree"),
        ("below", 0.9, 0.0, 0.2, 0.89, "agree"),
        ("within", 0.0, 0.03, -0.02, 0.029, "agree"),
        ("within", 0.0, 0.03, -0.02, 0.031, "undecided"),
        ("within", 0.0, 0.03, -0.04, 0.04, "undecided"),
        ("within", 0.0, 0.03, 0.031, 0.04, "disagree"),
        ("within", 0.0, 0.03, -0.05, -0.031, "disagree"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(expected, line, margin, low, high, said):
    claim = Claim("c", ((1.0, SIDE),), expected, line, margin)
    assert verdict(claim, Contrast((low + high) / 2, low, high, 100)) == said


@pytest.mark.parametrize(
    ("expected", "low", "high", "said"),
    [
        ("above", 0.002, 0.008, "agree"),
        ("above", -0.002, 0.008, "disagree"),
        ("above", -0.002, 0.012, "undecided"),
        ("below", -0.009, 0.009, "disagree"),
        ("below", -0.011, 0.009, "undecided"),
    ],
)
def test_a_change_that_is_surely_next_to_nothing_disagrees(expected, low, high, said):
    other = dataclasses.replace(SIDE, recipe="other")
    claim = difference("c", SIDE, other, expected)
    assert verdict(claim, Contrast((low + high) / 2, low, high, 100)) == said
    assert "or within ±1 point" in claim.rule


def test_the_same_questions_are_compared_in_pairs():
    before = measured([1] * 50 + [0] * 50)
    after = measured([1] * 40 + [0] * 60)
    found = contrast([(1.0, {0: after}), (-1.0, {0: before})])
    expected = paired_change(before.sample, after.sample)
    assert found.paired
    assert (found.value, found.low, found.high, found.n) == pytest.approx(
        (expected.value, expected.low, expected.high, expected.n)
    )
    apart = contrast([(1.0, {0: after}), (-1.0, {0: measured([1] * 50 + [0] * 50, "others")})])
    assert not apart.paired
    # By hand: ten of a hundred pairs changed, so the paired standard error is 0.03; unpaired 0.07.
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.03, abs=0.011)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * 0.07, abs=0.01)


def test_one_rate_has_wilsons_interval():
    found = contrast([(1.0, {0: measured([1] * 9 + [0])})])
    assert (found.low, found.high) == pytest.approx(wilson(9, 10))


def test_outcomes_without_variation_claim_no_certainty():
    found = contrast([(1.0, {0: measured([1] * 20)}), (-1.0, {0: measured([0] * 20)})])
    assert found.value == 1.0
    low, _ = wilson(20, 20)
    assert found.low == pytest.approx(1 - np.hypot(1 - low, 1 - low))


def test_metrics_without_predictions_are_independent():
    rates = [Measured(Metric(v, v - 0.03, v + 0.03, 100)) for v in (0.8, 0.5)]
    found = contrast([(1.0, {0: rates[0]}), (-1.0, {0: rates[1]})])
    half = 0.03 * 2**0.5
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half))
    assert not found.paired


def test_a_contrast_may_weigh_its_sides():
    sides = [measured([1] * n + [0] * (100 - n)) for n in (60, 20, 80)]
    found = contrast([(f, {0: side}) for f, side in zip((1.0, -0.5, -0.5), sides, strict=True)])
    assert found.value == pytest.approx(0.1)
    assert found.low < 0.1 < found.high


def test_only_seeds_that_every_side_has_count():
    one, other = measured([1, 0, 1, 1]), measured([0, 0, 1, 1])
    assert contrast([(1.0, {0: one}), (-1.0, {1: other})]) is None
    assert contrast([(1.0, {0: one, 1: one}), (-1.0, {1: other, 2: other})]).seeds == 1


def test_several_seeds_have_students_interval():
    # Differences of 0.1, 0.2 and 0.3 on enough questions that the seeds decide: by hand, the mean
    # is 0.2, the standard error 0.1 / sqrt(3), the quantile with two degrees of freedom 4.303.
    def side(share: float) -> Measured:
        right = round(share * 10_000)
        return measured([1] * right + [0] * (10_000 - right))

    after = {seed: side(0.5 + 0.1 * (seed + 1)) for seed in range(3)}
    found = contrast([(1.0, after), (-1.0, {seed: side(0.5) for seed in range(3)})])
    half = 4.3027 * 0.1 / 3**0.5
    assert found.seeds == 3
    assert (found.value, found.low, found.high) == pytest.approx(
        (0.2, 0.2 - half, 0.2 + half), abs=2e-3
    )


def test_an_interval_ends_where_shares_and_their_differences_do():
    by_seed = {0: measured([1] * 100), 1: measured([1] * 100), 2: measured([1] * 60 + [0] * 40)}
    none = dict.fromkeys(range(3), measured([0] * 100))
    rate, difference = contrast([(1.0, by_seed)]), contrast([(1.0, none), (-1.0, by_seed)])
    assert 0 < rate.low < rate.value < rate.high == 1
    assert -1 == difference.low < difference.value < difference.high


def test_agreeing_seeds_are_no_narrower_than_their_questions():
    after, before = measured([1] * 50 + [0] * 50), measured([1] * 40 + [0] * 60)
    one = contrast([(1.0, {0: after}), (-1.0, {0: before})])
    three = contrast(
        [(1.0, dict.fromkeys(range(3), after)), (-1.0, dict.fromkeys(range(3), before))]
    )
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=0.011)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds, spread):
    """Seeds differ by `spread`; with one seed, the truth is that seed's own."""
    rng = np.random.default_rng(3)
    held, trials, count = 0, 100, 100
    for _ in range(trials):
        before, after, truths = {}, {}, []
        for seed in range(seeds):
            effect = -0.2 + spread * rng.standard_normal()
            truths.append(effect)
            chance = 0.7 + 0.2 * rng.uniform(-1, 1, count)
            before[seed] = measured(rng.random(count) < chance, f"{seed}")
            after[seed] = measured(rng.random(count) < np.clip(chance + effect, 0, 1), f"{seed}")
        found = contrast([(1.0, after), (-1.0, before)])
        held += found.low <= (truths[0] if seeds == 1 else -0.2) <= found.high
    assert held / trials >= 0.88  # 0.95 less three standard errors


def test_drawing_three_seeds_again_would_promise_too_much():
    """Why seeds are not drawn again: the bootstrap's 95 % hold the truth far less often."""
    rng = np.random.default_rng(4)
    estimates = rng.standard_normal((2000, 3))
    drawn = estimates[:, rng.integers(0, 3, (400, 3))].mean(axis=2)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
    assert np.mean((low <= 0) & (high >= 0)) < 0.8


def test_an_experiment_disagrees_if_one_of_its_claims_does():
    claim = Claim("c", ((1.0, SIDE),), "above")
    experiment = Experiment("k", "t", "s", "p", (claim,), ())

    def of(*verdicts):
        return Outcome(experiment, tuple(Decision(claim, v) for v in verdicts))

    assert of("agree", "undecided", "disagree").verdict == "disagree"
    assert of("agree", "undecided", "not run").verdict == "undecided"
    assert of("agree", "not run").verdict == "agree"
    assert of("not run").verdict == "not run"
    assert of("agree", "not run", "agree").counts == {"agree": 2, "not run": 1}
