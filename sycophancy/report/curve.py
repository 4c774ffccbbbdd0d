"""The loss over steps as a path on a sheet 100 wide, stretched to the page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

WIDTH, HEIGHT, MARGIN = 100.0, 250.0, 8.0


@dataclasses.dataclass(frozen=True)
class Tick:
    """Where on the sheet a label stands."""

    at: float
    label: str


@dataclasses.dataclass(frozen=True)
class Curve:
    """What the template draws, and what it says to those who do not see it."""

    title: str
    description: str
    path: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[tuple[int, float], ...]
    height: float = HEIGHT


def loss_curve(losses: Sequence[tuple[int, float]]) -> Curve | None:
    """The curve of (step, loss) pairs; None if there are fewer than two."""
    if len(losses) < 2:
        return None
    first, last = losses[0], losses[-1]
    x_stops = _stops(0, last[0], 4)
    y_stops = _stops(0, max(loss for _, loss in losses) or 1.0, 4)
    end = max(last[0], x_stops[-1])

    def x(step: float) -> float:
        return round(WIDTH * step / end, 2)

    def y(loss: float) -> float:
        return round(HEIGHT - 2 - (HEIGHT - MARGIN - 2) * loss / y_stops[-1], 2)

    return Curve(
        title="Training loss",
        description=(
            f"Training loss by step, {len(losses)} points: {first[1]:.3f} at step {first[0]:,}, "
            f"{last[1]:.3f} at step {last[0]:,}."
        ),
        path="M" + "L".join(f"{x(step)} {y(loss)}" for step, loss in losses),
        x_ticks=tuple(Tick(x(stop), f"{stop:,.0f}") for stop in x_stops),
        y_ticks=tuple(Tick(y(stop), f"{stop:g}") for stop in y_stops),
        points=tuple(losses[:: max(1, len(losses) // 20)]),
    )


def _stops(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to at least `high`, at most `most` steps apart."""
    rough = max(high - low, 1e-9) / most
    scale = 10 ** math.floor(math.log10(rough))
    step = next(scale * m for m in (1, 2, 2.5, 5, 10) if scale * m >= rough * (1 - 1e-9))
    return [round(low + step * n, 10) for n in range(math.ceil((high - low) / step - 1e-9) + 1)]
