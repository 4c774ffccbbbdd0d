"""The numbers of a sweep's page as two tables, for whoever wants to draw or test them otherwise."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sycophancy.report.family_pictures import Point

if TYPE_CHECKING:
    from sycophancy.report.family import Section

FIGURES = (
    "experiment", "figure", "row", "series", "model", "recipe", "when", "measure",
    "value", "low", "high", "n", "seeds",
)  # fmt: skip
CLAIMS = (
    "experiment", "source", "claim", "expected", "verdict",
    "value", "low", "high", "n", "seeds", "reason",
)  # fmt: skip


def figures(sections: Iterable[Section]) -> str:
    """Every number that a picture shows, as CSV: fractions, with their 95 % intervals."""
    return _csv(
        FIGURES,
        (
            [
                section.outcome.experiment.key, picture.title,
                *((label, shown.label) if isinstance(shown, Point) else (shown.step, label)),
                shown.side.model, shown.side.recipe, shown.side.when, shown.side.measure,
                shown.metric.value, shown.metric.low, shown.metric.high, shown.metric.n,
                shown.seeds,
            ]
            for section in sections
            for picture in section.pictures
            for label, shown in picture.numbers
            if shown.metric
        ),
    )  # fmt: skip


def claims(sections: Iterable[Section]) -> str:
    """Every claim with what decided it, as CSV: fractions or their differences."""
    rows = []
    for section in sections:
        experiment = section.outcome.experiment
        for decision in section.outcome.decisions:
            found = decision.contrast
            numbers = (found.value, found.low, found.high, found.n, found.seeds) if found else ()
            rows.append([
                experiment.key, experiment.source, decision.claim.name, decision.claim.where,
                decision.verdict, *(numbers or [""] * 5), decision.reason,
            ])  # fmt: skip
    return _csv(CLAIMS, rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(
        [round(cell, 6) if isinstance(cell, float) else cell for cell in row] for row in rows
    )
    return text.getvalue()
