"""Agree, disagree or undecided: one-sided tests decide, corrected for all tests of a page.

A claim that expects a contrast above a line has two tests: "at most the line" (rejected: it agrees)
and "at least the line" (rejected: it disagrees). If the contrast is a difference, a third test
shows that it is no more than 1 point away from zero (it disagrees, too). A claim that expects a
contrast within a margin agrees if two one-sided tests both reject, "at most minus the margin" and
"at least the margin" (TOST, whose p-value is the larger of the two); it disagrees if "at most the
margin" or "at least minus the margin" is rejected.

All tests of all claims that were run are one family. Their p-values are adjusted by Holm's method,
which needs no assumption on how they depend on each other; so the chance that any verdict of a page
is wrong is at most 5 %. Agreeing and disagreeing with one claim cannot both be shown, so an
adjusted p-value below 0.05 always means a p-value below 0.025: the shown 95 % interval, which is
not adjusted, then lies where the verdict says.

Source: D. J. Schuirmann, A comparison of the two one-sided tests procedure and the power approach,
Journal of Pharmacokinetics and Biopharmaceutics 15 (1987); Holm: `multiple_comparisons`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

from sycophancy.evaluation.multiple_comparisons import ALPHA, holm
from sycophancy.study.answers import Answers
from sycophancy.study.claims import NOTHING, Claim, Experiment
from sycophancy.study.contrasts import Contrast, contrast

Verdict = Literal["agree", "disagree", "undecided", "by construction", "not run"]
VERDICTS: tuple[Verdict, ...] = ("agree", "disagree", "undecided", "by construction", "not run")


@dataclasses.dataclass(frozen=True)
class Test:
    """One test of a claim.

    Attributes:
      leads_to: the claim's verdict if the test rejects its hypothesis.
      p_value: one-sided.
      adjusted: the p-value adjusted for all tests of the page.
    """

    leads_to: Verdict
    p_value: float
    adjusted: float = 1.0


@dataclasses.dataclass(frozen=True)
class Decision:
    """A claim and its verdict; `reason` says why the claim was not run."""

    claim: Claim
    verdict: Verdict
    contrast: Contrast | None = None
    reason: str = ""
    tests: tuple[Test, ...] = ()

    @property
    def closest(self) -> Test | None:
        """The test with the smallest p-value: the one that decides, if any does."""
        own = [test for test in self.tests if test.leads_to == self.verdict] or self.tests
        return min(own, key=lambda test: test.p_value, default=None)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """An experiment and the decisions on its claims."""

    experiment: Experiment
    decisions: tuple[Decision, ...]

    @property
    def verdict(self) -> Verdict:
        """Disagree if a claim that was run does, else undecided if one is, else agree.

        By construction if the experiment is given.
        """
        verdicts = {decision.verdict for decision in self.decisions}
        ranked: tuple[Verdict, ...] = ("disagree", "undecided", "agree", "by construction")
        return next((verdict for verdict in ranked if verdict in verdicts), "not run")

    @property
    def counts_as_run(self) -> bool:
        """Whether it is one of the experiments that may agree or disagree."""
        return self.verdict not in ("by construction", "not run")

    @property
    def counts(self) -> dict[Verdict, int]:
        """Verdict -> number of claims; verdicts without claims are absent."""
        verdicts = [decision.verdict for decision in self.decisions]
        return {name: verdicts.count(name) for name in VERDICTS if name in verdicts}


def outcomes(experiments: Sequence[Experiment], answers: Answers) -> list[Outcome]:
    """Decides every claim of all experiments of a page."""
    measured = [
        [_measured(claim, answers, tested=not one.given) for claim in one.claims]
        for one in experiments
    ]
    decided = iter(corrected(decision for decisions in measured for decision in decisions))
    return [
        Outcome(experiment, tuple(next(decided) for _ in experiment.claims))
        for experiment in experiments
    ]


def corrected(decisions: Iterable[Decision]) -> list[Decision]:
    """The decisions with adjusted p-values, and the verdicts that follow from these."""
    decisions = list(decisions)
    adjusted = iter(holm([test.p_value for one in decisions for test in one.tests]))
    return [
        dataclasses.replace(decision, tests=tests, verdict=_verdict(tests))
        if (tests := tuple(dataclasses.replace(t, adjusted=next(adjusted)) for t in decision.tests))
        else decision
        for decision in decisions
    ]


def claim_tests(claim: Claim, contrast: Contrast) -> tuple[Test, ...]:
    """The tests that decide a claim, not yet adjusted."""
    line, above, below = claim.line, contrast.p_at_most, contrast.p_at_least
    if claim.expected == "within":
        ends = line - claim.margin, line + claim.margin
        inside = max(above(ends[0]), below(ends[1]))
        return (
            Test("agree", inside),
            Test("disagree", above(ends[1])),
            Test("disagree", below(ends[0])),
        )
    p_values = above(line), below(line)
    if claim.expected == "below":
        p_values = below(line), above(line)
    found = Test("agree", p_values[0]), Test("disagree", p_values[1])
    if not claim.is_difference:
        return found
    return (*found, Test("disagree", max(above(line - NOTHING), below(line + NOTHING))))


def _measured(claim: Claim, answers: Answers, tested: bool) -> Decision:
    """A claim with its contrast and its tests; `not run` if the sweep lacks a cell it needs."""
    terms = [(factor, answers.of(side)) for factor, side in claim.terms]
    for (_, side), (_, by_seed) in zip(claim.terms, terms, strict=True):
        if not by_seed:
            return Decision(claim, "not run", reason=answers.why_not(side))
    measured = contrast(terms)
    if measured is None:
        return Decision(claim, "not run", reason="its sides have no common seed")
    if not tested:
        return Decision(claim, "by construction", measured)
    return Decision(claim, "undecided", measured, tests=claim_tests(claim, measured))


def _verdict(tests: Sequence[Test]) -> Verdict:
    shown = [test.leads_to for test in tests if test.adjusted < ALPHA]
    return "agree" if "agree" in shown else shown[0] if shown else "undecided"
