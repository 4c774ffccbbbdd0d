"""Prompting instead of finetuning: the key numbers of the baselines beside before and after."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sycophancy.evaluation.baselines import SERIES_WORDS
from sycophancy.evaluation.metrics import Metric
from sycophancy.report.run.key_numbers import KEY_NUMBERS
from sycophancy.report.run.record import RunRecord


@dataclasses.dataclass(frozen=True)
class Prompting:
    """A table: one column for each way to ask, one row for each key number.

    Attributes:
      columns: words for the columns.
      rows: a key number's name, its words, and its metric in each column; None: not measured.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[Metric | None]]]


def prompting(record: RunRecord) -> Prompting | None:
    """The table: the model as it is, with each baseline's prompts, and finetuned; None without."""
    asked = {name: record.further[name] for name in SERIES_WORDS if name in record.further}
    if not asked:
        return None
    every = {"before": {}, **asked, "after": {}, **record.metrics}  # in the order of the columns
    series = {name: metrics for name, metrics in every.items() if metrics}
    rows = [
        (name, words, [metrics.get(name) for metrics in series.values()])
        for name, words, _ in KEY_NUMBERS
        if any(name in metrics for metrics in asked.values())
    ]
    return Prompting([record.label(name) for name in series], rows) if rows else None
