"""The command `reproduce`: the paper's experiments in order, as one sweep and one report."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from sycophancy.cli.options import RunOptions
from sycophancy.cli.sweep import SEEDS, without_cell
from sycophancy.config.bounds import check
from sycophancy.errors import UserError


def reproduce(
    family: Annotated[str, typer.Option(metavar="mini|flan_t5", help="Whose sizes.")] = "mini",
    seeds: Annotated[int, typer.Option(metavar="N", help="Seeds 0 to N - 1.")] = 1,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="[reproduce-FAMILY]")] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="The folder itself.")] = None,
    cell: Annotated[
        int | None,
        typer.Option(metavar="N", help="Run this cell alone, from 0; for an array of jobs."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only list the cells, by number, and who reads them.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="MACRO=VALUE", help="Of every cell; may be repeated."),
    ] = None,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Keep complete stages that other code made.")
    ] = False,
    redo: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE", help="Let finetune replace what it saved; as of `run`."),
    ] = None,
) -> None:
    """Run the paper's experiments and those beyond it; write one report that says what agrees."""
    from sycophancy.study import grid as experiments
    from sycophancy.study.claims import STEPS
    from sycophancy.study.families import EVALUATE_ONLY, family_named

    check("--seeds", seeds, SEEDS)
    called = name or f"reproduce-{family}"
    folder = Path(RunOptions(name=called, out=out).folder())
    wanted = [(seed, one) for seed in range(seeds) for one in experiments.cells(family)]
    if plan:
        for number, (seed, one) in enumerate(wanted):
            readers = ", ".join(one.experiments)
            print(f"{number:3} {one.model} {one.recipe} seed {seed}: {readers}")
        return

    from sycophancy.engine import distributed
    from sycophancy.report.study.page import write_report
    from sycophancy.study import sweep as grid

    about = family_named(family)
    cells = []
    for seed, one in wanted:
        alone = one.recipe == EVALUATE_ONLY
        options = RunOptions(
            model=one.model, recipe=about.main if alone else one.recipe, seed=seed, set_=set_
        )
        planned = grid.planned(one.model, options.config(folder), seed)
        if alone:
            planned = dataclasses.replace(
                planned,
                folder=f"{planned.config.model.name}/{EVALUATE_ONLY}/seed{seed}",
                recipe=EVALUATE_ONLY,
                stages=("evaluate_before",),
            )
        steps = STEPS if one.recipe == about.recipe("steps") else ()
        cells.append(dataclasses.replace(planned, at=steps))
    command = shlex.join(["sycophancy", *without_cell(sys.argv[1:])])
    sweep = grid.Sweep(called, folder, command, tuple(cells), any_code, tuple(redo or ()))
    processes = distributed.assemble()
    with (
        contextlib.nullcontext() if processes.leader else contextlib.redirect_stdout(io.StringIO())
    ):
        failed = grid.run(sweep, cell, processes)
        if processes.leader:
            print(write_report(folder))
    if failed:
        reasons = "; ".join(f"{words}: {reason}" for words, reason in failed.items())
        raise UserError(f"{len(failed)} of {len(cells)} cells failed: {reasons}")


def count(family: str, seeds: int) -> int:
    """How many cells these options ask for.

    Raises:
      UserError: there is no such family.
    """
    from sycophancy.study.grid import cells

    check("--seeds", seeds, SEEDS)
    return len(cells(family)) * seeds
