"""The command `harness`: tasks of the LM evaluation harness on a model of this project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sycophancy.cli import completion
from sycophancy.config.bounds import Place, check
from sycophancy.engine import distributed
from sycophancy.errors import UserError
from sycophancy.stages.retention_rows import INSTALL, installed


def harness(
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="A shipped model, a .gin file, or a checkpoint: hf:owner/name, gs://, a folder.",
            autocompletion=completion.models,
        ),
    ],
    tasks: Annotated[
        str, typer.Option(metavar="NAMES", help="Tasks or groups of the harness, commas between.")
    ],
    num_fewshot: Annotated[
        int | None,
        typer.Option(min=0, max=1_000, metavar="N", help="Examples before each question."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=10**7, metavar="N", help="Questions of each task [all]."),
    ] = None,
    include_path: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder with task definitions of your own.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write results.json and the samples here.")
    ] = None,
) -> None:
    """Run tasks of the LM evaluation harness on a model."""
    for flag, path in (("--include-path", include_path), ("--out", out)):
        if path is not None:
            check(flag, path, Place())
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise UserError("--tasks names no task; give some, as in --tasks mmlu,bbh")
    if not installed():
        raise UserError(f"the LM evaluation harness is not installed: {INSTALL}")
    processes = distributed.assemble()
    distributed.check_platform()
    from sycophancy.config.load import load_config
    from sycophancy.engine.progress import Screen, Silence
    from sycophancy.harness import evaluation
    from sycophancy.harness.adapter import HarnessModel
    from sycophancy.stages.memory import enough_memory
    from sycophancy.stages.scores import load_language_model

    config = load_config(model, "paper")
    screen = Screen() if processes.leader else Silence()
    with processes.printing(), screen.meter("harness", "prompts") as meter, enough_memory():
        asked = HarnessModel(load_language_model(config, config.model), progress=meter)
        results = evaluation.evaluate_tasks(
            asked, names, num_fewshot=num_fewshot, limit=limit, include_path=include_path
        )
    for note in asked.notes:
        screen.note(f"harness: note: {note}")
    if processes.leader:
        if out is not None:
            evaluation.write(Path(out), results)
        print(evaluation.in_words(results))
