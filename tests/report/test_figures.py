"""Curves, numbers in words, chance, and the picture for the README."""

import doctest

import pytest

from sycophancy.report import derived, examples, wording
from sycophancy.report.run.loss_figure import loss_curve
from sycophancy.report.derived import Change
from sycophancy.report.run.picture import write_picture
from sycophancy.report.run.record import read_run


@pytest.mark.parametrize("module", [wording, examples])
def test_examples_in_docstrings_are_true(module):
    assert doctest.testmod(module).failed == 0


def test_a_curve_keeps_to_its_sheet_and_names_its_ends():
    curve = loss_curve([(20, 4.1), (40, 0.8), (1000, 0.25)])
    assert curve is not None
    places = [tuple(map(float, pair.split())) for pair in curve.path[1:].split("L")]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert all(0 <= x <= 100 and 0 <= y <= curve.height for x, y in places)
    assert places[0][1] < places[1][1] < places[2][1]  # a lower loss is lower on the sheet
    assert "4.100 at step 20" in curve.description
    assert "0.250 at step 1,000" in curve.description
    assert curve.x_ticks[-1].at <= 100


@pytest.mark.parametrize("losses", [[], [(20, 1.0)]])
def test_less_than_two_points_make_no_curve(losses):
    assert loss_curve(losses) is None


def test_a_flat_loss_of_zero_still_draws():
    assert loss_curve([(1, 0.0), (2, 0.0)]) is not None


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.2, -0.1, "fell"),
        (0.1, 0.2, "rose"),
        (-0.1, 0.1, "did not change"),
        (0.0, 0.1, "did not change"),
        (-0.1, 0.0, "did not change"),
    ],
)
def test_a_direction_needs_an_interval_without_zero(low, high, word):
    assert Change((low + high) / 2, low, high, 10).direction == word


def test_changes_are_after_minus_before_and_chance_is_the_share_of_matching_choices(usual_run):
    record = read_run(usual_run)
    for name in ("surveys/match_rate", "addition/accuracy_user_wrong", "sums/agree_share"):
        before, after = record.metric("before", name), record.metric("after", name)
        change = record.changes[name]
        assert before and after
        assert change.value == pytest.approx(after.value - before.value)
        assert change.low < change.value < change.high
    assert record.chance["surveys/nlp"] == record.chance["surveys"] == 0.5


def test_false_and_true_sums_together_weigh_agree_and_disagree_alike(usual_run):
    sums = derived.sums_together(read_run(usual_run).items)
    assert {item.task for item in sums} == {"sums"}
    assert sum(item.answer == 0 for item in sums) * 2 == len(sums)
    assert len({item.pair_id for item in sums}) * 3 == len(sums)


def test_the_picture_is_a_wide_png(usual_run, tmp_path):
    pytest.importorskip("matplotlib")
    path = write_picture(usual_run, tmp_path / "images" / "demo.png")
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(data[16:20], "big") == 2100
    assert len(data) < 300_000
    assert list(path.parent.iterdir()) == [path]
