"""Agree, disagree or undecided: by where a contrast's 95 % interval lies, never by eye.

One seed: the interval is over questions. Sides that were asked the same questions are drawn
together, by question (`intervals.clustered_bootstrap`); others count as independent, which is not
too narrow for sides whose outcomes go together. It speaks of this seed's finetuning alone.

Several seeds: Student's interval over the seeds' own contrasts, and nowhere narrower than the
interval over questions with the seeds as they are. A bootstrap that draws seeds, then questions,
was tried and left: with three seeds it draws the same one three times in a ninth of its replicates
and its "95 %" hold the truth in about three quarters (`tests/test_reproduction_verdicts.py`).
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
      n: the fewest questions that a side counts.
      seeds: over which it is a mean.
      paired: whether all sides were asked the same questions.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: int = 1
    paired: bool = True


@dataclasses.dataclass(frozen=True)
class Decision:
    """A claim and what became of it; `reason` says why it was not run."""

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
        """Over the claims that were run: disagree or undecided if any is, agree if all do."""
        found = {decision.verdict for decision in self.decisions}
        ranked: tuple[Verdict, ...] = ("disagree", "undecided", "agree")
        return next((verdict for verdict in ranked if verdict in found), "not run")

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many claims came out how; absent if none did."""
        verdicts = [decision.verdict for decision in self.decisions]
        return {name: verdicts.count(name) for name in VERDICTS if name in verdicts}


def outcome(experiment: Experiment, answers: Answers) -> Outcome:
    """Decides every claim of an experiment."""
    return Outcome(experiment, tuple(decide(claim, answers) for claim in experiment.claims))


def decide(claim: Claim, answers: Answers) -> Decision:
    """Decides one claim; without the cells it needs it is `not run`."""
    terms = [(factor, answers.of(side)) for factor, side in claim.terms]
    for (_, side), (_, found) in zip(claim.terms, terms, strict=True):
        if not found:
            return Decision(claim, "not run", reason=answers.why_not(side))
    measured = contrast(terms)
    if measured is None:
        return Decision(claim, "not run", reason="its sides have no seed in common")
    return Decision(claim, verdict(claim, measured), measured)


def verdict(claim: Claim, contrast: Contrast) -> Verdict:
    """Where the interval lies, by the claim's rule; an end on the line decides nothing."""
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
    """One side by itself with its interval, and over how many seeds it is a mean."""
    found = contrast([(1.0, answers.of(side))])
    if found is None:
        return None
    return Metric(found.value, found.low, found.high, found.n), found.seeds


def contrast(terms: Sequence[tuple[float, Mapping[int, Measured]]]) -> Contrast | None:
    """The sum over terms of factor times measure, a mean over the seeds that all terms have.

    Args:
      terms: a factor, and the measure by seed; at least one.

    Returns:
      None where no seed has every term.
    """
    seeds = sorted(set.intersection(*(set(found) for _, found in terms)))
    if not seeds:
        return None
    by_seed = [sum(factor * found[seed].metric.value for factor, found in terms) for seed in seeds]
    parts = [(factor / len(seeds), found[seed]) for seed in seeds for factor, found in terms]
    value = float(np.mean(by_seed))
    low, high = _over_questions(parts)
    if len(seeds) > 1:
        quantile = float(stdtrit(len(seeds) - 1, (1 + CONFIDENCE) / 2))
        half = quantile * float(np.std(by_seed, ddof=1)) / len(seeds) ** 0.5
        low, high = min(low, value - half), max(high, value + half)
    factors = [factor for factor, _ in terms]
    # Student's interval knows nothing of measures being shares, from 0 to 1.
    low = max(low, sum(min(factor, 0.0) for factor in factors))
    high = min(high, sum(max(factor, 0.0) for factor in factors))
    asked = [{found[seed].asked for _, found in terms} for seed in seeds]
    return Contrast(
        value=value,
        low=low,
        high=high,
        n=min(measured.metric.n for _, measured in parts),
        seeds=len(seeds),
        paired=all(len(keys) == 1 and "" not in keys for keys in asked),
    )


def _over_questions(parts: Sequence[tuple[float, Measured]]) -> tuple[float, float]:
    """The interval of a sum over parts: drawn together where the questions are the same."""
    together: dict[str, list[tuple[float, Sample]]] = {}
    values, bounds, factors = [], [], []
    for factor, measured in parts:
        if measured.sample is not None:
            together.setdefault(measured.asked, []).append((factor, measured.sample))
            continue
        metric = measured.metric
        values.append(metric.value)
        bounds.append((metric.low, metric.high))
        factors.append(factor)
    for seed, group in enumerate(together.values()):
        value, bound = _drawn_together(group, seed)
        values.append(value)
        bounds.append(bound)
        factors.append(1.0)
    return combined(values, bounds, factors)


def _drawn_together(
    group: Sequence[tuple[float, Sample]], seed: int
) -> tuple[float, tuple[float, float]]:
    """Value and interval of a sum over samples of the same questions.

    Where no replicate differs from another, a bootstrap would claim certainty; there, and for one
    sample, the samples' own intervals are combined as if independent.
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
