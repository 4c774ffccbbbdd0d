"""`sweep.json`: which runs a sweep has, and what became of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sycophancy.errors import UserError
from sycophancy.system import json_files

INDEX = "sweep.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a sweep: a model, a recipe and a seed.

    Attributes:
        folder: the run's; nothing of it is read unless the state is `done`.
        state: `done`, `failed` or `waiting`.
        error: why it failed, in one line.
        seconds: the time its own stages took, without those linked from other runs.
        settings: the macros that differ from the model's run with the recipe `paper`.
        steps: step -> folder of the evaluation of that step's checkpoint.
    """

    model: str
    recipe: str
    seed: int
    folder: Path
    state: str = "waiting"
    error: str = ""
    seconds: float | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: Mapping[str, Path] = dataclasses.field(default_factory=dict)

    @property
    def words(self) -> str:
        """What messages call it."""
        return f"{self.model}, {self.recipe}, seed {self.seed}"

    @property
    def reason(self) -> str:
        """Why there is no result."""
        return self.state if not self.error else f"{self.state}: {self.error}"

    def as_json(self, sweep: Path) -> dict[str, Any]:
        """The entry of `sweep.json`, with folders relative to the sweep's."""
        entry: dict[str, Any] = {
            "model": self.model,
            "recipe": self.recipe,
            "seed": self.seed,
            "folder": self.folder.relative_to(sweep).as_posix(),
            "state": self.state,
            "error": self.error or None,
            "seconds": self.seconds or 0.0,
            "settings": dict(self.settings),
        }
        if self.steps:
            folders = {step: path.relative_to(sweep) for step, path in self.steps.items()}
            entry["steps"] = {step: path.as_posix() for step, path in folders.items()}
        return entry


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep, finished or not."""

    folder: Path
    name: str
    command: str
    cells: tuple[Cell, ...]


def read_sweep(folder: Path) -> Sweep:
    """Reads `sweep.json`.

    Raises:
        UserError: there is none, or a sweep did not write it.
    """
    path = folder / INDEX
    if not path.exists():
        raise UserError(f"{folder} is no sweep: it has no {INDEX}")
    index = json_files.require_object(path, "run the sweep again")
    if index.get("format") != FORMAT:
        raise UserError(f"{path} should say format {FORMAT}; run the sweep again")
    try:
        cells = tuple(read_cell(folder, entry) for entry in index["cells"])
        command = index.get("command") or ""
        words = command if isinstance(command, str) else " ".join(map(str, command))
        return Sweep(folder, str(index.get("name") or folder.name), words, cells)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not what a sweep writes ({error!r})") from None


def read_cell(sweep: Path, entry: Mapping[str, Any]) -> Cell:
    """The cell that an entry of `sweep.json`, or a `cell.json`, describes.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it describes none.
    """
    seconds = entry.get("seconds")
    return Cell(
        model=str(entry["model"]),
        recipe=str(entry["recipe"]),
        seed=int(entry.get("seed") or 0),
        folder=sweep / str(entry.get("folder") or "."),
        state=str(entry["state"]),
        error=str(entry.get("error") or ""),
        seconds=None if seconds is None else float(seconds),
        settings=entry.get("settings") or {},
        steps={str(k): sweep / str(v) for k, v in (entry.get("steps") or {}).items()},
    )


def index_entries(name: str, command: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `sweep.json` holds."""
    return {"format": FORMAT, "name": name, "command": command, "cells": list(entries)}
