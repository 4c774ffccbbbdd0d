"""The journal of a finetuning: training and validation lines, old, cut short and damaged ones."""

import json

import pytest

from sycophancy.errors import UserError
from sycophancy.report.run.losses import Losses, Validation, read_losses


def journal(tmp_path, *lines):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_both_kinds_of_lines_are_read_in_order_of_steps(tmp_path):
    path = journal(
        tmp_path,
        {"step": 0, "validation_loss": 5.0, "validation_exact_match": 0.0,
         "intervention/validation_loss": 5.5, "intervention/validation_exact_match": 0.0,
         "intervention/validation_rows": 12},
        {"step": 20, "loss": 2.0, "accuracy": 0.5},
        {"step": 10, "loss": 3.0},
        {"step": 20, "validation_loss": 2.5},
    )  # fmt: skip
    losses = read_losses(path)
    assert losses.training == [(10, 3.0), (20, 2.0)]
    assert losses.validation == [
        Validation(0, 5.0, 0.0, {"intervention": (5.5, 0.0)}),
        Validation(20, 2.5),
    ]


def test_the_later_of_two_lines_of_a_step_counts(tmp_path):
    path = journal(tmp_path, {"step": 1, "loss": 2.0}, {"step": 1, "loss": 1.0})
    assert read_losses(path).training == [(1, 1.0)]


def test_losses_that_are_not_finite_are_skipped(tmp_path):
    path = journal(
        tmp_path, {"step": 1, "loss": float("nan")}, {"step": 1, "validation_loss": 1e999}
    )
    assert read_losses(path) == Losses([], [])


def test_lines_about_something_else_are_skipped(tmp_path):
    assert read_losses(journal(tmp_path, {"note": "x"}, {"step": 3})) == Losses([], [])


def test_without_a_journal_there_are_no_losses(tmp_path):
    assert read_losses(tmp_path / "metrics.jsonl") == Losses()


@pytest.mark.parametrize(
    "line", ['{"step": "x", "loss": 1}', '{"step": 2, "validation_loss": []}', "[1]", "{"]
)
def test_a_damaged_line_is_named(tmp_path, line):
    path = journal(tmp_path, {"step": 1, "loss": 2.0})
    path.write_text(path.read_text() + line + "\n" + json.dumps({"step": 3, "loss": 1.0}))
    with pytest.raises(UserError, match=r"metrics\.jsonl:2"):
        read_losses(path)
