"""Numbers and lists as text for readers: values in their units, durations, intervals."""

from __future__ import annotations

from collections.abc import Sequence

from sycophancy.evaluation.metrics import Metric
from sycophancy.evaluation.units import Unit, change_in_unit, in_unit
from sycophancy.evaluation.units import percent as percent
from sycophancy.evaluation.units import points as points

_UNIT_NAMES: dict[Unit, str] = {"share": "", "difference": " points", "nats": " nats"}


def with_unit(value: float, unit: Unit) -> str:
    """A value with its unit: `93.1%`, `+5.0 points` or `0.12 nats`."""
    return in_unit(value, unit) + _UNIT_NAMES[unit]


def change_with_unit(change: float, unit: Unit) -> str:
    """A change with its unit: `+5.0 points` or `+0.12 nats`."""
    return change_in_unit(change, unit) + (" nats" if unit == "nats" else " points")


def count(number: int) -> str:
    """A whole number with commas between thousands.

    >>> count(20000)
    '20,000'
    """
    return f"{number:,}"


def with_interval(metric: Metric, unit: Unit = "share") -> str:
    """A metric with its interval and denominator, in one phrase."""
    low, high = in_unit(metric.low, unit), in_unit(metric.high, unit)
    return f"{with_unit(metric.value, unit)} (95% interval {low} to {high}, n = {metric.n:,})"


def joined(parts: Sequence[str]) -> str:
    """The parts of a sentence as one list, with "and" before the last.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def duration(seconds: float) -> str:
    """A time in the two largest units that it needs.

    >>> duration(4.26), duration(125), duration(7300)
    ('4.3 s', '2 min 5 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def p_value(p: float) -> str:
    """A p-value; below 0.001 only that is said.

    >>> p_value(0.0312), p_value(1e-9)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def capitalised(words: str) -> str:
    """Words with a capital at the start; the rest is left as it is.

    >>> capitalised("the NLP survey")
    'The NLP survey'
    """
    return words[:1].upper() + words[1:]
