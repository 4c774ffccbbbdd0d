"""Numbers and lists as text for readers: percentages, points, durations, intervals."""

from __future__ import annotations

from collections.abc import Sequence

from sycophancy.evaluation.metrics import Metric


def percent(fraction: float) -> str:
    """A fraction as a percentage; exactly 0 and exactly 1 have no decimal.

    >>> percent(0.9312), percent(1.0), percent(0.99996)
    ('93.1%', '100%', '100.0%')
    """
    return f"{fraction:.0%}" if fraction in (0.0, 1.0) else f"{fraction:.1%}"


def points(fraction: float) -> str:
    """A difference of fractions in signed percentage points.

    >>> points(0.3), points(0.0001)
    ('+30.0', '0.0')
    """
    shown = f"{abs(fraction) * 100:.1f}"
    if shown == "0.0":
        return shown
    return ("\N{MINUS SIGN}" if fraction < 0 else "+") + shown


def count(number: int) -> str:
    """A whole number with commas between thousands.

    >>> count(20000)
    '20,000'
    """
    return f"{number:,}"


def with_interval(metric: Metric) -> str:
    """A metric with its interval and denominator, in one phrase."""
    return (
        f"{percent(metric.value)} (95% interval {percent(metric.low)} to {percent(metric.high)}, "
        f"n = {metric.n:,})"
    )


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
