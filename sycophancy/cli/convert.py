"""The command `convert`: writes a checkpoint in another format."""

from __future__ import annotations

import typing
from typing import Annotated

import typer

from sycophancy.cli import completion
from sycophancy.config.bounds import Place, check, shown
from sycophancy.engine import distributed
from sycophancy.errors import UserError

if typing.TYPE_CHECKING:
    from sycophancy.model.checkpoints.convert import Target


def convert(
    source: Annotated[str, typer.Argument(help="A folder, gs://... or hf:owner/name.")],
    destination: Annotated[str, typer.Argument(help="The folder to write; must not exist.")],
    to: Annotated[str, typer.Option(metavar="hf|t5x|orbax", help="The format to write.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Refuse a checkpoint whose shape is not this model's.",
            autocompletion=completion.models,
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**31 - 1, metavar="N", help="Training step to store [the source's]."
        ),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="SentencePiece model for a Hugging Face folder; of a decoder-only model: the "
            "Hugging Face folder or hf:owner/name with its config.json and tokenizer.",
        ),
    ] = None,
) -> None:
    """Write a checkpoint in another format."""
    if to not in (formats := ("hf", "t5x", "orbax")):
        raise UserError(f"--to {shown(to)}: expected one of {', '.join(formats)}")
    for name, path in (
        ("the source", source),
        ("the destination", destination),
        ("--vocabulary", vocabulary),
    ):
        if path is not None:
            check(name, path, Place())
    distributed.check_platform()
    network = None
    if model is not None:
        from sycophancy.config.load import load_config

        of_model = load_config(model, "paper").model
        network, vocabulary = of_model.network, vocabulary or of_model.vocabulary
    from sycophancy.engine.progress import Screen
    from sycophancy.model.checkpoints.convert import convert as convert_checkpoint

    screen = Screen()
    with screen.meter("convert", "bytes") as meter:
        converted = convert_checkpoint(
            source,
            destination,
            typing.cast("Target", to),
            network=network,
            step=step,
            vocabulary=vocabulary,
            report=meter,
        )
    for note in converted.notes:
        screen.note(f"convert: {note}")
    print(converted.path)
