"""The command `compare`: evaluations of several runs side by side."""

from __future__ import annotations

import sys
import typing
from pathlib import Path
from typing import Annotated

import typer

from sycophancy.cli.sweep import listed

if typing.TYPE_CHECKING:
    from rich.table import Table

    from sycophancy.report.compare.comparison import Cell, Comparison, Group, Row

# Widths of the table's columns: of a measure's name at least and at most, of a cell and of n.
_NARROW, _WIDE, _CELL, _N = 20, 34, 23, 7


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Names, folders or addresses of runs.")
    ],
    evaluations: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Show only these evaluations, commas between, such as after or before,after.",
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE.html", help="Write a page, too.")] = None,
    csv: Annotated[
        str | None, typer.Option("--csv", metavar="FILE.csv", help="Write the numbers, too.")
    ] = None,
) -> None:
    """Compare evaluations of runs: each measure with its interval, and differences.

    The first column is the reference. Differences are paired where both were asked the same items.
    """
    from sycophancy.report import pages
    from sycophancy.report.compare import csv_table, page
    from sycophancy.report.compare.comparison import compare_runs
    from sycophancy.report.evaluations import read_evaluations

    names = listed("--evaluations", evaluations) if evaluations is not None else ()
    comparison = compare_runs([read_evaluations(run) for run in runs], names)
    if out is not None:
        pages.write(Path(out), page.render(comparison))
    if csv is not None:
        pages.write(Path(csv), csv_table.csv_text(comparison))
    _show(comparison)
    for written in (out, csv):
        if written is not None:
            print(written)


def _show(comparison: Comparison) -> None:
    """Prints the table; on a terminal too narrow for it, as several with some columns each."""
    from rich.console import Console

    on_terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if on_terminal else 10_000)
    width = min(max(_NARROW, console.width - _N - 1 - 2 * (_CELL + 1)), _WIDE)
    fits = max(1, (console.width - width - 1 - _N) // (_CELL + 1))
    for start in range(0, len(comparison.columns), fits):
        shown = range(start, min(len(comparison.columns), start + fits))
        console.print(_table(comparison, shown, width))
    for note in comparison.notes:
        console.print(note, markup=False)
    if len(comparison.columns) > 1:
        console.print(
            f"Below a value: its difference from {comparison.columns[0].label}, in points or nats, "
            "with the 95% interval; ~ marks an unpaired one.",
            markup=False,
        )


def _table(comparison: Comparison, shown: range, width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("", min_width=width, max_width=width)
    for index in shown:
        column = comparison.columns[index]
        table.add_column(Text(f"{column.run.name}\n{column.series}"), min_width=_CELL)
    table.add_column("n", justify="right", min_width=_N)
    for group in comparison.groups:
        rows = _rows_of_terminal(group)
        if rows:
            table.add_row(Text(group.title, style="bold"))
        for row in rows:
            cells = [_cell(row, row.cells[index]) for index in shown]
            n = "" if row.n is None else f"{row.n:,}"
            unit = {"share": "", "difference": " (points)", "nats": " (nats)"}[row.unit]
            table.add_row(Text(f"  {row.label}{unit}"), *map(Text, cells), n)
    return table


def _rows_of_terminal(group: Group) -> list[Row]:
    """The rows without measures that only regroup others, as in the table of a run."""
    from sycophancy.evaluation import naming

    return [row for row in group.rows if naming.kind(row.name) not in naming.COMPONENTS]


def _cell(row: Row, cell: Cell | None) -> str:
    from sycophancy.evaluation.units import change_in_unit, in_unit

    if cell is None:
        return "-"
    m, d = cell.metric, cell.difference
    low, high = (in_unit(bound, row.unit).removesuffix("%") for bound in (m.low, m.high))
    lines = [f"{in_unit(m.value, row.unit)} ({low} to {high})"]
    if d:
        value, low, high = (change_in_unit(each, row.unit) for each in (d.value, d.low, d.high))
        lines.append(f"{'' if d.paired else '~ '}{value} ({low} to {high})")
    if row.n is None:
        lines.append(f"n = {m.n:,}")
    return "\n".join(lines)
