"""The figures of a sweep as data: numbers, and where they are drawn.

Horizontal places are percentages of the width, vertical ones pixels. A picture holds everything
that its drawing, its table and its description in words need, so the three cannot disagree.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping

from sycophancy.evaluation.metrics import Metric
from sycophancy.report.text_format import percent, with_interval
from sycophancy.study.answers import Answers, Measured
from sycophancy.study.claims import Lines, Rows, Side, Style
from sycophancy.study.contrasts import rate

# The scale of a picture of rows, in per cent of the width; labels stand before it, values behind.
START, SPAN = 36.0, 42.0
ROW_HEAD, DOT_STEP, ROW_GAP = 20, 17, 9
STEPS_START, STEPS_SPAN, STEPS_HEIGHT, STEPS_TOP = 7.0, 57.0, 190.0, 10.0
SCALE = {"start": START, "span": SPAN}
STEP_SCALE = {"start": STEPS_START, "span": STEPS_SPAN, "top": STEPS_TOP, "height": STEPS_HEIGHT}
LABEL_GAP = 16.0


@dataclasses.dataclass(frozen=True)
class OfSeed:
    """The value of one seed, and its place: across a picture of rows, down one of steps."""

    seed: int
    value: float
    place: float


class _OverSeeds:
    """A number that is the mean over seeds, and the values of each."""

    each: tuple[OfSeed, ...]

    @property
    def seeds(self) -> int:
        """How many they are."""
        return len(self.each)


@dataclasses.dataclass(frozen=True)
class Point(_OverSeeds):
    """One number of a row and its place; if it has no metric, the reason."""

    label: str
    style: Style
    side: Side
    y: float
    metric: Metric | None
    each: tuple[OfSeed, ...] = ()
    reason: str = ""

    @property
    def x(self) -> float:
        """The place of the value."""
        return place(self.metric.value) if self.metric else START

    @property
    def low(self) -> float:
        """The place of the interval's lower end."""
        return place(self.metric.low) if self.metric else START

    @property
    def high(self) -> float:
        """The place of the interval's upper end."""
        return place(self.metric.high) if self.metric else START


@dataclasses.dataclass(frozen=True)
class Group:
    """Points under one label."""

    label: str
    y: float
    points: tuple[Point, ...]


@dataclasses.dataclass(frozen=True)
class Dots:
    """Rows of points on a scale from 0 to 100 %."""

    kind = "dots"
    key: str
    title: str
    subtitle: str
    groups: tuple[Group, ...]
    height: float
    reference: float | None
    reference_name: str

    @property
    def description(self) -> str:
        """The picture in words, for screen readers."""
        return " ".join(f"{group.label}: {_spoken(group.points)}." for group in self.groups)

    @property
    def numbers(self) -> list[tuple[str, Point]]:
        """The points of the table, with their labels."""
        return [(group.label, point) for group in self.groups for point in group.points]


@dataclasses.dataclass(frozen=True)
class Stop(_OverSeeds):
    """The measure of one step, and its place on a curve."""

    step: int
    side: Side
    x: float
    y: float
    low: float
    high: float
    metric: Metric
    each: tuple[OfSeed, ...]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A measure over steps; its label is drawn at the height `label_y`."""

    label: str
    style: Style
    stops: tuple[Stop, ...]
    label_y: float = 0.0


@dataclasses.dataclass(frozen=True)
class Curves:
    """Measures over steps."""

    kind = "curves"
    key: str
    title: str
    subtitle: str
    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, int], ...]
    height: float = STEPS_HEIGHT

    @property
    def description(self) -> str:
        """The picture in words, for screen readers."""
        parts = []
        for curve in self.curves:
            stops = ", ".join(f"step {s.step:,} {percent(s.metric.value)}" for s in curve.stops)
            parts.append(f"{curve.label}: {stops}.")
        return " ".join(parts)

    @property
    def numbers(self) -> list[tuple[str, Stop]]:
        """The points of the table, with their labels."""
        return [(curve.label, stop) for curve in self.curves for stop in curve.stops]


def place(fraction: float) -> float:
    """The place of a fraction in a picture of rows, in per cent of its width."""
    return round(START + SPAN * fraction, 3)


def height(fraction: float) -> float:
    """The place of a fraction in a picture of steps, in pixels from its top."""
    return round(STEPS_TOP + (STEPS_HEIGHT - STEPS_TOP) * (1 - fraction), 2)


def drawn(picture: Rows | Lines, key: str, answers: Answers) -> Dots | Curves | None:
    """A picture with its numbers; None if none was measured."""
    if isinstance(picture, Lines):
        return _curves(picture, key, answers)
    return _dots(picture, key, answers)


def _dots(picture: Rows, key: str, answers: Answers) -> Dots | None:
    groups, y = [], 0.0
    for row in picture.rows:
        head = ROW_HEAD if any(dot.label for dot in row.dots) else 0
        top, points = y, []
        for index, dot in enumerate(row.dots):
            by_seed = answers.of(dot.side)
            at = y + head + DOT_STEP * index + DOT_STEP / 2
            if m := rate(by_seed):
                each = _of_seeds(by_seed, place)
                points.append(Point(dot.label, dot.style, dot.side, at, m, each))
            else:
                why = answers.why_not(dot.side)
                points.append(Point(dot.label, dot.style, dot.side, at, None, reason=why))
        groups.append(Group(row.label, top + (15 if head else 13), tuple(points)))
        y += head + DOT_STEP * len(row.dots) + ROW_GAP
    if not any(point.metric for group in groups for point in group.points):
        return None
    reference = None if picture.reference == "chance" else picture.reference
    if picture.reference == "chance":
        sides = (point.side for group in groups for point in group.points if point.metric)
        chances = (answers.chance(side) for side in sides)
        reference = next((chance for chance in chances if chance is not None), None)
    return Dots(
        key, picture.title, picture.subtitle, tuple(groups), y, reference, picture.reference_name
    )


def _curves(picture: Lines, key: str, answers: Answers) -> Curves | None:
    steps = sorted({step for line in picture.lines for step, _ in line.points})
    across = {
        step: round(STEPS_START + STEPS_SPAN * index / max(1, len(steps) - 1), 3)
        for index, step in enumerate(steps)
    }
    curves = []
    for line in picture.lines:
        stops = []
        for step, side in line.points:
            by_seed = answers.of(side)
            if m := rate(by_seed):
                ends = height(m.value), height(m.low), height(m.high)
                each = _of_seeds(by_seed, height)
                stops.append(Stop(step, side, across[step], *ends, m, each))
        if stops:
            curves.append(Curve(line.label, line.style, tuple(stops)))
    if not curves:
        return None
    spread = _apart([curve.stops[-1].y + 4 for curve in curves])
    labelled = tuple(
        dataclasses.replace(curve, label_y=y) for curve, y in zip(curves, spread, strict=True)
    )
    ticks = tuple((across[step], step) for step in steps)
    return Curves(key, picture.title, picture.subtitle, labelled, ticks)


def _of_seeds(
    by_seed: Mapping[int, Measured], where: Callable[[float], float]
) -> tuple[OfSeed, ...]:
    """The value of each seed, and its place."""
    values = {seed: measured.metric.value for seed, measured in sorted(by_seed.items())}
    return tuple(OfSeed(seed, value, where(value)) for seed, value in values.items())


def _apart(places: list[float]) -> list[float]:
    """Moves heights so that neighbours are a line of text apart and all lie on the sheet.

    >>> _apart([100.0, 98.0, 20.0])
    [114.0, 98.0, 20.0]
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + LABEL_GAP)
    ceiling = STEPS_HEIGHT + 4
    for index in reversed(order):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - LABEL_GAP
    return moved


def _spoken(points: tuple[Point, ...]) -> str:
    return ", ".join(
        " ".join(
            filter(None, (point.label, with_interval(point.metric) if point.metric else "not run"))
        )
        for point in points
    )
