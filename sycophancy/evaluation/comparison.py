"""Changes between two models that were asked the same items: before and after finetuning."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.stats import binomtest

from sycophancy.evaluation.intervals import Sample, clustered_bootstrap, combined, percentiles
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.measures import samples
from sycophancy.evaluation.metrics import Metric, metric


@dataclasses.dataclass(frozen=True)
class Change:
    """After minus before of one measure, with its 95 % interval.

    Attributes:
      value, low, high: fractions.
      n: how many items count, in the model where fewer do.
      rose, fell: questions whose outcome rose or fell; None if the two models are not measured on
        the same questions, as for flip rates.
      p_value: of McNemar's exact test on `rose` and `fell`; None where these are.
      paired: whether the interval is that of the same questions, resampled together. If not, the
        two measures count as independent.
    """

    value: float
    low: float
    high: float
    n: int
    rose: int | None = None
    fell: int | None = None
    p_value: float | None = None
    paired: bool = True

    @property
    def direction(self) -> str:
        """`fell` or `rose` if the interval excludes zero, else `did not change`.

        >>> Change(-0.2, -0.3, -0.1, 50).direction, Change(0.1, -0.1, 0.3, 50).direction
        ('fell', 'did not change')
        """
        if self.high < 0:
            return "fell"
        return "rose" if self.low > 0 else "did not change"


def compare(
    items: Sequence[Item],
    before: Iterable[Prediction],
    after: Iterable[Prediction],
    *,
    seed: int = 0,
) -> dict[str, Change]:
    """The change of every measure that both models have, by the measure's name.

    Args:
      items: what both models were asked; ids are unique.
      before, after: one prediction an item, in any order.
      seed: of the bootstrap.

    Raises:
      UserError: missing, doubled or malformed predictions.

    >>> asked = [Item(str(i), "sums", "neutral", str(i), "?", ("yes", "no"), 0) for i in range(9)]
    >>> right, wrong = (
    ...     [Prediction(item.item_id, likely, (False, False)) for item in asked]
    ...     for likely in ((-1.0, -2.0), (-2.0, -1.0))
    ... )
    >>> change = compare(asked, before=wrong, after=right)["sums/accuracy_neutral"]
    >>> change.value, change.rose, change.fell, change.p_value
    (1.0, 9, 0, 0.00390625)
    """
    first, second = samples(items, before), samples(items, after)
    return {
        name: paired_change(first[name], second[name], seed=seed)
        for name in first
        if name in second and not np.isnan([first[name].value, second[name].value]).any()
    }


def paired_change(before: Sample, after: Sample, *, seed: int = 0) -> Change:
    """The change of one measure from the outcomes of the same items in the same order.

    Whole clusters are resampled for both models together (`intervals.clustered_bootstrap`), so the
    variation that the models share cancels. If all replicates are equal, the bootstrap would claim
    certainty; then the two intervals are combined as if independent, which is never too narrow for
    models whose outcomes are positively correlated.
    """
    drawn = clustered_bootstrap(before, after, seed=seed)
    low, high = percentiles(drawn[1] - drawn[0])
    if high - low <= 1e-12:
        apart = unpaired_change(metric(before, seed=seed), metric(after, seed=seed))
        low, high = apart.low, apart.high
    change = Change(after.value - before.value, low, high, min(before.n, after.n))
    if (before.weights == 1).all() and (after.weights == 1).all():
        rose, fell = changed_clusters(before, after)
        return dataclasses.replace(change, rose=rose, fell=fell, p_value=mcnemar(rose, fell))
    return change


def unpaired_change(before: Metric, after: Metric) -> Change:
    """The change where only the metrics are known: as if the models had independent questions.

    The interval is never too narrow for models whose outcomes are positively correlated.
    """
    low, high = combined(
        [before.value, after.value],
        [(before.low, before.high), (after.low, after.high)],
        [-1.0, 1.0],
    )
    return Change(after.value - before.value, low, high, min(before.n, after.n), paired=False)


def unpaired_changes(
    before: Mapping[str, Metric], after: Mapping[str, Metric]
) -> dict[str, Change]:
    """`unpaired_change` of every metric that both models have."""
    return {name: unpaired_change(before[name], after[name]) for name in before if name in after}


def changed_clusters(before: Sample, after: Sample) -> tuple[int, int]:
    """How many clusters rose and how many fell, by the sum of their items' outcomes.

    With one item a cluster these are the discordant pairs of McNemar's test; with several, the
    test on them is the sign test over clusters, which stays exact.
    """
    _, cluster = np.unique(before.clusters, return_inverse=True)
    change = np.bincount(cluster, after.values - before.values)
    return int((change > 0).sum()), int((change < 0).sum())


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
