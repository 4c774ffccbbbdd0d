"""A comparison as one CSV table, for other figures and other tests."""

from __future__ import annotations

import csv
import io

from sycophancy.report.compare.comparison import Comparison

COLUMNS = (
    "measure", "run", "evaluation", "model", "recipe", "seed", "value", "low", "high", "n",
    "difference", "difference_low", "difference_high", "paired",
)  # fmt: skip


def csv_text(comparison: Comparison) -> str:
    """A line for each measure of each column; differences are from the first column."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for group in comparison.tasks:
        for row in group.rows:
            for column, cell in zip(comparison.columns, row.cells, strict=True):
                if cell is None:
                    continue
                m, d = cell.metric, cell.difference
                settings = map(column.setting, ("MODEL_NAME", "RECIPE", "SEED"))
                difference = (d.value, d.low, d.high, d.paired) if d else ("",) * 4
                table.writerow([
                    row.name, column.run.name, column.series, *settings,
                    m.value, m.low, m.high, m.n, *difference,
                ])  # fmt: skip
    return text.getvalue()
