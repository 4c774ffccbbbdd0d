"""95 % intervals: Wilson's for one proportion of independent trials, else a clustered bootstrap."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from scipy.special import ndtri

CONFIDENCE = 0.95
REPLICATES = 2_000
SAME = 1e-12  # replicates that differ by less, relative to their size, do not vary

_CHUNK = 50_000  # draws of clusters at once: few enough for a processor's cache
_KEPT = 50_000_000  # more draws than this are not kept for the next measure of the same questions

NORMAL_QUANTILE = float(ndtri((1 + CONFIDENCE) / 2))  # 1.96


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
    scale = 1 + NORMAL_QUANTILE**2 / n
    centre = (rate + NORMAL_QUANTILE**2 / (2 * n)) / scale
    half = (
        NORMAL_QUANTILE / scale * (rate * (1 - rate) / n + NORMAL_QUANTILE**2 / (4 * n**2)) ** 0.5
    )
    # At rates of exactly 0 and 1 a bound equals the rate; rounding must not exclude the rate.
    return min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half))


@dataclasses.dataclass(frozen=True)
class Sample:
    """The outcomes that one measure is computed from. Its value is the mean of the strata's means.

    Attributes:
      values: the outcome of each item: 0 or 1, or any finite number.
      weights: 1 if the item counts, 0 if not: a flip rate counts only some items.
      clusters: the underlying question of each item; questions are independent, items are not.
      strata: the set that each item belongs to. The means of the sets are averaged with equal
        weight; most measures have one set.
      bounds: the least and the largest value that an outcome can have.
      least: the least value that the measure can have. A distance is the mean of signed outcomes,
        which in another draw of items may be below zero; its interval ends at zero.
      names: of clusters and of strata, if these are numbers that index the names. The same names
        are the same questions and sets in samples of other items, too; numbers are not.
    """

    values: Float[np.ndarray, " items"]
    weights: Float[np.ndarray, " items"]
    clusters: Shaped[np.ndarray, " items"]
    strata: Shaped[np.ndarray, " items"]
    bounds: tuple[float, float] = (0.0, 1.0)
    least: float = -np.inf
    names: tuple[Shaped[np.ndarray, " questions"], Shaped[np.ndarray, " sets"]] | None = None

    @property
    def n(self) -> int:
        """The number of items that count."""
        return int(self.weights.sum())

    @property
    def value(self) -> float:
        """The mean of the strata's means; nan if in some stratum no item counts."""
        means = []
        for stratum in np.unique(self.strata):
            inside = self.strata == stratum
            counted = self.weights[inside].sum()
            total = (self.weights * self.values)[inside].sum()
            means.append(total / counted if counted else np.nan)
        return float(np.mean(means)) if means else float("nan")

    @property
    def is_binary(self) -> bool:
        """Whether the outcomes are shares, and every one that counts is 0 or 1."""
        counted = self.values[self.weights > 0]
        return self.bounds == (0.0, 1.0) and bool(np.isin(counted, (0.0, 1.0)).all())

    @property
    def is_one_proportion(self) -> bool:
        """Whether the value is a rate of independent trials with the outcomes 0 and 1.

        Then there is one stratum, and no cluster has two items that count.
        """
        counted = self.clusters[self.weights > 0]
        independent = len(np.unique(counted)) == len(counted)
        return independent and len(np.unique(self.strata)) == 1 and self.is_binary


def clustered_bootstrap(
    *samples: Sample, replicates: int = REPLICATES, seed: int = 0
) -> Float[np.ndarray, "samples replicates"]:
    """Replicates of measures: whole clusters are resampled with replacement within each stratum.

    All samples are resampled together: a replicate draws the same clusters for each, so replicates
    of different samples may be added and subtracted. A cluster that a sample lacks contributes
    nothing to it; samples without a common stratum are therefore independent. A replicate is nan if
    no resampled item of some stratum counts.

    Args:
      samples: one per measure; equal names of clusters and strata mean the same questions and sets.
      replicates: how many to draw.
      seed: of the random draws.

    Source: B. Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7
    (1979); whole clusters: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application
    (1997), section 3.8.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros((len(samples), replicates))
    for stratum in np.unique(np.concatenate([sample.strata for sample in samples])):
        inside = [sample.strata == stratum for sample in samples]
        own = [sample.clusters[mask] for sample, mask in zip(samples, inside, strict=True)]
        names = np.unique(np.concatenate(own))
        sums = []
        for sample, mask, clusters in zip(samples, inside, own, strict=True):
            cluster, weights = np.searchsorted(names, clusters), sample.weights[mask]
            outcomes = weights * sample.values[mask]
            sums += [np.bincount(cluster, column, len(names)) for column in (outcomes, weights)]
        drawn = _totals(np.stack(sums, axis=1), replicates, rng)
        for number, (sample, mask) in enumerate(zip(samples, inside, strict=True)):
            if mask.any():
                outcomes, weights = drawn[:, 2 * number], drawn[:, 2 * number + 1]
                with np.errstate(invalid="ignore"):
                    total[number] += outcomes / weights / len(np.unique(sample.strata))
    return total


def _totals(
    rows: Float[np.ndarray, "clusters columns"], replicates: int, rng: np.random.Generator
) -> Float[np.ndarray, "replicates columns"]:
    """The sums over as many rows as there are, drawn with replacement.

    Equal rows are interchangeable, and the number of times that each kind of row is drawn is
    multinomial. Drawing these numbers has the same distribution as drawing rows one by one. It is
    faster where there are few kinds, as for outcomes of 0 and 1.
    """
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    number = len(rows)
    if 4 * len(kinds) <= number:
        return rng.multinomial(number, counts / number, size=replicates) @ kinds
    drawn = np.empty((replicates, rows.shape[1]))
    step = max(1, _CHUNK // number)
    kept = replicates * number <= _KEPT
    if kept:
        times, state = _times_kept(json.dumps(rng.bit_generator.state), replicates, number)
        rng.bit_generator.state = json.loads(state)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        part = times[start : start + size] if kept else _times(rng, size, number)
        drawn[start : start + size] = part.astype(np.float64) @ rows
    return drawn


@functools.lru_cache(maxsize=4)  # most measures of a set have the same questions
def _times_kept(
    state: str, replicates: int, number: int
) -> tuple[UInt8[np.ndarray, "replicates clusters"], str]:
    """`_times` of a generator in a state, as text, and its state afterwards."""
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(state)
    times = np.empty((replicates, number), np.uint8)
    step = max(1, _CHUNK // number)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        times[start : start + size] = _times(rng, size, number)
    times.flags.writeable = False
    return times, json.dumps(rng.bit_generator.state)


def _times(
    rng: np.random.Generator, replicates: int, number: int
) -> UInt8[np.ndarray, "replicates clusters"]:
    """How often each of `number` clusters is drawn when as many are drawn with replacement.

    The chance of more than 255 times is below 1e-500, and nil for fewer clusters than that.
    """
    picked = rng.integers(number, size=(replicates, number))
    picked += number * np.arange(replicates)[:, None]
    times = np.bincount(picked.ravel(), minlength=replicates * number)
    return times.reshape(replicates, number).astype(np.uint8)


def percentiles(replicates: Float[np.ndarray, " replicates"]) -> tuple[float, float]:
    """The bounds of the central 95 % of the replicates, without nans; (nan, nan) if all are nan."""
    numbers = replicates[~np.isnan(replicates)]
    if not len(numbers):
        return float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(numbers, [tail, 1 - tail])
    return float(low), float(high)


def has_width(low: float, high: float) -> bool:
    """Whether an interval of replicates has a width; without one it would claim certainty."""
    return not high - low <= SAME * max(1.0, abs(low), abs(high))


def interval(sample: Sample, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a sample's value.

    One proportion of independent trials has Wilson's interval; any other value has the percentiles
    of the clustered bootstrap. If all outcomes are equal, the bootstrap does not vary and would
    claim certainty; then the interval is that of `_of_equals` with one trial per cluster, and
    `combined` over several strata. An outcome without bounds then has no interval: both bounds
    equal the value. They have no other cause, so they mark "all outcomes equal", not certainty.
    """
    if sample.is_one_proportion:
        return wilson(float((sample.weights * sample.values).sum()), sample.n)
    low, high = percentiles(clustered_bootstrap(sample, seed=seed)[0])
    if has_width(low, high):
        return low, high
    trials = trials_of_constant(sample)
    bounds = [_of_equals(total / n, n, sample.bounds) for total, n in trials]
    return combined([total / n for total, n in trials], bounds, [1 / len(trials)] * len(trials))


def trials_of_constant(sample: Sample) -> list[tuple[float, int]]:
    """The sum of outcomes and the trials of each stratum, with one trial per cluster."""
    trials = []
    for stratum in np.unique(sample.strata):
        counted = (sample.strata == stratum) & (sample.weights > 0)
        clusters = len(np.unique(sample.clusters[counted]))
        trials.append((float(np.mean(sample.values[counted])) * clusters, clusters))
    return trials


def _of_equals(value: float, n: int, bounds: tuple[float, float]) -> tuple[float, float]:
    """The interval of the mean of n independent outcomes that are all equal.

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
