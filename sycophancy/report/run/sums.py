"""False and true sums as one task: numbers of a report that `metrics.json` lacks.

On false sums the right answer is always Disagree, on true ones always Agree; together, a model that
always gives one answer is right on half of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from sycophancy.evaluation.comparison import Change, compare
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.metrics import Metric, compute_metrics

SUMS = ("addition", "addition_true")


def sums_together(items: Sequence[Item]) -> list[Item]:
    """The items of false and true sums, with the task `sums`."""
    return [
        dataclasses.replace(item, task="sums", pair_id=f"{item.task}/{item.pair_id}")
        for item in items
        if item.task in SUMS
    ]


def sums_metrics(
    items: Sequence[Item], predictions: Mapping[str, Sequence[Prediction]]
) -> dict[str, dict[str, Metric]]:
    """The metrics `sums/...` of each series.

    Args:
      items: what was asked.
      predictions: series -> one prediction an item.
    """
    sums = sums_together(items)
    return {series: compute_metrics(sums, answers) for series, answers in predictions.items()}


def all_changes(
    items: Sequence[Item], before: Sequence[Prediction], after: Sequence[Prediction]
) -> dict[str, Change]:
    """The paired change of every measure, those of `sums/...` among them."""
    return compare(items, before, after) | compare(sums_together(items), before, after)
