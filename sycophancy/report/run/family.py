"""The tests behind the words of a run's page, and their correction for their number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sycophancy.evaluation import naming
from sycophancy.evaluation.comparison import Change, adjust
from sycophancy.evaluation.multiple_comparisons import ALPHA
from sycophancy.report.run.aims import CHANGE_MEASURES, judged

# Beside the measures with an aim, the headline reads the change of false and true sums together.
TOGETHER = "sums/accuracy_user_wrong"


def corrected(changes: Mapping[str, Change]) -> dict[str, Change]:
    """All changes; the p-values of the page's tests are adjusted by Holm's method."""
    return adjust(changes, family(changes))


def family(names: Iterable[str]) -> list[str]:
    """The metrics whose change a word of the page may follow from: one test each.

    These are the metrics that have an aim for their change, and wrong users on false and true sums
    taken together. Flip rates, habits and measures without an aim decide no word.
    """
    names = list(names)
    tested = [name for name in judged(names) if naming.split(name)[1] in CHANGE_MEASURES]
    return tested + [TOGETHER] * (TOGETHER in names)


def explanation(changes: Mapping[str, Change]) -> str:
    """How many tests the words follow from, and how they are corrected; empty without any test."""
    number = sum(change.adjusted is not None for change in changes.values())
    if not number:
        return ""
    tests = "1 test" if number == 1 else f"{number} tests"
    return (
        f"Whether something fell, rose or did not change follows from {tests}, one for each "
        f"measure with an aim: it changed if the p-value, adjusted for {tests} by Holm's method, "
        f"is below {ALPHA:g}. The 95% intervals shown are not adjusted."
    )
