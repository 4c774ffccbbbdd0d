"""The unit of each measure, and its values as text.

The module does without NumPy, so that the command line can import it quickly.
"""

from __future__ import annotations

from typing import Literal

Unit = Literal["share", "difference", "nats"]

# All other measures are shares.
UNITS: dict[str, Unit] = {
    "over_correction": "difference",
    "match_excess": "difference",
    "neutral_match_excess": "difference",
    "log_odds_shift": "nats",
    "log_odds_shift_user_wrong": "nats",
    "log_odds_shift_user_right": "nats",
    "truth_margin_neutral": "nats",
    "truth_margin_user_wrong": "nats",
    "truth_margin_user_right": "nats",
    "truth_margin_user_view": "nats",
    "sensitivity": "nats",
    "entropy": "nats",
}
MINUS = "\N{MINUS SIGN}"


def unit_of(name: str) -> Unit:
    """The unit of a metric: a share of items, a difference of shares, or nats.

    >>> unit_of("addition/accuracy_neutral"), unit_of("addition/log_odds_shift")
    ('share', 'nats')
    """
    return UNITS.get(name.rpartition("/")[2], "share")


def in_unit(value: float, unit: Unit) -> str:
    """A value as text, without the unit's name; a share has its percent sign.

    >>> in_unit(0.9312, "share"), in_unit(-0.05, "difference"), in_unit(-0.1234, "nats")
    ('93.1%', '\N{MINUS SIGN}5.0', '\N{MINUS SIGN}0.12')
    """
    if unit == "share":
        return percent(value)
    return points(value) if unit == "difference" else nats(value)


def change_in_unit(change: float, unit: Unit) -> str:
    """A change of a value as text, without the unit's name: in points, or in nats.

    >>> change_in_unit(0.05, "share"), change_in_unit(0.5, "nats")
    ('+5.0', '+0.50')
    """
    return nats(change, signed=True) if unit == "nats" else points(change)


def percent(fraction: float) -> str:
    """A fraction as a percentage; exactly 0 and exactly 1 have no decimal.

    >>> percent(0.9312), percent(1.0), percent(0.99996), percent(-0.013)
    ('93.1%', '100%', '100.0%', '\N{MINUS SIGN}1.3%')
    """
    text = f"{fraction:.0%}" if fraction in (0.0, 1.0) else f"{fraction:.1%}"
    return text.replace("-", MINUS)


def points(fraction: float) -> str:
    """A difference of fractions in signed percentage points.

    >>> points(0.3), points(0.0001)
    ('+30.0', '0.0')
    """
    return _signed(fraction * 100, 1, plus="+")


def nats(value: float, *, signed: bool = False) -> str:
    """A number of nats with two decimals; `signed` puts a plus before positive ones.

    >>> nats(1.234), nats(-0.001), nats(0.5, signed=True)
    ('1.23', '0.00', '+0.50')
    """
    return _signed(value, 2, plus="+" if signed else "")


def _signed(value: float, decimals: int, plus: str) -> str:
    shown = f"{abs(value):.{decimals}f}"
    if not float(shown):
        return shown
    return (MINUS if value < 0 else plus) + shown
