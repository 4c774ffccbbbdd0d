"""The command `plan`; light to import."""

from __future__ import annotations

from typing import Annotated

import typer

from sycophancy.cli import completion
from sycophancy.cli.options import Assignments


def plan(
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="A shipped model, a .gin file or a checkpoint.",
            autocompletion=completion.models,
        ),
    ],
    topology: Annotated[
        str,
        typer.Option(
            metavar="SLICE",
            help="As v4-32 or v4:2x2x4; for GPUs, whose memory is estimated: h100:8.",
        ),
    ],
    mesh: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="Devices of each axis, as in data=4,fsdp=2,model=1; or auto [data=all].",
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="RECIPE",
            help="A shipped recipe, or the path of a .gin file.",
            autocompletion=completion.recipes,
        ),
    ] = "paper",
    set_: Assignments = None,
) -> None:
    """Tell whether a run fits a TPU slice, and how long it takes there; needs no TPU."""
    from sycophancy.config.load import load_config
    from sycophancy.library.request import parse_mesh
    from sycophancy.plan import wording
    from sycophancy.plan.chips import parse_slice
    from sycophancy.plan.requirements import make_plan

    place = parse_slice(topology)
    bindings = [*(set_ or ()), *([f"MESH={parse_mesh(mesh)}"] if mesh else [])]
    for line in wording.lines(make_plan(load_config(model, recipe, bindings), place)):
        print(line)
