"""The command `generate`: prints what a model writes after prompts, also before finetuning."""

from __future__ import annotations

import dataclasses
import sys
import typing
from typing import Annotated

import typer

from sycophancy.cli import completion
from sycophancy.config.bounds import Place, check
from sycophancy.engine import distributed
from sycophancy.errors import UserError
from sycophancy.library.request import RunRequest

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config, ModelConfig
    from sycophancy.engine.run_folder import RunFolder


def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROMPT]...", help="Without prompts, or with -, each line of standard input."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A shipped model, a .gin file, or a checkpoint: hf:owner/name, gs://, a folder.",
            autocompletion=completion.models,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Ask this run, before and after finetuning."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The run's folder or address, instead of --name."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Ask this checkpoint, of the model's shape, instead."),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, max=2_048, metavar="N", help="Most tokens to write.")
    ] = 64,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Stop before this text; may be repeated."),
    ] = None,
) -> None:
    """Print what a model writes after each prompt, by greedy decoding."""
    if sum(given is not None for given in (model, name, out)) != 1:
        raise UserError(
            "generate: which model? give one of --model, --name of a run, and --out of a run"
        )
    asked = _prompts(prompts or [])
    from sycophancy.engine.progress import Screen, Silence
    from sycophancy.engine.run_folder import RunFolder
    from sycophancy.report.checkpoints import fetch_to_read
    from sycophancy.stages.memory import enough_memory
    from sycophancy.stages.scores import load_language_model

    processes = distributed.assemble()
    distributed.check_platform()
    request = RunRequest(model=model, name=name, out=out)
    run = RunFolder(request.folder(), processes.index) if model is None else None
    if run is not None:
        fetch_to_read(run, finetuned=checkpoint is None)
    config = request.config(run.path if run else RunFolder(".").path)
    screen = Screen() if processes.leader else Silence()
    answers: dict[str, list[str]] = {}
    for label, asked_model in _models(config, run, checkpoint).items():
        with enough_memory(), screen.meter(f"generate {label}".strip(), "prompts") as meter:
            answers[label] = load_language_model(config, asked_model).generate(
                asked, max_new_tokens=max_new_tokens, stop=stop or (), progress=meter
            )
    with processes.printing():
        for number in range(len(asked)):
            for label, texts in answers.items():
                print(f"{label}: {texts[number]}" if label else texts[number])


def _prompts(given: list[str]) -> list[str]:
    """The prompts, of which `-` or none at all stands for the lines of standard input.

    Raises:
        UserError: there are none.
    """
    prompts: list[str] = []
    for prompt in given or ["-"]:
        prompts += [prompt] if prompt != "-" else filter(None, sys.stdin.read().splitlines())
    if not prompts:
        raise UserError('generate: no prompt; give one, as in `sycophancy generate ... "2 + 2 ="`')
    return prompts


def _models(
    config: Config, run: RunFolder | None, checkpoint: str | None
) -> dict[str, ModelConfig]:
    """What is asked, by the label of its answers; the label is empty where there is one model.

    Raises:
        UserError: the run is not finetuned.
    """
    if checkpoint is not None:
        place = check("--checkpoint", checkpoint, Place())
        return {"": dataclasses.replace(config.model, checkpoint=place)}
    if run is None:
        return {"": config.model}
    from sycophancy.stages.finetune import finetuned_model

    return {"before": config.model, "after": finetuned_model(config, run)}
