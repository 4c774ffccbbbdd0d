"""The command `reproduce`: the paper's experiments in order, as one sweep and one report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from sycophancy.cli import completion
from sycophancy.cli.options import RunOptions
from sycophancy.cli.sweep import SEEDS, run_jobs
from sycophancy.config.bounds import check


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
        typer.Option(
            "--set",
            metavar="MACRO=VALUE",
            help="Of every cell; may be repeated.",
            autocompletion=completion.assignments,
        ),
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
    from sycophancy.study.claims import STEPS
    from sycophancy.study.families import EVALUATE_ONLY, family_named
    from sycophancy.study.grid import cells

    check("--seeds", seeds, SEEDS)
    name = name or f"reproduce-{family}"
    folder = Path(RunOptions(name=name, out=out).folder())
    wanted = [(seed, one) for seed in range(seeds) for one in cells(family)]
    if plan:
        for number, (seed, one) in enumerate(wanted):
            readers = ", ".join(one.experiments)
            print(f"{number:3} {one.model} {one.recipe} seed {seed}: {readers}")
        return

    from sycophancy.study.sweep import plan_job

    known = family_named(family)
    jobs = []
    for seed, one in wanted:
        evaluated_only = one.recipe == EVALUATE_ONLY
        recipe = known.main if evaluated_only else one.recipe
        options = RunOptions(model=one.model, recipe=recipe, seed=seed, set_=set_)
        job = plan_job(folder, one.model, options.config(folder), seed, one.recipe)
        jobs.append(
            dataclasses.replace(
                job,
                stages=("evaluate_before",) if evaluated_only else (),
                at=STEPS if one.recipe == known.recipe("steps") else (),
            )
        )
    run_jobs(name, folder, tuple(jobs), cell, any_code, redo)


def count(family: str, seeds: int) -> int:
    """How many cells these options ask for.

    Raises:
      UserError: there is no such family.
    """
    from sycophancy.study.grid import cells

    check("--seeds", seeds, SEEDS)
    return len(cells(family)) * seeds
