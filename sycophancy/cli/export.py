"""The command `export`: a run's evaluation sets as tasks of another evaluation library."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Annotated

import typer

from sycophancy.config.bounds import Place, check
from sycophancy.errors import UserError, did_you_mean

if typing.TYPE_CHECKING:
    from sycophancy.engine.pipeline import Pipeline

LIBRARIES = ("lm-eval", "inspect")


def export(
    pipeline: Pipeline,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder to write; may exist.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="lm-eval|inspect",
            help="The library: lm-evaluation-harness (YAML files) or Inspect (a Python file).",
        ),
    ] = "lm-eval",
) -> None:
    """Write the run's evaluation sets as tasks of another library.

    Raises:
        UserError: the library is unknown, or the folder cannot be written.
    """
    if to not in LIBRARIES:
        raise UserError(
            f"--to {to}: expected {' or '.join(LIBRARIES)}{did_you_mean(to, LIBRARIES)}"
        )
    place = Path(check("DIR", folder, Place()))
    if place.exists() and not place.is_dir():
        raise UserError(f"{place} is a file; name a folder to write the tasks into")
    pipeline.until("prepare")
    try:
        names = _write(pipeline, place, to)
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error
    for name in names:
        print(name)
    print(place)


def _write(pipeline: Pipeline, folder: Path, to: str) -> list[str]:
    from sycophancy.evaluation.items import read_items
    from sycophancy.export import harness, inspect_files, item_files
    from sycophancy.stages.evaluate import held_out_files

    files = held_out_files(pipeline.run).values()
    tasks = item_files.by_task(item for path in files for item in read_items(Path(path)))
    if to == "inspect":
        return inspect_files.write_tasks(folder, tasks)
    end = "" if pipeline.config.model.is_decoder else harness.END_OF_SEQUENCE
    return harness.write_tasks(folder, tasks, end)
