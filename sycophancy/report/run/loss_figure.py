"""The figure of the losses over steps: the lines to draw, its table, and its words.

The lines lie on a sheet that is 100 wide and `HEIGHT` high; the page stretches it to its width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from sycophancy.report.run.losses import Losses, Validation
from sycophancy.report.text_format import percent

WIDTH, HEIGHT, MARGIN = 100.0, 250.0, 8.0
TABLE_ROWS = 20  # about as many training losses as the table lists


@dataclasses.dataclass(frozen=True)
class Tick:
    """A label and its place on the sheet."""

    at: float
    label: str


@dataclasses.dataclass(frozen=True)
class TableRow:
    """The losses of one step; None where that loss was not recorded at this step."""

    step: int
    training: float | None
    validation: Validation | None


@dataclasses.dataclass(frozen=True)
class LossFigure:
    """What the template draws and lists.

    Attributes:
      description: the figure in words, for screen readers.
      training, validation: paths of svg; empty if there are no such losses.
      marks: the places of the validations.
      table: every validation and a selection of the training losses.
      kinds: the kinds of rows that validations tell apart.
      outcome: a sentence on the first and the last validation; empty if there is none.
    """

    title: str
    description: str
    training: str
    validation: str
    marks: tuple[tuple[float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    table: tuple[TableRow, ...]
    kinds: tuple[str, ...]
    outcome: str
    height: float = HEIGHT


def loss_figure(losses: Losses) -> LossFigure | None:
    """The figure of a finetuning's losses; None if there are fewer than two numbers to draw."""
    training, validation = losses.training, [(v.step, v.loss) for v in losses.validation]
    every = [*training, *validation]
    if len(every) < 2:
        return None
    last = max(step for step, _ in every)
    x_stops = _stops(0, last, 4)
    y_stops = _stops(0, max(loss for _, loss in every) or 1.0, 4)
    end = max(last, x_stops[-1])

    def x(step: float) -> float:
        return round(WIDTH * step / end, 2)

    def y(loss: float) -> float:
        return round(HEIGHT - 2 - (HEIGHT - MARGIN - 2) * loss / y_stops[-1], 2)

    def path(pairs: Sequence[tuple[int, float]]) -> str:
        return "M" + "L".join(f"{x(step)} {y(loss)}" for step, loss in pairs) if pairs else ""

    kinds = dict.fromkeys(kind for one in losses.validation for kind in one.by_kind)
    outcome = _outcome(losses.validation)
    return LossFigure(
        title="Training and validation loss" if validation else "Training loss",
        description=" ".join(filter(None, (_spoken("Training", training), outcome))),
        training=path(training),
        validation=path(validation),
        marks=tuple((x(step), y(loss)) for step, loss in validation),
        x_ticks=tuple(Tick(x(stop), f"{stop:,.0f}") for stop in x_stops),
        y_ticks=tuple(Tick(y(stop), f"{stop:g}") for stop in y_stops),
        table=_table(losses),
        kinds=tuple(kinds),
        outcome=outcome,
    )


def _spoken(name: str, pairs: Sequence[tuple[int, float]]) -> str:
    if not pairs:
        return ""
    (first, start), (last, end) = pairs[0], pairs[-1]
    return (
        f"{name} loss by step, {len(pairs)} points: {start:.3f} at step {first:,}, "
        f"{end:.3f} at step {last:,}."
    )


def _outcome(validations: Sequence[Validation]) -> str:
    if not validations:
        return ""
    first, last = validations[0], validations[-1]
    if first is last:
        return f"Validation on held-out rows: {_state(first)}."
    best = min(validations, key=lambda one: one.loss)
    lowest = f"; the lowest loss is {best.loss:.3f} at step {best.step:,}" if best != last else ""
    return f"Validation on held-out rows: {_state(first)}; {_state(last)}{lowest}."


def _state(one: Validation) -> str:
    match = "" if one.exact_match is None else f" and exact match {percent(one.exact_match)}"
    return f"loss {one.loss:.3f}{match} at step {one.step:,}"


def _table(losses: Losses) -> tuple[TableRow, ...]:
    step_between = max(1, len(losses.training) // TABLE_ROWS)
    selected = {step for step, _ in losses.training[::step_between]}
    if losses.training:
        selected.add(losses.training[-1][0])
    training, validation = dict(losses.training), {one.step: one for one in losses.validation}
    return tuple(
        TableRow(step, training.get(step), validation.get(step))
        for step in sorted(selected | validation.keys())
    )


def _stops(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to at least `high`, in at most `most` steps and perhaps one more.

    >>> _stops(0, 1000, 4)
    [0.0, 250.0, 500.0, 750.0, 1000.0]
    """
    rough = max(high - low, 1e-9) / most
    scale = 10 ** math.floor(math.log10(rough))
    step = next(scale * m for m in (1, 2, 2.5, 5, 10) if scale * m >= rough * (1 - 1e-9))
    return [round(low + step * n, 10) for n in range(math.ceil((high - low) / step - 1e-9) + 1)]
