"""Predictions into named rates, each with its interval and its denominator."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from sycophancy.evaluation.intervals import Sample, interval
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.measures import samples


@dataclasses.dataclass(frozen=True)
class Metric:
    """A fraction, its 95 % interval, and how many items it is a fraction of."""

    value: float
    low: float
    high: float
    n: int


def metric(sample: Sample, *, seed: int = 0) -> Metric:
    """The value of a sample with its interval (`intervals.interval`)."""
    low, high = interval(sample, seed=seed)
    return Metric(sample.value, low, high, sample.n)


def compute_metrics(
    items: Sequence[Item], predictions: Iterable[Prediction], *, seed: int = 0
) -> dict[str, Metric]:
    """Every measure of `measures.samples`, by name.

    A measure nothing counts for (no flip was possible, in one of the averaged sets) is left out.

    Args:
      items: what was asked; ids are unique.
      predictions: one an item, in any order.
      seed: of the bootstrap.

    Raises:
      UserError: missing, doubled or malformed predictions.
    """
    metrics = {
        name: metric(sample, seed=seed) for name, sample in samples(items, predictions).items()
    }
    return {name: found for name, found in metrics.items() if found.value == found.value}
