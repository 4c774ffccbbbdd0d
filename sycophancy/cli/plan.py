"""The command `plan`, apart so that the command line stays short; light to import."""

from __future__ import annotations

from typing import Annotated

import typer

from sycophancy.cli import completion
from sycophancy.errors import UserError


def plan(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A shipped model or a .gin file; with --all, one size.",
            autocompletion=completion.models,
        ),
    ] = None,
    topology: Annotated[
        str | None,
        typer.Option(metavar="SLICE", help="v4:2x2x4 or v4-32; GPUs, estimated only: h100:8."),
    ] = None,
    mesh: Annotated[
        str | None,
        typer.Option(metavar="AXES", help="As in data=4,fsdp=2,model=1 [the configuration's]."),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(metavar="RECIPE", help="A recipe.", autocompletion=completion.recipes),
    ] = "paper",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="MACRO=VALUE",
            help="Set a gin macro; may be repeated.",
            autocompletion=completion.assignments,
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="A table of the Flan-T5 sizes on many slices.")
    ] = False,
    cached: Annotated[
        bool, typer.Option("--cached", help="With --all: only what was compiled before.")
    ] = False,
) -> None:
    """Say whether a run fits a TPU slice, and how long it takes there; needs no TPU."""
    if all_ and mesh is not None:
        raise UserError("--all tries meshes itself; leave --mesh out, or give one --topology")
    if all_:
        from sycophancy.plan import table

        for line in table.lines(model, topology, recipe, set_ or (), only_cached=cached):
            print(line, flush=True)
        return
    if model is None or topology is None:
        raise UserError(
            "plan needs --model and --topology, as in --model flan_t5_xl --topology v4-32, or --all"
        )
    from sycophancy.config.load import load_config
    from sycophancy.library.request import parse_mesh
    from sycophancy.plan import wording
    from sycophancy.plan.chips import parse_slice
    from sycophancy.plan.requirements import make_plan

    place = parse_slice(topology)
    bindings = [*(set_ or ()), *([f"MESH={parse_mesh(mesh)}"] if mesh else [])]
    for line in wording.lines(make_plan(load_config(model, recipe, bindings), place)):
        print(line)
