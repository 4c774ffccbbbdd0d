"""The loss figure, changes, the scores of guessing, and the picture for the README."""

import pytest

from sycophancy.evaluation.comparison import Change
from sycophancy.report.run.loss_figure import loss_figure
from sycophancy.report.run.losses import Losses, Validation
from sycophancy.report.run.picture import write_picture
from sycophancy.report.run.record import read_run
from sycophancy.report.run.sums import sums_together


def places(path: str) -> list[tuple[float, ...]]:
    return [tuple(map(float, pair.split())) for pair in path[1:].split("L")]


def test_the_lines_keep_to_their_sheet_and_the_words_name_their_ends():
    figure = loss_figure(Losses([(20, 4.1), (40, 0.8), (1000, 0.25)]))
    assert figure is not None
    line = places(figure.training)
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert all(0 <= x <= 100 and 0 <= y <= figure.height for x, y in line)
    assert line[0][1] < line[1][1] < line[2][1]  # a lower loss is lower on the sheet
    assert "4.100 at step 20" in figure.description
    assert "0.250 at step 1,000" in figure.description
    assert figure.x_ticks[-1].at <= 100
    assert (figure.title, figure.validation, figure.outcome) == ("Training loss", "", "")


def test_both_losses_share_one_scale_and_every_validation_is_listed():
    validation = [
        Validation(0, 5.0, 0.0, {"intervention": (5.5, 0.0)}),
        Validation(500, 0.2, 0.9, {"intervention": (0.1, 0.95)}),
        Validation(1000, 0.4, 0.85, {"intervention": (0.3, 0.9)}),
    ]
    training = [(step, 5.0 - step / 250) for step in range(20, 1001, 20)]
    figure = loss_figure(Losses(training, validation))
    assert figure is not None
    assert places(figure.validation) == list(figure.marks)
    assert all(0 <= x <= 100 and 0 <= y <= figure.height for x, y in figure.marks)
    heights = dict(places(figure.training))
    # The training loss falls by 0.4 between steps 900 and 1,000, and the scale is the same.
    per_nat = (heights[100.0] - heights[90.0]) / 0.4
    assert figure.marks[2][1] - figure.marks[0][1] == pytest.approx(4.6 * per_nat, abs=0.2)
    listed = {row.step: row for row in figure.table}
    assert [listed[one.step].validation for one in validation] == validation
    assert listed[0].training is None
    assert listed[1000].training == training[-1][1]
    assert figure.kinds == ("intervention",)
    assert figure.outcome == (
        "Validation on held-out rows: loss 5.000 and exact match 0% at step 0; "
        "loss 0.400 and exact match 85.0% at step 1,000; the lowest loss is 0.200 at step 500."
    )
    assert figure.outcome in figure.description


@pytest.mark.parametrize(
    "losses", [Losses(), Losses([(20, 1.0)]), Losses([], [Validation(0, 1.0)])]
)
def test_less_than_two_numbers_make_no_figure(losses):
    assert loss_figure(losses) is None


def test_a_flat_loss_of_zero_still_draws():
    assert loss_figure(Losses([(1, 0.0), (2, 0.0)])) is not None


@pytest.mark.parametrize(
    ("low", "high", "p_value", "adjusted", "word"),
    [
        (-0.2, -0.1, 0.001, None, "fell"),
        (-0.2, -0.1, 0.001, 0.04, "fell"),
        (-0.2, -0.1, 0.001, 0.06, "did not change"),
        (0.1, 0.2, 0.001, 0.01, "rose"),
        (0.1, 0.2, 0.05, None, "did not change"),
        (-0.1, 0.1, 0.001, 0.01, "did not change"),
        (0.0, 0.1, 0.001, 0.01, "did not change"),
        (-0.1, 0.0, 0.001, 0.01, "did not change"),
    ],
)
def test_a_direction_needs_a_corrected_test_and_an_interval_without_zero(
    low, high, p_value, adjusted, word
):
    change = Change((low + high) / 2, low, high, 10, p_value, adjusted=adjusted)
    assert change.direction == word


def test_changes_are_after_minus_before_and_chance_is_the_share_of_matching_choices(usual_run):
    record = read_run(usual_run)
    for name in ("surveys/match_rate", "addition/accuracy_user_wrong", "sums/agree_share"):
        before, after = record.metric("before", name), record.metric("after", name)
        change = record.changes[name]
        assert before and after
        assert change.value == pytest.approx(after.value - before.value)
        assert change.low < change.value < change.high
    assert record.guessing.match["surveys/nlp"] == record.guessing.match["surveys"] == 0.5
    assert record.guessing.right == dict.fromkeys(
        ("addition", "addition_true", "intervention"), 0.5
    )


def test_false_and_true_sums_together_weigh_agree_and_disagree_alike(usual_run):
    sums = sums_together(read_run(usual_run).items)
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
