"""The command `reproduce`: the paper's experiments in order, as one sweep and one report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from sycophancy.cli.options import AnyCode, RunOptions
from sycophancy.cli.sweep import (
    SEEDS,
    CellAssignments,
    CellNumber,
    Folder,
    Redo,
    Seeds,
    run_jobs,
    sweep_place,
)
from sycophancy.config.bounds import check, shown
from sycophancy.engine import distributed
from sycophancy.errors import UserError


def reproduce(
    family: Annotated[str, typer.Option(metavar="mini|flan_t5", help="Whose sizes.")] = "mini",
    seeds: Seeds = 1,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="[reproduce-FAMILY]")] = None,
    out: Folder = None,
    cell: CellNumber = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only list the cells, by number, and who reads them.")
    ] = False,
    lineages: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Of the family mini: seed N uses the checkpoints of lineage N in this folder.",
        ),
    ] = None,
    set_: CellAssignments = None,
    any_code: AnyCode = False,
    redo: Redo = None,
) -> None:
    """Run the paper's experiments and those beyond it; write one report that says what agrees."""
    from sycophancy.study.claims import STEPS
    from sycophancy.study.families import EVALUATE_ONLY, family_named
    from sycophancy.study.grid import cells

    check("--seeds", seeds, SEEDS)
    if lineages is not None and family != "mini":
        raise UserError(f"--lineages is of the family mini, and --family is {shown(family)}")
    name = name or f"reproduce-{family}"
    wanted = [(seed, one) for seed in range(seeds) for one in cells(family)]
    if plan:
        for number, (seed, one) in enumerate(wanted):
            readers = ", ".join(one.experiments)
            print(f"{number:3} {one.model} {one.recipe} seed {seed}: {readers}")
        return

    from sycophancy.study.lineages import settings
    from sycophancy.study.sweep import plan_job

    processes = distributed.assemble()  # first, so that every process reports bad input of one
    place = sweep_place(name, out, processes)
    known = family_named(family)
    jobs = []
    for seed, one in wanted:
        evaluated_only = one.recipe == EVALUATE_ONLY
        recipe = known.main if evaluated_only else one.recipe
        chosen = [] if lineages is None else settings(Path(lineages), one.model, seed)
        options = RunOptions(
            model=one.model, recipe=recipe, seed=seed, set_=[*chosen, *(set_ or ())]
        )
        config = options.config(place.folder)
        job = plan_job(place.folder, one.model, config, seed, one.recipe)
        jobs.append(
            dataclasses.replace(
                job,
                stages=("evaluate_before",) if evaluated_only else (),
                at=STEPS if one.recipe == known.recipe("steps") else (),
            )
        )
    run_jobs(name, place, tuple(jobs), processes, cell, any_code, redo)


def count(family: str, seeds: int) -> int:
    """How many cells these options ask for.

    Raises:
      UserError: there is no such family.
    """
    from sycophancy.study.grid import cells

    check("--seeds", seeds, SEEDS)
    return len(cells(family)) * seeds
