"""The options that every stage's command takes."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from sycophancy.cli import completion
from sycophancy.library.request import RunRequest

# Options that other commands take, too.
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="MACRO=VALUE",
        help="Set any setting; may be repeated. `sycophancy settings` lists them.",
        autocompletion=completion.assignments,
    ),
]
AnyCode = Annotated[
    bool, typer.Option("--any-code", help="Keep complete stages that other code made.")
]


@dataclasses.dataclass(frozen=True)
class RunOptions(RunRequest):
    """A request of a run whose fields are typed as typer wants them."""

    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A shipped model, a .gin file, or a checkpoint: hf:owner/name, gs://, a folder.",
            autocompletion=completion.models,
        ),
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="A shipped recipe, or the path of a .gin file [paper].",
            autocompletion=completion.recipes,
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the run; its folder is runs/NAME [MODEL-RECIPE-seedN]."
        ),
    ] = None
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder of the run, or gs://BUCKET/FOLDER, in place of runs/NAME."
        ),
    ] = None
    data_mirror: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder with copies of the 17 data sets, laid out as on the hub."
        ),
    ] = None
    surveys: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder with the three survey files (.jsonl).")
    ] = None
    instructions: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Instruction rows: .jsonl, .csv, .tsv or .parquet."),
    ] = None
    evaluation: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Evaluation set of your own, .jsonl; may be repeated."),
    ] = None
    public_sets: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES|all",
            help="Measure these published sets, too, commas between.",
            autocompletion=completion.public_sets,
        ),
    ] = None
    public_sets_from: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder with their files; without it, they are downloaded."
        ),
    ] = None
    retention: Annotated[
        str | None,
        typer.Option(
            metavar="mmlu,bbh|auto|none",
            help="Measure these abilities before and after finetuning, too.",
        ),
    ] = None
    bbh: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder with BIG-Bench Hard's files, TASK.json."),
    ] = None
    data_sets: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Use only these data sets, commas between [the 17 and yours]."
        ),
    ] = None
    data_set: Annotated[
        list[str] | None,
        typer.Option(
            "--data-set", metavar="FILE", help="TOML file of your own data set; may be repeated."
        ),
    ] = None
    on_bad_row: Annotated[
        str | None,
        typer.Option(
            metavar="drop|stop", help="Leave out rows that cannot be used, or stop at one [drop]."
        ),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="Ask at most this many questions of each task [all]."),
    ] = None
    chat: Annotated[
        str | None,
        typer.Option(
            metavar="auto|raw|template",
            help="How a decoder-only model reads prompts [auto: in its chat template, if any].",
        ),
    ] = None
    trainer: Annotated[
        str | None,
        typer.Option(
            metavar="jax|t5x", help="Finetune with the in-tree trainer or with T5X [jax]."
        ),
    ] = None
    mesh: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="Devices of each axis, as in data=4,fsdp=2,model=1; or auto [data=all].",
        ),
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of every random choice.")] = (
        None
    )
    wandb: Annotated[
        str | None,
        typer.Option(metavar="PROJECT", help="Show the run on Weights & Biases, too."),
    ] = None
    set_: Assignments = None
    any_code: AnyCode = False
    redo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help="Let this stage replace its checkpoints if something changed: finetune.",
        ),
    ] = None
