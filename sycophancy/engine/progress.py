"""The progress of a running stage: a bar on a terminal, a line every 20 seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

QUIET_SECONDS = 20.0  # between two lines if there is no terminal


class Meter:
    """Counts the units that a stage has done; `report` also takes a training step's metrics."""

    def __init__(self, name: str, unit: str, total: int | None = None) -> None:
        self.name, self.unit, self.total = name, unit, total
        self.done, self._details = 0, ""
        self._first: tuple[float, int] | None = None
        self.after_report: Callable[[], None] | None = None  # called at the end of `report`

    def __call__(self, done: int, total: int) -> None:
        """Sets the number of units that are done, and of all units."""
        self.done, self.total = done, total
        if self._first is None:
            self._first = (time.monotonic(), done)
        self._show()

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sets the training step and shows its loss."""
        if (loss := metrics.get("loss")) is not None:
            self._details = f"loss {float(loss):.3f}"
        self(step, self.total or step)
        if self.after_report:
            self.after_report()

    def note(self, text: str) -> None:
        """Prints a line about the stage, above the bar if there is one."""
        print(f"{self.name}: {text}", file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """Units a second since the first call, so that set-up time does not count."""
        if self._first is None:
            return 0.0
        seconds = time.monotonic() - self._first[0]
        return (self.done - self._first[1]) / seconds if seconds > 0 else 0.0

    @property
    def words(self) -> str:
        rate = f"{self.rate:,.1f}" if self.rate < 100 else f"{self.rate:,.0f}"
        parts = [f"{rate} {self.unit}/s"] if self.rate > 0 else []
        return ", ".join([*parts, self._details] if self._details else parts)

    def _show(self) -> None:
        """Shows the progress; subclasses say how."""


class _Bar(Meter):
    def __init__(self, name: str, unit: str, total: int | None, bars: Progress) -> None:
        super().__init__(name, unit, total)
        self._bars = bars
        self._task: TaskID = bars.add_task(name, total=total, words="")

    def _show(self) -> None:
        self._bars.update(self._task, completed=self.done, total=self.total, words=self.words)


class _Lines(Meter):
    def __init__(self, name: str, unit: str, total: int | None, console: Console) -> None:
        super().__init__(name, unit, total)
        self._console, self._last = console, time.monotonic()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last < QUIET_SECONDS or not self.total:
            return
        self._last = now
        left = (self.total - self.done) / self.rate if self.rate > 0 else None
        left_words = "" if left is None else f", {left:,.0f} s left"
        self._console.print(
            f"{self.name}: {self.done:,} of {self.total:,} {self.unit}"
            f"{', ' + self.words if self.words else ''}{left_words}",
            highlight=False,
            soft_wrap=True,
        )


class _Silent(Meter):
    def note(self, text: str) -> None:
        """Prints nothing."""


class Silence:
    """A screen that shows nothing, for the library and for all processes of a run but the first."""

    def note(self, text: str) -> None:
        """Prints nothing."""

    @contextlib.contextmanager
    def meter(self, name: str, unit: str, total: int | None = None) -> Iterator[Meter]:
        """A meter that counts and shows nothing."""
        yield _Silent(name, unit, total)


class Screen:
    """Shows notes and meters on standard error; standard output has only results."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def note(self, text: str) -> None:
        """Prints a line."""
        if self._console.is_terminal:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def meter(self, name: str, unit: str, total: int | None = None) -> Iterator[Meter]:
        """A meter that is shown while the `with` block runs."""
        if not self._console.is_terminal:
            yield _Lines(name, unit, total, self._console)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self._console, transient=True) as bars:
            yield _Bar(name, unit, total, bars)
