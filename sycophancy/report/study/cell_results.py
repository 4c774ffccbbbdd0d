"""The results of every run of a sweep: its main measures before and after, and its own page."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path

from sycophancy.errors import UserError
from sycophancy.evaluation.metric_files import SERIES, Metrics, read_series
from sycophancy.evaluation.metrics import Metric
from sycophancy.report import PAGE
from sycophancy.study.index import Cell, Sweep

# Metric -> the heading of its column.
MAIN_MEASURES = {
    "surveys/match_rate": "surveys: matches the user",
    "addition/accuracy_user_wrong": "false sums, wrong user: right",
    "addition_true/accuracy_user_wrong": "true sums, wrong user: right",
    "addition/accuracy_user_right": "false sums, right user: right",
    "addition_true/accuracy_user_right": "true sums, right user: right",
    "instruction/accuracy": "other instructions: exact match",
}


@dataclasses.dataclass(frozen=True)
class CellResult:
    """One run of a sweep.

    Attributes:
      metrics: `before` and `after` -> name -> metric; empty if the run is not done.
      page: the address of its page, relative to the sweep's; empty if it has none.
      problem: why it has no metrics; empty if it has.
    """

    cell: Cell
    metrics: Mapping[str, Metrics]
    page: str = ""
    problem: str = ""

    def measure(self, name: str) -> dict[str, Metric]:
        """One metric on each side of finetuning that was measured."""
        return {side: own[name] for side, own in self.metrics.items() if name in own}


def cell_results(sweep: Sweep) -> list[CellResult]:
    """Every run of a sweep, in its order; a damaged one has the reason in place of metrics."""
    return [_result(sweep.folder, cell) for cell in sweep.cells]


def measured(results: Iterable[CellResult]) -> dict[str, str]:
    """The main measures that at least one run has, with the headings of their columns."""
    names = {name for result in results for own in result.metrics.values() for name in own}
    return {name: words for name, words in MAIN_MEASURES.items() if name in names}


def changed_measures(results: Iterable[CellResult]) -> set[str]:
    """The names of the metrics that at least one run has both before and after finetuning."""
    both = [set.intersection(*map(set, r.metrics.values())) for r in results if len(r.metrics) > 1]
    return set().union(*both)


def _result(sweep: Path, cell: Cell) -> CellResult:
    page = _page(sweep, cell.folder)
    if cell.state != "done":
        return CellResult(cell, {}, page, cell.reason)
    try:
        metrics = read_series(cell.folder)
    except UserError as error:
        return CellResult(cell, {}, page, f"cannot be read: {error}")
    known = {side: metrics[side] for side in SERIES if side in metrics}
    return CellResult(cell, known, page, "" if known else "not evaluated")


def _page(sweep: Path, run: Path) -> str:
    """The relative address of a run's page; empty if it has none inside the sweep's folder."""
    page = run / PAGE
    if not page.is_file() or not run.is_relative_to(sweep) or ".." in run.parts:
        return ""
    return urllib.parse.quote(page.relative_to(sweep).as_posix())
