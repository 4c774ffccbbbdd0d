"""Verdicts follow from corrected tests: by hand, against statsmodels, and by simulation."""

import dataclasses

import numpy as np
import pytest
from holm_of_statsmodels import holm_of_statsmodels
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from sycophancy.evaluation.comparison import mcnemar, paired_change
from sycophancy.evaluation.intervals import Sample, wilson
from sycophancy.evaluation.metrics import Metric, metric
from sycophancy.study.answers import Measured
from sycophancy.study.claims import NOTHING, Claim, Experiment, Side, difference
from sycophancy.study.contrasts import DRAWS, Contrast, contrast
from sycophancy.study.verdicts import Decision, Outcome, claim_tests, corrected

SIDE = Side("m", "r", "after", "x")


def measured(values, asked: str = "questions") -> Measured:
    outcomes = np.asarray(values, float)
    count = len(outcomes)
    clusters = np.array([f"{asked} {index}" for index in range(count)])
    sample = Sample(outcomes, np.ones(count), clusters, np.zeros(count, int))
    return Measured(metric(sample), sample, asked)


def between(low: float, high: float) -> Contrast:
    """A contrast whose draws are normal, with this 95 % interval."""
    middle, error = (low + high) / 2, (high - low) / 2 / norm.ppf(0.975)
    draws = middle + error * norm.ppf((np.arange(DRAWS) + 0.5) / DRAWS)
    return Contrast(middle, low, high, 100, draws)


def verdict(claim: Claim, measured: Contrast) -> str:
    """The verdict if this claim is the only one."""
    (decision,) = corrected(
        [Decision(claim, "undecided", measured, tests=claim_tests(claim, measured))]
    )
    return decision.verdict


@pytest.mark.parametrize(
    ("expected", "line", "margin", "low", "high", "said"),
    [
        ("above", 0.5, 0.0, 0.501, 0.7, "agree"),
        ("above", 0.5, 0.0, 0.3, 0.499, "disagree"),
        ("above", 0.5, 0.0, 0.499, 0.7, "undecided"),
        ("above", 0.9, 0.0, 0.91, 0.95, "agree"),
        ("above", 0.9, 0.0, 0.2, 0.89, "disagree"),
        ("below", 0.9, 0.0, 0.2, 0.89, "agree"),
        ("below", 0.9, 0.0, 0.91, 0.95, "disagree"),
        ("within", 0.0, 0.03, -0.02, 0.02, "agree"),
        ("within", 0.0, 0.03, -0.02, 0.031, "undecided"),
        ("within", 0.0, 0.03, -0.04, 0.04, "undecided"),
        ("within", 0.0, 0.03, 0.04, 0.06, "disagree"),
        ("within", 0.0, 0.03, -0.06, -0.04, "disagree"),
    ],
)
def test_the_verdict_of_one_claim(expected, line, margin, low, high, said):
    claim = Claim("c", ((1.0, SIDE),), expected, line, margin)
    assert verdict(claim, between(low, high)) == said


@pytest.mark.parametrize(
    ("expected", "low", "high", "said"),
    [
        ("above", 0.002, 0.008, "agree"),
        ("above", -0.002, 0.006, "disagree"),
        ("above", -0.002, 0.012, "undecided"),
        ("below", -0.006, 0.006, "disagree"),
        ("below", -0.011, 0.009, "undecided"),
        ("above", 0.05, 0.2, "agree"),
        ("below", 0.05, 0.2, "disagree"),
    ],
)
def test_a_change_that_is_surely_next_to_nothing_disagrees(expected, low, high, said):
    other = dataclasses.replace(SIDE, recipe="other")
    claim = difference("c", SIDE, other, expected)
    assert verdict(claim, between(low, high)) == said
    assert "or within ±1 point" in claim.rule


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["above", "below", "within"]),
            st.floats(-0.3, 0.3),
            st.floats(0.001, 0.2),
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=40, deadline=None)
def test_no_verdict_contradicts_the_shown_interval_or_escapes_the_correction(cases):
    """Each verdict is one that the 95 % interval shows alone, with an adjusted p below 0.05."""
    other = dataclasses.replace(SIDE, recipe="other")
    decisions = []
    for expected, middle, half in cases:
        claim = difference("c", SIDE, other, expected, 0.03 if expected == "within" else 0.0)
        measured = between(middle - half, middle + half)
        decisions.append(Decision(claim, "undecided", measured, tests=claim_tests(claim, measured)))
    raw = [test.p_value for one in decisions for test in one.tests]
    found = corrected(decisions)
    adjusted = [test.adjusted for one in found for test in one.tests]
    assert adjusted == pytest.approx(holm_of_statsmodels(raw))
    for one in found:
        low, high, margin = one.contrast.low, one.contrast.high, one.claim.margin
        if one.claim.expected == "within":
            shown = {
                "agree": -margin < low and high < margin,
                "disagree": low > margin or high < -margin,
            }
        else:
            above, below = low > 0, high < 0
            nothing = low > -NOTHING and high < NOTHING
            agrees = above if one.claim.expected == "above" else below
            opposes = below if one.claim.expected == "above" else above
            shown = {"agree": agrees, "disagree": opposes or nothing}
        assert shown.get(one.verdict, True)
        if one.verdict != "undecided":
            assert one.closest.adjusted < 0.05


def test_more_claims_need_more_certainty():
    claim = Claim("c", ((1.0, SIDE),), "above", 0.5)
    measured = between(0.51, 0.7)
    many = [Decision(claim, "undecided", measured, tests=claim_tests(claim, measured))] * 20
    assert {one.verdict for one in corrected(many[:1])} == {"agree"}
    assert {one.verdict for one in corrected(many)} == {"undecided"}


def test_within_is_the_two_one_sided_tests_of_statsmodels():
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    draw = np.random.default_rng(0)
    before = draw.normal(0, 1, 400)
    after = before + draw.normal(0.02, 0.5, 400)
    expected, *_ = weightstats.ttost_paired(after, before, -0.08, 0.08)
    found = contrast([(1.0, {0: measured(after)}), (-1.0, {0: measured(before)})])
    claim = difference("c", SIDE, dataclasses.replace(SIDE, recipe="o"), "within", 0.08)
    assert claim_tests(claim, found)[0].p_value == pytest.approx(expected, abs=0.004)
    assert 0.001 < expected < 0.05


def test_a_difference_of_few_questions_has_the_p_value_of_mcnemar():
    before = measured([0] * 300)
    after = measured([1] * 5 + [0] * 295)
    found = contrast([(1.0, {0: after}), (-1.0, {0: before})])
    assert found.unchanged == pytest.approx(mcnemar(5, 0))
    assert found.p_at_most(0) == pytest.approx(mcnemar(5, 0) / 2)
    assert found.low > 0  # the bootstrap alone would decide


def test_one_rate_has_the_score_test():
    found = contrast([(1.0, {0: measured([1] * 80 + [0] * 20)})])
    expected = norm.sf((0.8 - 0.7) / (0.7 * 0.3 / 100) ** 0.5)
    assert found.p_at_most(0.7) == pytest.approx(expected, abs=1e-4)
    assert found.p_at_least(0.7) == pytest.approx(1 - expected, abs=1e-4)


def test_the_same_questions_are_compared_in_pairs():
    before = measured([1] * 50 + [0] * 50)
    after = measured([1] * 40 + [0] * 60)
    found = contrast([(1.0, {0: after}), (-1.0, {0: before})])
    expected = paired_change(before.sample, after.sample)
    assert found.paired
    assert (found.value, found.low, found.high, found.n) == pytest.approx(
        (expected.value, expected.low, expected.high, expected.n), abs=0.011
    )
    apart = contrast([(1.0, {0: after}), (-1.0, {0: measured([1] * 50 + [0] * 50, "others")})])
    assert not apart.paired
    # By hand: ten of a hundred pairs changed, so the paired standard error is 0.03; unpaired 0.07.
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.03, abs=0.011)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * 0.07, abs=0.01)


def test_one_rate_has_wilsons_interval():
    found = contrast([(1.0, {0: measured([1] * 9 + [0])})])
    assert (found.low, found.high) == pytest.approx(wilson(9, 10), abs=1e-4)


def test_outcomes_without_variation_claim_no_certainty():
    found = contrast([(1.0, {0: measured([1] * 20)}), (-1.0, {0: measured([0] * 20)})])
    assert found.value == 1.0
    low, _ = wilson(20, 20)
    assert 1 - 2 * (1 - low) < found.low < low


def test_metrics_without_predictions_are_independent():
    rates = [Measured(Metric(v, v - 0.03, v + 0.03, 100)) for v in (0.8, 0.5)]
    found = contrast([(1.0, {0: rates[0]}), (-1.0, {0: rates[1]})])
    half = 0.03 * 2**0.5
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), abs=2e-3)
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
        (0.2, 0.2 - half, 0.2 + half), abs=4e-3
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


@pytest.mark.parametrize(
    ("seeds", "spread"),
    [(1, 0.0), (1, 0.15), (3, 0.15), pytest.param(3, 0.0, marks=pytest.mark.slow)],
)
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
