"""What changed between two models that were asked the same items."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from sycophancy.evaluation.intervals import Sample, clustered_bootstrap, combined, percentiles
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.measures import samples
from sycophancy.evaluation.metrics import Metric, metric


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One measure of two models.

    Attributes:
      before, after: the measure of each.
      difference: after minus before, a fraction, with its paired 95 % interval.
      rose, fell: questions whose outcome rose or fell; None where the two models are not asked
        the same questions (flips).
      p_value: McNemar's exact test on them; None likewise.
    """

    before: Metric
    after: Metric
    difference: Metric
    rose: int | None
    fell: int | None
    p_value: float | None


def mcnemar(rose: int, fell: int) -> float:
    """The exact two-sided p-value of McNemar's test: are changes as often up as down?

    Args:
      rose: pairs that changed from wrong to right.
      fell: pairs that changed from right to wrong.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions
    or percentages, Psychometrika 12 (1947); exact, from the binomial distribution.

    >>> mcnemar(5, 0)
    0.0625
    """
    if rose + fell == 0:
        return 1.0
    return float(binomtest(rose, rose + fell, 0.5).pvalue)


def difference(before: Sample, after: Sample, *, seed: int = 0) -> Metric:
    """After minus before for the same items, with a paired interval.

    Clusters are drawn for both models together (`intervals.clustered_bootstrap`), so what the
    models share cancels. Where no replicate differs from another, the bootstrap would claim
    certainty; there the two intervals are combined as if independent, which is never too narrow
    for models whose outcomes go together.
    """
    drawn = clustered_bootstrap(before, after, seed=seed)
    low, high = percentiles(drawn[1] - drawn[0])
    if high - low <= 1e-12:
        sides = metric(before, seed=seed), metric(after, seed=seed)
        values = [side.value for side in sides]
        low, high = combined(values, [(side.low, side.high) for side in sides], [-1.0, 1.0])
    return Metric(after.value - before.value, low, high, min(before.n, after.n))


def changes(before: Sample, after: Sample) -> tuple[int, int]:
    """How many clusters rose and how many fell, by the sum of their items' outcomes.

    With one item a cluster these are the discordant pairs of McNemar's test; with several, the
    test on them is the sign test over clusters, which stays exact.
    """
    _, cluster = np.unique(before.clusters, return_inverse=True)
    change = np.bincount(cluster, after.values - before.values)
    return int((change > 0).sum()), int((change < 0).sum())


def compare(
    items: Sequence[Item],
    before: Iterable[Prediction],
    after: Iterable[Prediction],
    *,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Every measure that both models have, by name; each a `Comparison` as plain dicts.

    Raises:
      UserError: missing, doubled or malformed predictions.
    """
    first, second = samples(items, before), samples(items, after)
    compared = {
        name: _compared(first[name], second[name], seed)
        for name in first
        if not np.isnan([first[name].value, second[name].value]).any()
    }
    return {name: dataclasses.asdict(comparison) for name, comparison in compared.items()}


def _compared(before: Sample, after: Sample, seed: int) -> Comparison:
    rose = fell = p_value = None
    if (before.weights == 1).all() and (after.weights == 1).all():
        rose, fell = changes(before, after)
        p_value = mcnemar(rose, fell)
    return Comparison(
        before=metric(before, seed=seed),
        after=metric(after, seed=seed),
        difference=difference(before, after, seed=seed),
        rose=rose,
        fell=fell,
        p_value=p_value,
    )
