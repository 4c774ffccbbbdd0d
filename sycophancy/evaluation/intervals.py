"""95 % intervals: Wilson's for proportions of independent trials, else a clustered bootstrap."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import ndtri

CONFIDENCE = 0.95
REPLICATES = 2_000
FEW_KINDS = 50  # above this, drawing clusters one by one is faster than drawing kinds
CHUNK = 50_000  # clusters drawn at once: few enough for a processor's cache

_Z = float(ndtri((1 + CONFIDENCE) / 2))


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion; (0, 1) if there were no trials.

    Args:
      successes: number of successful trials.
      n: number of trials.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    Journal of the American Statistical Association 22 (1927).

    >>> low, high = wilson(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.596, 0.982)
    """
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    scale = 1 + _Z**2 / n
    centre = (rate + _Z**2 / (2 * n)) / scale
    half = _Z / scale * (rate * (1 - rate) / n + _Z**2 / (4 * n**2)) ** 0.5
    # At rates of exactly 0 and 1 a bound equals the rate; rounding must not exclude the rate.
    return min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half))


@dataclasses.dataclass(frozen=True)
class Sample:
    """The outcomes that one measure is computed from. Its value is the mean of the strata's means.

    Attributes:
      values: the outcome of each item, or of each question: 0 or 1 for shares, otherwise any finite
        number.
      weights: 1 if the item counts, 0 if not: a flip rate counts only some items.
      clusters: the underlying question of each item; questions are independent, items are not.
      strata: the set that each item belongs to. The means of the sets are averaged with equal
        weight; most measures have one set.
      bounds: the smallest and the largest value that are possible; infinite if there is none.
    """

    values: Float[np.ndarray, " items"]
    weights: Float[np.ndarray, " items"]
    clusters: Shaped[np.ndarray, " items"]
    strata: Shaped[np.ndarray, " items"]
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def n(self) -> int:
        """The number of items that count."""
        return int(self.weights.sum())

    @property
    def value(self) -> float:
        """The mean of the strata's means; nan if in some stratum no item counts."""
        rates = []
        for stratum in np.unique(self.strata):
            inside = self.strata == stratum
            counted = self.weights[inside].sum()
            positive = (self.weights * self.values)[inside].sum()
            rates.append(positive / counted if counted else np.nan)
        return float(np.mean(rates)) if rates else float("nan")

    @property
    def is_one_proportion(self) -> bool:
        """Whether the value is a rate of independent trials: one stratum, one item per cluster."""
        counted = self.weights > 0
        return (
            bool(np.isin(self.values[counted], (0, 1)).all())
            and self.bounds == (0.0, 1.0)
            and len(np.unique(self.strata)) == 1
            and len(np.unique(self.clusters[counted])) == counted.sum()
        )


def clustered_bootstrap(
    *samples: Sample, replicates: int = REPLICATES, seed: int = 0
) -> Float[np.ndarray, "samples replicates"]:
    """Replicates of measures: whole clusters are resampled with replacement within each stratum.

    Samples of the same items (before and after) are resampled together, so that their replicates
    may be subtracted. A replicate is nan if no resampled item of some stratum counts.

    Clusters with equal sums are interchangeable, and the number of times that each kind of cluster
    is drawn is multinomial. Drawing these numbers has the same distribution as drawing clusters one
    by one, and its cost does not depend on the number of clusters. Where there are more than
    `FEW_KINDS` kinds, as for log-odds, clusters are drawn one by one.

    Args:
      samples: one per measure; all have the same clusters and strata.
      replicates: how many to draw.
      seed: of the random draws.
    """
    rng = np.random.default_rng(seed)
    strata = np.unique(samples[0].strata)
    total = np.zeros((len(samples), replicates))
    for stratum in strata:
        inside = samples[0].strata == stratum
        names, cluster = np.unique(samples[0].clusters[inside], return_inverse=True)
        weights = [sample.weights[inside] for sample in samples]
        outcomes = [sample.values[inside] * sample.weights[inside] for sample in samples]
        sums = [np.bincount(cluster, column, len(names)) for column in (*outcomes, *weights)]
        by_cluster = np.stack(sums, axis=1)
        kinds, counts = np.unique(by_cluster, axis=0, return_counts=True)
        if len(kinds) > FEW_KINDS:
            drawn_sums = _drawn_one_by_one(by_cluster, replicates, rng)
        else:
            drawn = rng.multinomial(len(names), counts / len(names), size=replicates)
            drawn_sums = drawn @ kinds
        positive, counted = np.split(drawn_sums.T, 2)
        with np.errstate(invalid="ignore"):
            total += positive / counted
    return total / len(strata)


def _drawn_one_by_one(
    by_cluster: Float[np.ndarray, "clusters columns"], replicates: int, rng: np.random.Generator
) -> Float[np.ndarray, "replicates columns"]:
    """The columns' sums over as many clusters, drawn with replacement, in each replicate."""
    clusters = len(by_cluster)
    rows = max(1, CHUNK // clusters)
    parts = []
    for start in range(0, replicates, rows):
        count = min(rows, replicates - start)
        drawn = rng.integers(clusters, size=(count, clusters))
        drawn += np.arange(count)[:, None] * clusters
        times = np.bincount(drawn.ravel(), minlength=count * clusters).reshape(count, clusters)
        parts.append(times.astype(float) @ by_cluster)
    return np.concatenate(parts)


def percentiles(replicates: Float[np.ndarray, " replicates"]) -> tuple[float, float]:
    """The bounds of the central 95 % of the replicates, without nans; (nan, nan) if all are nan."""
    numbers = replicates[~np.isnan(replicates)]
    if not len(numbers):
        return float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(numbers, [tail, 1 - tail])
    return float(low), float(high)


def interval(sample: Sample, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a sample's value.

    One proportion of independent trials has Wilson's interval; any other value has the percentiles
    of the clustered bootstrap. If all clusters have the same outcome, the bootstrap does not vary
    and would claim certainty; then the interval is that of `_alike` with one trial per cluster, and
    `combined` over several strata.
    """
    if sample.is_one_proportion:
        return wilson(float((sample.weights * sample.values).sum()), sample.n)
    low, high = percentiles(clustered_bootstrap(sample, seed=seed)[0])
    if high - low > 1e-12 or np.isnan(low):
        return low, high
    rates, bounds = [], []
    for stratum in np.unique(sample.strata):
        counted = (sample.strata == stratum) & (sample.weights > 0)
        clusters = len(np.unique(sample.clusters[counted]))
        rate = float(np.mean(sample.values[counted]))
        rates.append(rate)
        bounds.append(_alike(rate, clusters, sample.bounds))
    return combined(rates, bounds, [1 / len(rates)] * len(rates))


def _alike(value: float, n: int, bounds: tuple[float, float]) -> tuple[float, float]:
    """The interval of the mean of n independent outcomes that are all alike.

    Shares have Wilson's interval. Otherwise Wilson's upper bound for an outcome that was not seen
    in n trials is the share of trials that may differ, and they differ by no more than the bounds
    allow; for a share of 0 or 1 the two agree. Without bounds the value is all that is known.
    """
    if bounds == (0.0, 1.0):
        return wilson(value * n, n)
    unseen = wilson(0, n)[1]
    low, high = bounds
    return (
        value - unseen * (value - low) if np.isfinite(low) else value,
        value + unseen * (high - value) if np.isfinite(high) else value,
    )


def combined(
    values: list[float], bounds: list[tuple[float, float]], factors: list[float]
) -> tuple[float, float]:
    """The interval of a linear combination of independent values with known intervals.

    The squared distances from values to bounds are added, as variances are. For the difference of
    two proportions with Wilson's bounds this is Newcombe's interval.

    Args:
      values: the values.
      bounds: the lower and upper bound of each value.
      factors: the factor of each value in the sum.

    Source: R. G. Newcombe, Interval estimation for the difference between independent proportions,
    Statistics in Medicine 17 (1998), method 10; G. Zou and A. Donner, Construction of confidence
    limits about effect measures, Statistics in Medicine 27 (2008).
    """
    centre = below = above = 0.0
    for value, (low, high), factor in zip(values, bounds, factors, strict=True):
        centre += factor * value
        down, up = value - low, high - value
        if factor < 0:
            down, up = up, down
        below += (factor * down) ** 2
        above += (factor * up) ** 2
    return centre - below**0.5, centre + above**0.5
