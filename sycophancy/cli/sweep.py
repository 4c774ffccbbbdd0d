"""The command `sweep`, and how a sweep is run from the command line; light to import."""

from __future__ import annotations

import re
import shlex
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sycophancy.cli import completion
from sycophancy.cli.options import AnyCode, RunOptions
from sycophancy.config.bounds import Between, check, shortened, shown
from sycophancy.engine import distributed
from sycophancy.errors import UserError

if typing.TYPE_CHECKING:
    from sycophancy.engine.distributed import Processes
    from sycophancy.study.place import SweepPlace
    from sycophancy.study.sweep import Job

SEEDS = Between(1, 1_000)

# The options that `sweep` and `reproduce` share.
Seeds = Annotated[int, typer.Option(metavar="N", help="Seeds 0 to N - 1.")]
Folder = Annotated[str | None, typer.Option(metavar="DIR", help="The folder itself.")]
CellNumber = Annotated[
    int | None,
    typer.Option(metavar="N", help="Run this cell alone, from 0; for an array of jobs."),
]
CellAssignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="MACRO=VALUE",
        help="Of every cell; may be repeated.",
        autocompletion=completion.assignments,
    ),
]
Redo = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STAGE", help="Let finetune replace its checkpoints if something changed."
    ),
]


def sweep(
    models: Annotated[
        str,
        typer.Option(
            metavar="MODEL,MODEL",
            help="As --model takes them, commas between.",
            autocompletion=completion.model_lists,
        ),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The sweep's folder is runs/NAME.")
    ] = None,
    recipes: Annotated[
        str,
        typer.Option(
            metavar="RECIPE,RECIPE",
            help="As --recipe takes them.",
            autocompletion=completion.recipe_lists,
        ),
    ] = "paper",
    seeds: Seeds = 3,
    out: Folder = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="STEP,STEP",
            help="Evaluate the checkpoints of these steps, too, where a run keeps them.",
        ),
    ] = None,
    cell: CellNumber = None,
    data_mirror: Annotated[
        str | None, typer.Option(metavar="DIR", help="As of `run`; the next seven as well.")
    ] = None,
    surveys: Annotated[str | None, typer.Option(metavar="DIR")] = None,
    instructions: Annotated[str | None, typer.Option(metavar="FILE")] = None,
    evaluation: Annotated[list[str] | None, typer.Option(metavar="FILE")] = None,
    public_sets: Annotated[str | None, typer.Option(metavar="NAMES|all")] = None,
    public_sets_from: Annotated[str | None, typer.Option(metavar="DIR")] = None,
    data_sets: Annotated[str | None, typer.Option(metavar="NAMES")] = None,
    data_set: Annotated[list[str] | None, typer.Option("--data-set", metavar="FILE")] = None,
    set_: CellAssignments = None,
    any_code: AnyCode = False,
    redo: Redo = None,
) -> None:
    """Run models x recipes x seeds, then write one report; shared stages are run once.

    Seeds vary fastest, models slowest. The same command continues an unfinished sweep. Exit code 1
    means that a cell failed; sweep.json says which one and why.

    As an array of jobs (`sycophancy launch slurm ... -- sweep ...`), every job is this command with
    a --cell of its own, in one folder that all of them see. Jobs that start together cannot share
    stages that none of them has finished, so run one cell of each model first.
    """
    check("--seeds", seeds, SEEDS)
    processes = distributed.assemble()  # first, so that every process reports bad input of one
    if name is None and out is None:
        raise UserError("which sweep? give --name, and its folder is runs/NAME")
    place = sweep_place(name, out, processes)
    name = name or Path(out or "").name
    grid = listed("--models", models), listed("--recipes", recipes)
    steps = tuple(_step(step) for step in listed("--at", at)) if at is not None else ()

    from sycophancy.config.schema import Config
    from sycophancy.study.sweep import plan_grid

    def load(model: str, recipe: str, seed: int) -> Config:
        return RunOptions(
            model=model,
            recipe=recipe,
            seed=seed,
            data_mirror=data_mirror,
            surveys=surveys,
            instructions=instructions,
            evaluation=evaluation,
            public_sets=public_sets,
            public_sets_from=public_sets_from,
            data_sets=data_sets,
            data_set=data_set,
            set_=set_,
        ).config(place.folder)

    jobs = plan_grid(place.folder, *grid, seeds, load, steps)
    run_jobs(name, place, jobs, processes, cell, any_code, redo)


def sweep_place(name: str | None, out: str | None, processes: Processes) -> SweepPlace:
    """The place of the sweep that `--name` and `--out` ask for.

    Raises:
        UserError: they name no folder or bucket.
    """
    from sycophancy.study.place import SweepPlace

    return SweepPlace(RunOptions(name=name, out=out).folder(), processes.index)


def run_jobs(
    name: str,
    place: SweepPlace,
    jobs: tuple[Job, ...],
    processes: Processes,
    only: int | None,
    any_code: bool,
    redo: Sequence[str] | None,
) -> None:
    """Runs a sweep's cells and writes its report; failed cells end in exit code 1.

    Args:
        name: the sweep's.
        place: the sweep's.
        jobs: its cells.
        processes: those that run each cell together.
        only: the number of the one cell to run.
        any_code: keep complete stages that other code made.
        redo: names of stages that may replace their checkpoints.
    """
    from sycophancy.report.study.page import write_report
    from sycophancy.study import sweep

    command = shlex.join(["sycophancy", *without_cell(sys.argv[1:])])
    plan = sweep.Plan(name, place, command, jobs, any_code, tuple(redo or ()))
    with processes.printing():
        failed = sweep.run(plan, only, processes)
        if processes.leader:
            print(place.write_report(write_report, plan.write_index))
    if failed:
        print(f"sycophancy: {len(failed)} of {len(jobs)} cells failed", file=sys.stderr)
        for words, reason in failed.items():
            print(f"  {words}: {reason}", file=sys.stderr)
        raise typer.Exit(1)


def count(models: str, recipes: str, seeds: int) -> int:
    """The number of cells that these options ask for.

    Raises:
        UserError: a list is empty, or names an entry twice.
    """
    check("--seeds", seeds, SEEDS)
    return len(listed("--models", models)) * len(listed("--recipes", recipes)) * seeds


def listed(flag: str, text: str) -> tuple[str, ...]:
    """The entries of a list with commas.

    >>> listed("--models", "mini_small, mini_base")
    ('mini_small', 'mini_base')

    Raises:
        UserError: it is empty, or has an entry that is empty or stands twice.
    """
    entries = tuple(entry.strip() for entry in text.split(","))
    if not all(entries):
        raise UserError(f"{flag} {shown(text)}: expected one or more, with commas between")
    if twice := [entry for entry in entries if entries.count(entry) > 1]:
        raise UserError(f"{flag} {shortened(text)}: {shortened(twice[0])} stands there twice")
    return entries


def _step(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not int(text):
        raise UserError(
            f"--at {shortened(text)}: expected steps, whole numbers of at least 1, up to 10 digits"
        )
    return int(text)


def without_cell(words: Sequence[str]) -> list[str]:
    """The words of a command line without `--cell N`: the grid's, whichever job wrote it.

    >>> without_cell(["sweep", "--cell", "3", "--seeds", "2", "--cell=4"])
    ['sweep', '--seeds', '2']
    """
    rest = iter(words)
    kept = []
    for word in rest:
        if word == "--cell":
            next(rest, None)
        elif not word.startswith("--cell="):
            kept.append(word)
    return kept
