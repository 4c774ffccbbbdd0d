"""Agree, disagree or undecided: a contrast's 95 % interval decides.

One seed: the interval is over questions. Sides with the same questions are resampled together, by
question (`intervals.clustered_bootstrap`); others count as independent, which is not too narrow for
sides with positively correlated outcomes. The verdict is about this seed's finetuning only.

Several seeds: Student's interval over the seeds' contrasts, widened to the interval over questions
if that is wider. A bootstrap over seeds and then questions was tried and dropped: with three seeds,
a ninth of its replicates draw one seed three times, and its 95 % intervals contain the truth in
about three quarters of the cases (`tests/test_reproduction_verdicts.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from sycophancy.evaluation.intervals import (
    CONFIDENCE,
    Sample,
    clustered_bootstrap,
    combined,
    interval,
    percentiles,
)
from sycophancy.evaluation.metrics import Metric
from sycophancy.study.answers import Answers, Measured
from sycophancy.study.claims import NOTHING, Claim, Experiment, Side

Verdict = Literal["agree", "disagree", "undecided", "not run"]
VERDICTS: tuple[Verdict, ...] = ("agree", "disagree", "undecided", "not run")


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A sum of measures with factors, and its 95 % interval.

    Attributes:
      n: the number of questions of the side with the fewest.
      seeds: the number of seeds that it is a mean over.
      paired: True if all sides have the same questions.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: int = 1
    paired: bool = True


@dataclasses.dataclass(frozen=True)
class Decision:
    """A claim and its verdict; `reason` says why the claim was not run."""

    claim: Claim
    verdict: Verdict
    contrast: Contrast | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """An experiment and the decisions on its claims."""

    experiment: Experiment
    decisions: tuple[Decision, ...]

    @property
    def verdict(self) -> Verdict:
        """Disagree if a claim that was run does, else undecided if one is, else agree."""
        verdicts = {decision.verdict for decision in self.decisions}
        ranked: tuple[Verdict, ...] = ("disagree", "undecided", "agree")
        return next((verdict for verdict in ranked if verdict in verdicts), "not run")

    @property
    def counts(self) -> dict[Verdict, int]:
        """Verdict -> number of claims; verdicts without claims are absent."""
        verdicts = [decision.verdict for decision in self.decisions]
        return {name: verdicts.count(name) for name in VERDICTS if name in verdicts}


def outcome(experiment: Experiment, answers: Answers) -> Outcome:
    """Decides every claim of an experiment."""
    return Outcome(experiment, tuple(decide(claim, answers) for claim in experiment.claims))


def decide(claim: Claim, answers: Answers) -> Decision:
    """Decides one claim; its verdict is `not run` if the sweep lacks a cell that it needs."""
    terms = [(factor, answers.of(side)) for factor, side in claim.terms]
    for (_, side), (_, by_seed) in zip(claim.terms, terms, strict=True):
        if not by_seed:
            return Decision(claim, "not run", reason=answers.why_not(side))
    measured = contrast(terms)
    if measured is None:
        return Decision(claim, "not run", reason="its sides have no common seed")
    return Decision(claim, verdict(claim, measured), measured)


def verdict(claim: Claim, contrast: Contrast) -> Verdict:
    """The verdict by the claim's rule; an interval that ends on the line decides nothing."""
    low, high = contrast.low - claim.line, contrast.high - claim.line
    if claim.expected == "within":
        if -claim.margin < low and high < claim.margin:
            return "agree"
        return "disagree" if low > claim.margin or high < -claim.margin else "undecided"
    if claim.expected == "below":
        low, high = -high, -low
    if low > 0:
        return "agree"
    unmoved = claim.is_difference and low > -NOTHING and high < NOTHING
    return "disagree" if high < 0 or unmoved else "undecided"


def rate(side: Side, answers: Answers) -> tuple[Metric, int] | None:
    """One side with its interval, and the number of seeds that it is a mean over."""
    mean = contrast([(1.0, answers.of(side))])
    if mean is None:
        return None
    return Metric(mean.value, mean.low, mean.high, mean.n), mean.seeds


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
    value = float(np.mean(by_seed))
    low, high = _over_questions(parts)
    if len(seeds) > 1:
        quantile = float(stdtrit(len(seeds) - 1, (1 + CONFIDENCE) / 2))
        half = quantile * float(np.std(by_seed, ddof=1)) / len(seeds) ** 0.5
        low, high = min(low, value - half), max(high, value + half)
    factors = [factor for factor, _ in terms]
    # Student's interval may leave the range of a sum of shares, each from 0 to 1.
    low = max(low, sum(min(factor, 0.0) for factor in factors))
    high = min(high, sum(max(factor, 0.0) for factor in factors))
    questions = [{measured[seed].questions for _, measured in terms} for seed in seeds]
    return Contrast(
        value=value,
        low=low,
        high=high,
        n=min(measured.metric.n for _, measured in parts),
        seeds=len(seeds),
        paired=all(len(keys) == 1 and "" not in keys for keys in questions),
    )


def _over_questions(parts: Sequence[tuple[float, Measured]]) -> tuple[float, float]:
    """The interval of a sum over parts; parts with the same questions are resampled together."""
    together: dict[str, list[tuple[float, Sample]]] = {}
    values, bounds, factors = [], [], []
    for factor, measured in parts:
        if measured.sample is not None:
            together.setdefault(measured.questions, []).append((factor, measured.sample))
            continue
        metric = measured.metric
        values.append(metric.value)
        bounds.append((metric.low, metric.high))
        factors.append(factor)
    for seed, group in enumerate(together.values()):
        value, bound = _resampled(group, seed)
        values.append(value)
        bounds.append(bound)
        factors.append(1.0)
    return combined(values, bounds, factors)


def _resampled(
    group: Sequence[tuple[float, Sample]], seed: int
) -> tuple[float, tuple[float, float]]:
    """The value and interval of a sum over samples of the same questions.

    If all replicates are equal, a bootstrap would claim certainty; then, and for a single sample,
    the samples' own intervals are combined as if they were independent.
    """
    factors = [factor for factor, _ in group]
    values = [sample.value for _, sample in group]
    total = float(np.dot(factors, values))
    if len(group) > 1:
        drawn = clustered_bootstrap(*(sample for _, sample in group), seed=seed)
        low, high = percentiles(np.array(factors) @ drawn)
        if high - low > 1e-12:
            return total, (low, high)
    own = [interval(sample) for _, sample in group]
    return total, combined(values, own, factors)
