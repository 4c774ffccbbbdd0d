"""Holm's correction: the chance that any of several tests errs stays below 5 %."""

from __future__ import annotations

from collections.abc import Sequence

ALPHA = 0.05  # the largest chance of at least one wrong "it changed" in a family of tests


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number, in the same order.

    Of m p-values, the smallest is multiplied by m, the next by m - 1, and so on; none becomes
    smaller than the one before it, or larger than 1. If all tests with an adjusted p-value below
    `ALPHA` are taken as decided, the chance that any of them is wrong is at most `ALPHA`, however
    the tests depend on each other.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal
    of Statistics 6 (1979).

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
