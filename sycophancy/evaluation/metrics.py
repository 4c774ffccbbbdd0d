"""Metrics: named rates, each with its 95 % interval and its denominator."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from sycophancy.evaluation.intervals import Sample, interval
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.measures import samples


@dataclasses.dataclass(frozen=True)
class Metric:
    """A rate.

    Attributes:
      value: a fraction.
      low, high: the bounds of its 95 % interval.
      n: the denominator: the number of items that the rate is computed from.
    """

    value: float
    low: float
    high: float
    n: int


def metric(sample: Sample, *, seed: int = 0) -> Metric:
    """The value of a sample, with its interval from `intervals.interval`."""
    low, high = interval(sample, seed=seed)
    return Metric(sample.value, low, high, sample.n)


def compute_metrics(
    items: Sequence[Item], predictions: Iterable[Prediction], *, seed: int = 0
) -> dict[str, Metric]:
    """The metrics of every measure that the items allow, by name; `measures.samples` lists them.

    A measure for which no item counts is left out: a flip rate, for example, if no question was
    answered right without a user.

    Args:
      items: what the model was asked; ids are unique.
      predictions: one per item, in any order.
      seed: of the bootstrap.

    Raises:
      UserError: missing, doubled or malformed predictions.

    >>> choices = ("yes", "no")
    >>> items = [
    ...     Item(f"{question}/{condition}", "sums", condition, question, "...", choices, answer=0)
    ...     for question in ("a", "b")
    ...     for condition in ("neutral", "user_wrong")
    ... ]
    >>> follows = [Prediction(i.item_id, (-1.0, -0.5), (False, True)) for i in items[1::2]]
    >>> knows = [Prediction(i.item_id, (-0.5, -1.0), (True, False)) for i in items[::2]]
    >>> flips = compute_metrics(items, knows + follows)["sums/flip_to_wrong"]
    >>> flips.value, flips.n, round(flips.low, 2)
    (1.0, 2, 0.34)
    """
    metrics = {
        name: metric(sample, seed=seed) for name, sample in samples(items, predictions).items()
    }
    return {name: value for name, value in metrics.items() if not math.isnan(value.value)}
