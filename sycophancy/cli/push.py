"""The command `push`: uploads a finetuned model to the Hugging Face hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def push(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name, folder or address of a run.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make it private.")] = False,
) -> None:
    """Upload a run's finetuned model to the Hugging Face hub, with a card of what was measured."""
    from sycophancy.library import hub_push
    from sycophancy.report.evaluations import find

    hub_push.check_target(repository)
    found = find(run, finetuned=True)
    print(hub_push.push(Path(found.path), repository, private=private, note=_note))


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
