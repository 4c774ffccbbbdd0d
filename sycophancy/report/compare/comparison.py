"""Evaluations of several runs side by side: a column each, a row for each measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from sycophancy.errors import UserError, did_you_mean
from sycophancy.evaluation import naming
from sycophancy.evaluation.comparison import Change, compare, unpaired_changes
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.metric_files import Metrics
from sycophancy.evaluation.metrics import Metric
from sycophancy.evaluation.units import Unit, unit_of
from sycophancy.report.evaluations import Evaluations
from sycophancy.report.text_format import joined

# The measures of the paper's main results: surveys (section 2) and false sums (section 3).
PAPER = (
    "surveys/match_rate",
    "surveys/nlp/match_rate",
    "surveys/phil/match_rate",
    "surveys/poli/match_rate",
    "addition/accuracy_neutral",
    "addition/accuracy_user_wrong",
)


@dataclasses.dataclass(frozen=True)
class Column:
    """One evaluation of one run."""

    run: Evaluations
    series: str

    @property
    def label(self) -> str:
        """The run and the evaluation, for the head of the column."""
        return f"{self.run.name} {self.series}"

    @property
    def metrics(self) -> Metrics:
        """The metrics of the evaluation, by name."""
        return self.run.metrics[self.series]

    @property
    def answers(self) -> Mapping[str, Prediction]:
        """The predictions of the evaluation, by the item's id; empty if they are gone."""
        return self.run.predictions.get(self.series, {})

    def setting(self, macro: str) -> str:
        """The value of one of the run's settings, as text; empty if it is not recorded."""
        return str(self.run.macros.get(macro, ""))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measure of one evaluation, and how it differs from the first column."""

    metric: Metric
    difference: Change | None


@dataclasses.dataclass(frozen=True)
class Row:
    """One measure; `cells` has one entry for each column, None where it was not measured."""

    name: str
    label: str
    cells: tuple[Cell | None, ...]

    @property
    def unit(self) -> Unit:
        """The unit of the values."""
        return unit_of(self.name)

    @property
    def n(self) -> int | None:
        """The denominator, if all columns have the same."""
        counts = {cell.metric.n for cell in self.cells if cell}
        return counts.pop() if len(counts) == 1 else None


@dataclasses.dataclass(frozen=True)
class Group:
    """The rows of one task, or those of the paper."""

    title: str
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything that is shown.

    Attributes:
      paper: the paper's measures; they stand in `tasks` as well.
      tasks: all measures, by task.
      notes: which columns were asked other items than the first, and what follows from it.
    """

    columns: tuple[Column, ...]
    paper: Group
    tasks: tuple[Group, ...]
    notes: tuple[str, ...]

    @property
    def groups(self) -> list[Group]:
        """The groups of rows in their order on the page."""
        return [*([self.paper] if self.paper.rows else []), *self.tasks]


def compare_runs(runs: Sequence[Evaluations], series: Sequence[str] = ()) -> Comparison:
    """Sets the evaluations of runs side by side.

    A difference is paired where both columns were asked the same items in the measure's task: the
    same ids, prompts and choices. Otherwise the two count as independent.

    Args:
      runs: in the order of their columns; the first evaluation of the first is what all others are
        compared with.
      series: names of evaluations to show; empty: all.

    Raises:
      UserError: no run has an evaluation of such a name; or damaged predictions.
    """
    runs = _with_distinct_names(runs)
    columns = _columns(runs, series)
    first, *others = columns
    differences: list[Mapping[str, Change]] = [{}]
    notes = []
    for other in others:
        same = same_tasks(first, other)
        differences.append(_differences(first, other, same))
        if (note := _note(first, other, same)) not in notes:
            notes.append(note)
    names = {name for column in columns for name in column.metrics}

    def row(name: str, label: str) -> Row:
        cells = (
            Cell(column.metrics[name], change.get(name)) if name in column.metrics else None
            for column, change in zip(columns, differences, strict=True)
        )
        return Row(name, label, tuple(cells))

    paper = Group("the paper's measures", tuple(row(n, _whole(n)) for n in PAPER if n in names))
    tasks = tuple(
        Group(
            naming.task_words(task) or "without a task",
            tuple(row(name, naming.measure_words(name)) for name in group),
        )
        for task, group in naming.grouped(names)
    )
    return Comparison(columns, paper, tasks, tuple(note for note in notes if note))


def same_tasks(first: Column, other: Column) -> set[str]:
    """The tasks in which two columns were asked exactly the same items."""
    asked, again = _answered(first), _answered(other)
    return {task for task, items in asked.items() if again.get(task) == items}


def _answered(column: Column) -> dict[str, dict[str, Item]]:
    """Task -> id -> item, of the items that the evaluation has an answer to."""
    tasks: dict[str, dict[str, Item]] = {}
    for item in column.run.items:
        if item.item_id in column.answers:
            tasks.setdefault(item.task, {})[item.item_id] = item
    return tasks


def _differences(first: Column, other: Column, same: set[str]) -> dict[str, Change]:
    differences = unpaired_changes(first.metrics, other.metrics)
    items = [
        item for task, by_id in _answered(first).items() if task in same for item in by_id.values()
    ]
    if not items:
        return differences
    paired = compare(items, *(column.answers.values() for column in (first, other)))
    every = [*first.run.items, *other.run.items]
    tasks = {task: _tasks_of(task, every) for task in {naming.split(name)[0] for name in paired}}
    for name, change in paired.items():
        if name in differences and tasks[naming.split(name)[0]] <= same:
            differences[name] = change
    return differences


def _tasks_of(task: str, items: Iterable[Item]) -> set[str]:
    """The items' tasks that a metric's task is about; all tasks where that is not known.

    `surveys` is about `surveys/nlp` and more, `quiz/per_token` about `quiz`, and a group about the
    tasks of its items.
    """
    found = {
        item.task
        for item in items
        if f"{item.task}/".startswith(f"{task}/")
        or f"{task}/".startswith(f"{item.task}/")
        or task in item.groups
    }
    return found or {item.task for item in items}


def _note(first: Column, other: Column, same: set[str]) -> str:
    """Says where a column was asked other items than the first; empty if nowhere."""
    for column in (first, other):
        if not column.answers:
            return (
                f"{column.label} has no predictions of its items: differences from or to it are "
                "unpaired, as if of independent questions."
            )
    asked = _answered(first)
    unlike = [task for task in _answered(other) if task in asked and task not in same]
    if not unlike:
        return ""
    names = [
        column.label if first.run is other.run else column.run.name for column in (first, other)
    ]
    seeds = [column.setting("SEED") for column in (first, other)]
    why = f" (SEED {seeds[1]}, not {seeds[0]})" if seeds[0] != seeds[1] else ""
    where = joined([naming.task_words(task) for task, _ in naming.grouped(f"{t}/" for t in unlike)])
    return (
        f"{names[1]} was asked other items than {names[0]}{why} in {where}: differences there are "
        "unpaired, as if of independent questions."
    )


def _whole(name: str) -> str:
    return f"{naming.task_words(naming.split(name)[0])}, {naming.measure_words(name)}"


def _columns(runs: Sequence[Evaluations], series: Sequence[str]) -> tuple[Column, ...]:
    known = list(dict.fromkeys(name for run in runs for name in run.metrics))
    for name in series:
        if name not in known:
            raise UserError(
                f"--evaluations {name}: no run has that evaluation (there are "
                f"{joined(known)}){did_you_mean(name, known)}"
            )
    return tuple(
        Column(run, name) for run in runs for name in series or run.metrics if name in run.metrics
    )


def _with_distinct_names(runs: Sequence[Evaluations]) -> list[Evaluations]:
    """Runs whose folders have the same name are called by their paths.

    Raises:
      UserError: a run is given twice.
    """
    folders = [run.folder.resolve() for run in runs]
    if twice := [run for run in runs if folders.count(run.folder.resolve()) > 1]:
        raise UserError(f"{twice[0].folder} is given twice; name each run once")
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else dataclasses.replace(run, name=str(run.folder))
        for run in runs
    ]
