"""The horizontal scale of a figure: which values it spans, in which unit, and its ticks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from sycophancy.evaluation.units import Unit, in_unit

TICKS = 5  # about as many fit beside each other on a phone


@dataclasses.dataclass(frozen=True)
class Scale:
    """Values from `low` to `high`.

    Attributes:
      ticks: values with their labels, from the left.
      unit: of the values.
    """

    low: float = 0.0
    high: float = 1.0
    ticks: tuple[tuple[float, str], ...] = (
        (0.0, "0"),
        (0.25, "25"),
        (0.5, "50"),
        (0.75, "75"),
        (1.0, "100%"),
    )
    unit: Unit = "share"

    def place(self, value: float) -> float:
        """Where a value lies, from 0 at the left to 1 at the right; values outside lie at the ends.

        >>> Scale().place(0.3), Scale(-2.0, 2.0).place(1.0), Scale().place(1.5)
        (0.3, 0.75, 1.0)
        """
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    @property
    def zero(self) -> float:
        """Where bars begin."""
        return self.place(0.0)


SHARES = Scale()


def scale_around_zero(values: Iterable[float], unit: Unit) -> Scale:
    """A scale that holds the values and zero, with round ticks.

    >>> [label for _, label in scale_around_zero([-0.3, 1.7], "nats").ticks]
    ['\N{MINUS SIGN}0.50', '0.00', '0.50', '1.00', '1.50', '2.00']
    """
    held = [0.0, *values]
    low, high = min(held), max(held)
    if low == high:
        low, high = -1.0, 1.0
    rough = (high - low) / (TICKS - 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple((n * step, in_unit(n * step, unit)) for n in range(first, last + 1))
    return Scale(first * step, last * step, ticks, unit)
