"""The numbers of a sweep's page as CSV tables, for other figures and other tests."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from sycophancy.report.study.cell_results import CellResult
from sycophancy.report.study.pictures import Dots, Point
from sycophancy.report.study.sections import Section

FIGURES = (
    "experiment", "figure", "row", "series", "model", "recipe", "when", "measure",
    "value", "low", "high", "n", "seeds",
)  # fmt: skip
CLAIMS = (
    "experiment", "source", "claim", "expected", "verdict",
    "value", "low", "high", "n", "seeds", "reason", "p_value", "p_adjusted",
)  # fmt: skip
CELLS = ("model", "recipe", "seed", "when", "measure", "value", "low", "high", "n")


def figures(overview: Sequence[Dots], sections: Iterable[Section]) -> str:
    """Every number of the page's figures: fractions, with their 95 % intervals."""
    pictures = [("overview", overview), *((s.experiment.key, s.pictures) for s in sections)]
    return _csv(
        FIGURES,
        (
            [
                key, picture.title,
                *((label, point.label) if isinstance(point, Point) else (point.step, label)),
                point.side.model, point.side.recipe, point.side.when, point.side.measure,
                point.metric.value, point.metric.low, point.metric.high, point.metric.n,
                point.seeds,
            ]
            for key, drawn in pictures
            for picture in drawn
            for label, point in picture.numbers
            if point.metric
        ),
    )  # fmt: skip


def claims(sections: Iterable[Section]) -> str:
    """Every claim with the contrast that decided it: fractions or their differences."""
    rows = []
    for section in sections:
        experiment = section.experiment
        for decision in section.outcome.decisions:
            c = decision.contrast
            test = decision.closest
            p_values = (f"{test.p_value:.2g}", f"{test.adjusted:.2g}") if test else ("", "")
            numbers = (c.value, c.low, c.high, c.n, c.seeds) if c else [""] * 5
            rows.append([
                experiment.key, experiment.source, decision.claim.name, decision.claim.where,
                decision.verdict, *numbers, decision.reason, *p_values,
            ])  # fmt: skip
    return _csv(CLAIMS, rows)


def cells(results: Iterable[CellResult]) -> str:
    """Every metric of every run, before and after finetuning: fractions with 95 % intervals."""
    return _csv(
        CELLS,
        (
            [
                result.cell.model, result.cell.recipe, result.cell.seed, side, name,
                metric.value, metric.low, metric.high, metric.n,
            ]
            for result in results
            for side, metrics in result.metrics.items()
            for name, metric in metrics.items()
        ),
    )  # fmt: skip


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(
        [round(value, 6) if isinstance(value, float) else value for value in row] for row in rows
    )
    return text.getvalue()
