"""Changes between two models that were asked the same items: before and after finetuning."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.special import ndtr
from scipy.stats import binomtest

from sycophancy.evaluation.intervals import (
    NORMAL_QUANTILE,
    Sample,
    clustered_bootstrap,
    combined,
    has_width,
    percentiles,
)
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.measures import measured_items, samples
from sycophancy.evaluation.metrics import Metric, metric
from sycophancy.evaluation.multiple_comparisons import ALPHA, holm
from sycophancy.evaluation.permutation import DRAWS, permutation_test

MCNEMAR = "McNemar's exact test"
PERMUTATION = "permutation test"
FROM_INTERVALS = "test of independent values"


@dataclasses.dataclass(frozen=True)
class Change:
    """After minus before of one measure, with its 95 % interval and its p-value.

    Attributes:
      value, low, high: in the measure's unit; the interval is not adjusted for other measures.
      n: how many items count, in the model where fewer do.
      p_value: two-sided, of the hypothesis that nothing changed.
      test: the test that the p-value is of.
      adjusted: the p-value adjusted for all tests of its family (`adjust`); None if it has none.
      rose, fell: questions whose outcome rose or fell; None if the two models are not measured on
        the same questions, as for flip rates.
      paired: whether the interval is that of the same questions, resampled together. If not, the
        two measures count as independent.
    """

    value: float
    low: float
    high: float
    n: int
    p_value: float
    test: str = PERMUTATION
    adjusted: float | None = None
    rose: int | None = None
    fell: int | None = None
    paired: bool = True

    @property
    def direction(self) -> str:
        """`fell` or `rose` if the test shows it, else `did not change`.

        The adjusted p-value must be below 0.05; without one, the p-value. The interval must exclude
        zero as well, so that word and interval cannot disagree.

        >>> fell = Change(-0.2, -0.3, -0.1, 50, p_value=0.001)
        >>> fell.direction, dataclasses.replace(fell, adjusted=0.08).direction
        ('fell', 'did not change')
        """
        p_value = self.p_value if self.adjusted is None else self.adjusted
        if p_value >= ALPHA or self.low <= 0 <= self.high:
            return "did not change"
        return "rose" if self.value > 0 else "fell"


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
    before, after = list(before), list(after)
    for predictions in (before, after):  # samples of the same items number questions alike
        items = measured_items(items, predictions)
    first, second = samples(items, before), samples(items, after)
    return {
        name: paired_change(first[name], second[name], seed=seed)
        for name in first
        if name in second and not np.isnan([first[name].value, second[name].value]).any()
    }


def adjust(changes: Mapping[str, Change], family: Iterable[str]) -> dict[str, Change]:
    """All changes; those of the family with p-values adjusted by Holm's method.

    Args:
      changes: by name.
      family: the names whose tests are read together; names without a change are ignored.
    """
    names = [name for name in dict.fromkeys(family) if name in changes]
    adjusted = holm([changes[name].p_value for name in names])
    return {
        **changes,
        **{
            name: dataclasses.replace(changes[name], adjusted=p_value)
            for name, p_value in zip(names, adjusted, strict=True)
        },
    }


def paired_change(before: Sample, after: Sample, *, seed: int = 0) -> Change:
    """The change of one measure from the outcomes of the same items in the same order.

    Interval: whole clusters are resampled for both models together (`clustered_bootstrap`), so the
    variation that the models share cancels. If all replicates are equal, the bootstrap would claim
    certainty; then the two intervals are combined as if independent, which is never too narrow for
    models whose outcomes are positively correlated.

    p-value: McNemar's exact test for one 0/1 outcome a question, else `permutation_test`.
    """
    drawn = clustered_bootstrap(before, after, seed=seed)
    low, high = percentiles(drawn[1] - drawn[0])
    if not has_width(low, high):
        apart = unpaired_change(metric(before, seed=seed), metric(after, seed=seed))
        low, high = apart.low, apart.high
    value, n = after.value - before.value, min(before.n, after.n)
    # Measures in nats take longest, and no verdict follows from them.
    draws = DRAWS if before.bounds == (0.0, 1.0) else DRAWS // 10
    if not ((before.weights == 1).all() and (after.weights == 1).all()):
        return Change(value, low, high, n, permutation_test(before, after, draws=draws, seed=seed))
    rose, fell = changed_clusters(before, after)
    if before.is_one_proportion and after.is_one_proportion:
        p_value, test = mcnemar(rose, fell), MCNEMAR
    else:
        p_value, test = permutation_test(before, after, draws=draws, seed=seed), PERMUTATION
    return Change(value, low, high, n, p_value, test, rose=rose, fell=fell)


def unpaired_change(before: Metric, after: Metric) -> Change:
    """The change where only the metrics are known: as if the models had independent questions.

    The interval is never too narrow for models whose outcomes are positively correlated. The
    p-value reads it as that of a normal distribution whose standard error is the distance from the
    value to the bound nearer to zero, divided by 1.96.
    """
    low, high = combined(
        [before.value, after.value],
        [(before.low, before.high), (after.low, after.high)],
        [-1.0, 1.0],
    )
    value = after.value - before.value
    distance = value - low if value > 0 else high - value
    # Bounds equal to their values know nothing of the variation, so nothing can be tested.
    z = abs(value) / distance * NORMAL_QUANTILE if distance > 0 else 0.0
    return Change(
        value, low, high, min(before.n, after.n), 2 * float(ndtr(-z)), FROM_INTERVALS, paired=False
    )


def unpaired_changes(
    before: Mapping[str, Metric], after: Mapping[str, Metric]
) -> dict[str, Change]:
    """`unpaired_change` of every metric that both models have."""
    return {name: unpaired_change(before[name], after[name]) for name in before if name in after}


def changed_clusters(before: Sample, after: Sample) -> tuple[int, int]:
    """How many clusters rose and how many fell, by the sum of their items' outcomes.

    With one 0/1 outcome a cluster these are the discordant pairs of McNemar's test.
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
