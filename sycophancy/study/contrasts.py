"""Sums of measures over models and seeds: value, 95 % interval and one-sided p-values.

What is estimated: the mean of the contrast over finetuning seeds, and over questions like those
asked. What a few seeds can say:

- One seed: its own finetuning only. The interval is over questions, and nothing in it shows how
  another seed would come out.
- Two seeds: their difference is the only measure of the variation between seeds, so the interval is
  wide (Student's quantile with one degree of freedom is 12.7) and decides only huge effects.
- Three seeds: the quantile is 4.3; with five it is 2.8.

How: questions and seeds are crossed, because every seed is asked the same questions. Questions are
resampled once for all models and seeds (`intervals.clustered_bootstrap`). Seeds are not resampled:
three values drawn with replacement vary too little, and such intervals contain the truth in about
three quarters of the cases (`tests/study/test_contrasts.py`). Instead, each replicate adds a draw
from Student's distribution with S - 1 degrees of freedom, times the standard error of the mean of
the S seeds' contrasts. The percentiles of the sum are the interval. For two sources of variation
this is the Behrens-Fisher interval. The noise that questions add to the seeds' contrasts counts in
both parts, so the interval tends to be too wide and not too narrow.

Sources: A. Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1 (2007), on crossed
factors; R. A. Fisher, The fiducial argument in statistical inference, Annals of Eugenics 6 (1935);
M. Xie and K. Singh, Confidence distribution, International Statistical Review 81 (2013).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, stdtrit

from sycophancy.evaluation.intervals import (
    NORMAL_QUANTILE,
    Sample,
    clustered_bootstrap,
    has_width,
    percentiles,
    trials_of_constant,
)
from sycophancy.evaluation.metrics import Metric
from sycophancy.evaluation.permutation import permutation_test
from sycophancy.study.answers import Measured

DRAWS = 20_000

Draws = Float[np.ndarray, " draws"]


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A sum of measures with factors, and its 95 % interval.

    Attributes:
      n: the number of questions of the side with the fewest.
      seeds: the number of seeds that it is a mean over.
      paired: True if all sides have the same questions.
      draws: the values that the interval is the central 95 % of (a confidence distribution).
      unchanged: the two-sided p-value of the permutation test of "nothing changed"; None unless the
        contrast is one measure minus another of the same questions, with one seed.
    """

    value: float
    low: float
    high: float
    n: int
    draws: Draws
    seeds: int = 1
    paired: bool = True
    unchanged: float | None = None

    def p_at_most(self, line: float) -> float:
        """The one-sided p-value of "the true contrast is at most `line`".

        It is the share of draws at or below the line, counted so that it is never zero. For zero,
        it is never below that of the permutation test, which is exact where few questions changed.
        """
        share = (1 + np.count_nonzero(self.draws <= line)) / (1 + len(self.draws))
        return float(max(share, self._exchanged(line, self.value > 0)))

    def p_at_least(self, line: float) -> float:
        """The one-sided p-value of "the true contrast is at least `line`"."""
        share = (1 + np.count_nonzero(self.draws >= line)) / (1 + len(self.draws))
        return float(max(share, self._exchanged(line, self.value < 0)))

    def _exchanged(self, line: float, contradicts: bool) -> float:
        if line != 0 or self.unchanged is None:
            return 0.0
        return self.unchanged / 2 if contradicts else 1 - self.unchanged / 2


def contrast(terms: Sequence[tuple[float, Mapping[int, Measured]]]) -> Contrast | None:
    """The sum over terms of factor times measure, averaged over the seeds that all terms have.

    Args:
      terms: a factor, and the measure by seed; at least one.

    Returns:
      None if no seed has every term.
    """
    seeds = sorted(set.intersection(*(set(measured) for _, measured in terms)))
    if not seeds:
        return None
    by_seed = [
        sum(factor * measured[seed].metric.value for factor, measured in terms) for seed in seeds
    ]
    parts = [(factor / len(seeds), measured[seed]) for seed in seeds for factor, measured in terms]
    rng = np.random.default_rng(0)
    draws = _over_questions(parts, rng)
    if len(seeds) > 1:
        error = float(np.std(by_seed, ddof=1)) / len(seeds) ** 0.5
        draws = draws + error * _mixed(stdtrit(len(seeds) - 1, _grid()), rng)
    low, high = percentiles(draws)
    if all(_is_share(measured) for _, measured in parts):
        # Student's draws may leave the range of a sum of shares, each from 0 to 1.
        low = max(low, sum(min(factor, 0.0) for factor, _ in terms))
        high = min(high, sum(max(factor, 0.0) for factor, _ in terms))
    questions = [{measured[seed].questions for _, measured in terms} for seed in seeds]
    paired = all(len(keys) == 1 and "" not in keys for keys in questions)
    return Contrast(
        value=float(np.mean(by_seed)),
        low=low,
        high=high,
        n=min(measured.metric.n for _, measured in parts),
        draws=draws,
        seeds=len(seeds),
        paired=paired,
        unchanged=_unchanged(parts) if paired else None,
    )


def rate(by_seed: Mapping[int, Measured]) -> Metric | None:
    """The mean of one measure over seeds, with its interval; None without a seed."""
    mean = contrast([(1.0, by_seed)])
    if mean is None:
        return None
    return Metric(mean.value, mean.low, mean.high, mean.n)


def _unchanged(parts: Sequence[tuple[float, Measured]]) -> float | None:
    if sorted(factor for factor, _ in parts) != [-1.0, 1.0]:
        return None
    after, before = (part.sample for _, part in sorted(parts, key=lambda p: -p[0]))
    return permutation_test(before, after) if before and after else None


def _is_share(measured: Measured) -> bool:
    metric, sample = measured.metric, measured.sample
    inside = metric.low >= 0 and metric.high <= 1
    return inside and (sample is None or bool(((sample.values >= 0) & (sample.values <= 1)).all()))


def _over_questions(parts: Sequence[tuple[float, Measured]], rng: np.random.Generator) -> Draws:
    """Draws of a sum over parts for these seeds; samples of the same sets are drawn together."""
    together: dict[tuple[object, ...], list[tuple[float, Sample]]] = {}
    draws = np.zeros(DRAWS)
    for factor, measured in parts:
        if measured.sample is None:
            draws += factor * _of_metric(measured.metric, rng)
        else:
            sets = tuple(np.unique(measured.sample.strata).tolist())
            together.setdefault(sets, []).append((factor, measured.sample))
    for number, group in enumerate(together.values()):
        draws += _resampled(group, number, rng)
    return draws


def _resampled(group: Sequence[tuple[float, Sample]], seed: int, rng: np.random.Generator) -> Draws:
    """Draws of a sum over samples.

    If all replicates are equal, a bootstrap would claim certainty; then, and for a single rate of
    independent trials, the samples' own intervals count, as if they were independent.
    """
    if len(group) > 1 or not group[0][1].is_one_proportion:
        drawn = clustered_bootstrap(*(one for _, one in group), replicates=DRAWS, seed=seed)
        total = np.array([factor for factor, _ in group]) @ drawn
        if has_width(*percentiles(total)):
            return np.where(np.isnan(total), np.nanmedian(total), total)
    return np.sum([factor * _of_constant(one, rng) for factor, one in group], axis=0)


def _of_constant(sample: Sample, rng: np.random.Generator) -> Draws:
    """Draws whose percentiles are Wilson's interval at every confidence; a point for other data."""
    if not sample.is_binary:
        return np.full(DRAWS, sample.value)
    z = ndtri(_grid())
    strata = []
    for successes, n in trials_of_constant(sample):
        rate = successes / n
        spread = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
        strata.append(_mixed((rate + z**2 / (2 * n) + spread) / (1 + z**2 / n), rng))
    return np.mean(strata, axis=0)


def _of_metric(metric: Metric, rng: np.random.Generator) -> Draws:
    """Draws around a value whose 95 % interval alone is known: two halves of normal curves."""
    z = _mixed(ndtri(_grid()), rng) / NORMAL_QUANTILE
    return metric.value + z * np.where(z < 0, metric.value - metric.low, metric.high - metric.value)


def _grid() -> Draws:
    """The centres of equal parts of the range from 0 to 1."""
    return (np.arange(DRAWS) + 0.5) / DRAWS


def _mixed(quantiles: Draws, rng: np.random.Generator) -> Draws:
    """Quantiles in random order, so that sums with other draws are those of independent ones."""
    return rng.permutation(quantiles)
