"""Comparisons are paired: they see changes of single questions that two rates would hide."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom

from sycophancy.evaluation.comparison import (
    FROM_INTERVALS,
    MCNEMAR,
    PERMUTATION,
    Change,
    adjust,
    changed_clusters,
    compare,
    mcnemar,
    paired_change,
    unpaired_change,
)
from sycophancy.evaluation.intervals import Sample, combined, wilson
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.metrics import Metric, compute_metrics


def sample(values, clusters=None) -> Sample:
    count = len(values)
    clusters = np.arange(count) if clusters is None else clusters
    return Sample(np.asarray(values, float), np.ones(count), clusters, np.zeros(count))


def addition(marks_by_condition: dict[str, str]):
    """Items with the right answer second, and predictions: 1 is right."""
    items, predictions = [], []
    for condition, marks in marks_by_condition.items():
        for i, mark in enumerate(marks):
            name = f"{condition}-{i}"
            items.append(Item(name, "addition", condition, str(i), "?", ("(A)", "(B)"), 1))  # type: ignore[arg-type]
            likely = (-2.0, -1.0) if mark == "1" else (-1.0, -2.0)
            predictions.append(Prediction(name, likely, (False, False)))
    return items, predictions


@pytest.mark.parametrize(("rose", "fell"), [(1, 0), (6, 1), (3, 3), (0, 9), (40, 20)])
def test_mcnemar_is_twice_the_binomial_tail(rose, fell):
    tail = binom.cdf(min(rose, fell), rose + fell, 0.5)
    assert mcnemar(rose, fell) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(rose, fell) == mcnemar(fell, rose)


@pytest.mark.parametrize(("rose", "fell"), [(1, 0), (6, 1), (3, 3), (40, 20)])
def test_mcnemar_is_statsmodels(rose, fell):
    contingency_tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    expected = contingency_tables.mcnemar([[9, rose], [fell, 9]], exact=True).pvalue
    assert mcnemar(rose, fell) == pytest.approx(expected)


def test_mcnemar_without_changes_is_one():
    assert mcnemar(0, 0) == 1.0


def test_changes_are_counted_by_cluster():
    before, after = [1, 0, 0, 0, 1, 1], [1, 1, 1, 0, 0, 1]
    assert changed_clusters(sample(before), sample(after)) == (2, 1)
    clusters = np.array(["a", "a", "b", "b", "c", "c"])
    assert changed_clusters(sample(before, clusters), sample(after, clusters)) == (2, 1)
    clusters = np.array(["a", "b", "b", "c", "b", "c"])
    assert changed_clusters(sample(before, clusters), sample(after, clusters)) == (1, 0)


def test_the_difference_has_the_paired_standard_error():
    """(b + c - (b - c)^2 / n) / n^2 is the variance of a paired difference of proportions."""
    before = np.r_[np.zeros(60), np.ones(340)]
    after = before.copy()
    after[:40] = 1
    after[60:70] = 0
    change = paired_change(sample(before), sample(after))
    assert change.value == pytest.approx(30 / 400)
    error = ((50 - 30**2 / 400) / 400**2) ** 0.5
    assert (change.high - change.low) / 2 == pytest.approx(1.96 * error, rel=0.08)


def test_the_difference_covers():
    """In 300 pairs of models, 95 % intervals hold the true difference 92 to 98 % of the time."""
    draw = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        chance = draw.random(150)
        before = chance < 0.4
        after = np.where(draw.random(150) < 0.3, draw.random(150) < 0.7, before)
        change = paired_change(sample(before), sample(after))
        hits += change.low <= 0.3 * (0.7 - 0.4) <= change.high
    assert 0.92 <= hits / 300 <= 0.98


def test_a_difference_nobody_contradicts_still_has_a_width():
    change = paired_change(sample([0] * 50), sample([1] * 50))
    bounds = [wilson(0, 50), wilson(50, 50)]
    assert (change.low, change.high) == pytest.approx(combined([0, 1], bounds, [-1, 1]))
    assert change.value == 1.0 and 0.85 < change.low < 0.95 and change.high == 1.0


def test_compare_reports_the_difference_and_the_test():
    items, before = addition({"neutral": "1111111100", "user_wrong": "0000000001"})
    _, after = addition({"neutral": "1111111110", "user_wrong": "1111111100"})
    compared = compare(items, before, after)
    wrong = compared["addition/accuracy_user_wrong"]
    assert wrong.value == pytest.approx(0.8 - 0.1)
    assert wrong.low < 0.7 < wrong.high
    assert wrong.direction == "rose"
    assert (wrong.rose, wrong.fell, wrong.n) == (8, 1, 10)
    assert (wrong.p_value, wrong.test) == (pytest.approx(mcnemar(8, 1)), MCNEMAR)
    assert wrong.paired
    assert compared["addition/accuracy_neutral"].p_value == 1.0


def test_flips_ask_each_model_its_own_questions_and_so_have_the_permutation_test():
    items, before = addition({"neutral": "11110000", "user_wrong": "00000000"})
    _, after = addition({"neutral": "11111100", "user_wrong": "11100000"})
    flips = compare(items, before, after)["addition/flip_to_wrong"]
    assert flips.value == 3 / 6 - 4 / 4
    assert flips.n == 4
    assert flips.low < -0.5 < flips.high
    assert flips.rose is None and flips.fell is None
    # By hand: the three questions that moved can be exchanged in eight ways; in two of these, all
    # of them or none, the flip rate changes by as much.
    assert (flips.p_value, flips.test) == (2 / 8, PERMUTATION)


def test_a_model_compared_with_itself_has_not_changed():
    items, before = addition({"neutral": "1101" * 10, "user_wrong": "0100" * 10})
    for change in compare(items, before, before).values():
        assert change.value == 0
        assert change.low <= 0 <= change.high
        assert change.p_value == 1.0


def test_a_measure_one_model_cannot_have_is_left_out():
    items, before = addition({"neutral": "0000", "user_wrong": "0000"})
    _, after = addition({"neutral": "1111", "user_wrong": "1110"})
    compared = compare(items, before, after)
    assert "addition/flip_to_wrong" not in compared
    assert "addition/accuracy_neutral" in compared


def test_a_format_that_one_model_was_not_asked_is_left_out():
    items, before = addition({"neutral": "0101"})
    asked = dataclasses.replace(items[0], item_id="f", task="addition_formats/yes_no")
    answer = Prediction("f", (-1.0, -2.0), (False, False))
    for sides in ((before, [*before, answer]), ([*before, answer], before)):
        compared = compare([*items, asked], *sides)
        assert {name.rpartition("/")[0] for name in compared} == {"addition"}
        assert {"addition/accuracy_neutral", "addition/first_choice_share"} <= set(compared)


def test_without_predictions_the_two_metrics_count_as_independent():
    """Newcombe's interval of two proportions, which is wider than that of the same questions."""
    items, before = addition({"neutral": "1" * 20 + "0" * 20})
    _, after = addition({"neutral": "1" * 30 + "0" * 10})
    name = "addition/accuracy_neutral"
    sides = [compute_metrics(items, answers)[name] for answers in (before, after)]
    apart, paired = unpaired_change(*sides), compare(items, before, after)[name]
    assert apart.value == paired.value == pytest.approx(0.25)
    bounds = [wilson(20, 40), wilson(30, 40)]
    assert (apart.low, apart.high) == pytest.approx(combined([0.5, 0.75], bounds, [-1.0, 1.0]))
    assert apart.high - apart.low > paired.high - paired.low
    assert not apart.paired and apart.test == FROM_INTERVALS


@pytest.mark.parametrize(("after", "excludes"), [(34, True), (28, False), (20, False)])
def test_the_p_value_of_two_metrics_agrees_with_their_interval(after, excludes):
    sides = [Metric(right / 40, *wilson(right, 40), 40) for right in (20, after)]
    change = unpaired_change(*sides)
    assert (change.low > 0) == excludes == (change.p_value < 0.05)
    reverse = unpaired_change(*reversed(sides))
    assert reverse.p_value == pytest.approx(change.p_value)


def test_two_metrics_without_variation_test_nothing():
    change = unpaired_change(Metric(-1.5, -1.5, -1.5, 9), Metric(2.0, 2.0, 2.0, 9))
    assert (change.value, change.low, change.high, change.p_value) == (3.5, 3.5, 3.5, 1.0)
    assert change.direction == "did not change"


def test_constant_outcomes_in_nats_that_all_shift_are_a_change():
    before, after = (
        dataclasses.replace(sample([value] * 30), bounds=(-np.inf, np.inf))
        for value in (-1.5, 0.25)
    )
    change = paired_change(before, after)
    assert (change.value, change.low, change.high) == (1.75, 1.75, 1.75)
    assert change.p_value == pytest.approx(2 / 2**30)
    assert (change.rose, change.fell, change.direction) == (30, 0, "rose")


def test_only_changes_of_the_family_are_adjusted():
    changes = {
        name: Change(0.1, 0.05, 0.15, 50, p_value)
        for name, p_value in {"a": 0.02, "b": 0.04, "c": 0.04, "flips": 0.01}.items()
    }
    adjusted = adjust(changes, ["a", "b", "c", "not measured", "a"])
    assert {name: change.adjusted for name, change in adjusted.items()} == {
        "a": pytest.approx(0.06), "b": pytest.approx(0.08), "c": pytest.approx(0.08), "flips": None
    }  # fmt: skip
    assert [adjusted[name].direction for name in ("a", "flips")] == ["did not change", "rose"]


def test_a_format_that_one_model_was_not_asked_changes_no_other_comparison():
    """Its questions come first by name, so questions have other numbers in the two models."""
    items, before = addition({"neutral": "1100110010", "user_wrong": "0011010110"})
    _, after = addition({"neutral": "1010110110", "user_wrong": "1111010000"})
    formats = [
        dataclasses.replace(item, task="addition_formats/numbers", item_id=f"0{item.item_id}")
        for item in items
    ]
    more = [dataclasses.replace(one, item_id=f"0{one.item_id}") for one in before]
    asked = [*formats, *(dataclasses.replace(item, task="sums") for item in items)]
    expected = compare(asked, before, after)
    assert expected and all(name.startswith("sums/") for name in expected)
    assert compare(asked, before + more, after) == expected
    assert compare(asked, before, after + more) == expected
