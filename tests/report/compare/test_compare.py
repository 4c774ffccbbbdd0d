"""`sycophancy compare`: its numbers, what is paired, and what is refused."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from sycophancy.evaluation.comparison import compare, unpaired_change
from sycophancy.evaluation.items import read_items, read_predictions, write_items
from sycophancy.evaluation.metric_files import read_series
from sycophancy.report.compare.comparison import compare_runs
from sycophancy.report.evaluations import read_evaluations


def items_of(run):
    paths = sorted((run / "prepare" / "evaluation").rglob("*.parquet"))
    return [item for path in paths for item in read_items(path)]


@pytest.fixture(scope="module")
def kept_runs(fabricated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return [fabricated(folder / name, number=30) for name in ("one", "two")]


@pytest.fixture
def two_runs(kept_runs, tmp_path):
    """Two runs with the same items, which a test may change."""
    return [Path(shutil.copytree(run, tmp_path / run.name)) for run in kept_runs]


def rows_of(comparison):
    return {row.name: row for group in comparison.tasks for row in group.rows}


def test_differences_over_the_same_items_are_those_of_the_paired_comparison(two_runs):
    comparison = compare_runs([read_evaluations(str(run)) for run in two_runs])
    assert [column.label for column in comparison.columns] == [
        "one before", "one after", "two before", "two after",
    ]  # fmt: skip
    first, last = (
        read_predictions(run / f"evaluate_{side}" / "predictions.parquet")
        for run, side in zip(two_runs, ("before", "after"), strict=True)
    )
    expected = compare(items_of(two_runs[0]), first, last)
    assert expected
    for name, row in rows_of(comparison).items():
        if name in expected:
            assert row.cells[3].difference == expected[name], name
    assert not comparison.notes


def test_other_items_are_named_and_unpaired_with_what_is_pooled_over_them(two_runs):
    _, two = two_runs
    path = two / "prepare" / "evaluation" / "surveys_nlp.parquet"
    changed = [dataclasses.replace(item, inputs=f"{item.inputs} ") for item in read_items(path)]
    write_items(path, changed)
    comparison = compare_runs([read_evaluations(str(run)) for run in two_runs], ["after"])
    rows = rows_of(comparison)
    (note,) = comparison.notes
    assert "the NLP survey" in note
    assert "politics" not in note
    before, after = (read_series(run)["after"] for run in two_runs)
    for name, row in rows.items():
        if row.cells[1] is None:
            continue
        is_unlike = name.startswith("surveys/nlp/") or name.rpartition("/")[0] == "surveys"
        assert row.cells[1].difference.paired != is_unlike, name
        if is_unlike:
            assert row.cells[1].difference == unpaired_change(before[name], after[name])


def test_further_evaluations_have_columns_and_missing_measures_have_gaps(two_runs):
    run = two_runs[0]
    further = run / "evaluate_baseline_truthful"
    further.mkdir()
    metrics = json.loads((run / "evaluate_before" / "metrics.json").read_text())
    metrics.pop("addition/accuracy_neutral")
    (further / "metrics.json").write_text(json.dumps(metrics))
    comparison = compare_runs([read_evaluations(str(run))])
    assert comparison.columns[2].label == "one baseline_truthful"
    rows = rows_of(comparison)
    assert rows["addition/accuracy_neutral"].cells[2] is None
    assert not rows["addition/accuracy_user_wrong"].cells[2].difference.paired
    assert "has no predictions" in comparison.notes[0]


def test_page_and_csv_hold_every_number(two_runs, sycophancy, tmp_path):
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    done = sycophancy("compare", *two_runs, "--out", page, "--csv", table)
    assert done.code == 0, done.err
    html = page.read_text(encoding="utf-8")
    written = list(csv.DictReader(table.read_text().splitlines()))
    shown = re.findall(r'data-metric="([^"]+)" data-value="([^"]+)"', html)
    for run in two_runs:
        for side, metrics in read_series(run).items():
            for name, metric in metrics.items():
                assert (name, str(metric.value)) in shown
                (line,) = (
                    line
                    for line in written
                    if (line["run"], line["evaluation"], line["measure"]) == (run.name, side, name)
                )
                numbers = [float(line[field]) for field in ("value", "low", "high", "n")]
                assert numbers == [metric.value, metric.low, metric.high, metric.n]
    assert not re.search(r"(?:src|href)=|url\(|@import", html)
    assert "false sums" in done.out
    assert done.out.splitlines()[-2:] == [str(page), str(table)]


def test_bad_input_is_one_line(two_runs, sycophancy, tmp_path):
    (tmp_path / "empty").mkdir()
    for words, part in (
        (["no_such_run"], "there is no run no_such_run"),
        ([tmp_path / "empty"], "has no config.gin"),
        ([two_runs[0], two_runs[0]], "given twice"),
        ([two_runs[0], "--evaluations", "afetr"], "did you mean 'after'?"),
    ):
        done = sycophancy("compare", *words)
        assert (done.code, done.err.count("\n"), done.out) == (2, 1, "")
        assert part in done.err


def test_a_damaged_file_is_one_line(two_runs, sycophancy):
    (two_runs[0] / "evaluate_after" / "predictions.parquet").write_bytes(b"PAR1 no more")
    done = sycophancy("compare", *two_runs)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "predictions.parquet" in done.err
