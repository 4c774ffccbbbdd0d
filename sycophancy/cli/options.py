"""The options that every stage's command takes."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from sycophancy.library.request import RunRequest


@dataclasses.dataclass(frozen=True)
class RunOptions(RunRequest):
    """A request of a run whose fields are typed as typer wants them."""

    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A shipped model, a .gin file, or a checkpoint: hf:owner/name, gs://, a folder.",
        ),
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE", help="A recipe's name or the path of its .gin file [paper]."
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The run's folder is runs/NAME [MODEL-RECIPE-seedN]."),
    ] = None
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The run's folder itself."),
    ] = None
    data_mirror: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder with copies of the 17 data sets, laid out as the hub."
        ),
    ] = None
    surveys: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder with the three survey files (.jsonl).")
    ] = None
    instructions: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Instruction-tuning rows: a .jsonl or .parquet file."),
    ] = None
    data_sets: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Only these of the 17 data sets, with commas between."),
    ] = None
    on_bad_row: Annotated[
        str | None,
        typer.Option(
            metavar="drop|stop", help="Rows that cannot be used: leave out, or refuse [drop]."
        ),
    ] = None
    trainer: Annotated[
        str | None,
        typer.Option(metavar="jax|t5x", help="What finetunes: our own trainer, or T5X [jax]."),
    ] = None
    mesh: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES", help="Devices, as in data=4,fsdp=2,model=1, or auto [data alone]."
        ),
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of every random choice.")] = (
        None
    )
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="MACRO=VALUE", help="Set a gin macro; may be repeated."),
    ] = None
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Keep complete stages that other code made.")
    ] = False
    redo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help="Let a stage replace what it saved, where something changed: finetune.",
        ),
    ] = None
