"""A grid of models, recipes and seeds: every cell an ordinary run, and what is equal is done once.

The sweep's folder holds `MODEL/RECIPE/seedN/`, a run folder each with a `cell.json`, and
`sweep.json`, which is put together from those whenever one of them is written. So the cells may be
run by one process after another or by several at the same time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sycophancy.config import macros
from sycophancy.config.load import load_config
from sycophancy.config.schema import Config
from sycophancy.engine import manifests
from sycophancy.engine.distributed import Processes
from sycophancy.engine.pipeline import Pipeline
from sycophancy.engine.progress import Meter, Screen, Silence
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.stages.evaluate import EvaluateCheckpoint
from sycophancy.stages.order import all_stages
from sycophancy.system import json_files, lock, paths
from sycophancy.training.preemption import Preempted

FORMAT = 1
Load = Callable[[str, str, int], Config]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        folder: of the run, relative to the sweep's.
        config: the run's.
        settings: the macros that differ from the model's run with the recipe `paper`, as JSON has
            them.
        recipe: what `sweep.json` calls its recipe.
        stages: those of a run that are wanted; empty means all, and the run's report.
        at: steps whose checkpoints are evaluated too, if they are kept.
    """

    folder: str
    config: Config
    settings: dict[str, Any]
    recipe: str
    stages: tuple[str, ...] = ()
    at: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        return f"{self.config.model.name}, {self.recipe}, seed {self.config.training.seed}"

    def record(self, state: str = "waiting", error: str | None = None) -> dict[str, Any]:
        """The cell as `sweep.json` has it."""
        return {
            "model": self.config.model.name,
            "recipe": self.recipe,
            "seed": self.config.training.seed,
            "folder": self.folder,
            "state": state,
            "error": error,
            "seconds": 0.0,
            "settings": self.settings,
        }


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A grid and its folder.

    Attributes:
        any_code: accept complete stages that other code made.
        redo: stages that may replace what they have saved.
    """

    name: str
    folder: Path
    command: str
    cells: tuple[Cell, ...]
    any_code: bool = False
    redo: tuple[str, ...] = ()


def plan(
    models: Sequence[str],
    recipes: Sequence[str],
    seeds: int,
    load: Load,
    at: tuple[int, ...] = (),
) -> tuple[Cell, ...]:
    """The cells of a grid, all of them checked; seeds vary fastest, models slowest.

    Args:
        models: as `--model` takes them.
        recipes: as `--recipe` takes them.
        seeds: how many, from 0.
        load: the configuration of a model, a recipe and a seed.
        at: steps whose checkpoints are evaluated too, where a cell keeps them.

    Raises:
        UserError: an unknown model or recipe, a bad setting, or two cells of one folder.
    """
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: expected at least 1")
    cells: dict[str, Cell] = {}
    for model in models:
        for recipe in recipes:
            for seed in range(seeds):
                cell = planned(model, load(model, recipe, seed), seed)
                if cell.folder in cells:
                    raise UserError(
                        f"{model} with {recipe}: another cell has the folder {cell.folder}"
                    )
                cells[cell.folder] = dataclasses.replace(cell, at=at)
    steps = max((cell.config.training.finetune_steps for cell in cells.values()), default=0)
    if at and max(at) > steps:
        raise UserError(f"--at {max(at)}: the longest run of the sweep has {steps} steps")
    return tuple(cells.values())


def planned(model: str, config: Config, seed: int) -> Cell:
    """The cell of a configuration that was loaded for this model.

    Raises:
        UserError: the user set SEED, which is the sweep's to set.
    """
    if config.training.seed != seed:
        raise UserError("--set SEED: a sweep sets SEED itself; say --seeds N")
    said, usual = _said(config), _said(load_config(model, "paper"))
    settings = {name: said[name] for name in said if said[name] != usual[name]}
    settings.pop("RECIPE", None)
    place = config.recipe.replace("/", "-")
    return Cell(f"{config.model.name}/{place}/seed{seed}", config, settings, config.recipe)


def _said(config: Config) -> dict[str, Any]:
    """The macros of a configuration as JSON gives them back."""
    read = macros.read_text(config.operative, "the configuration")
    found: dict[str, Any] = json.loads(json.dumps({name: read[name].value for name in read}))
    return found


def run(
    sweep: Sweep, only: int | None = None, processes: Processes | None = None
) -> dict[str, str]:
    """Runs the cells one after the other, also after one that fails.

    Args:
        sweep: the grid.
        only: the number of the one cell to run, from 0.
        processes: the processes that do it together; by default this one alone.

    Returns:
        Why cells failed, in one line each, by what the cell is called.

    Raises:
        UserError: there is no such cell, or the sweep's folder cannot be written to.
        Preempted: a finetuning was told to stop; everything is saved.
    """
    processes = processes or Processes()
    if only is not None and not 0 <= only < len(sweep.cells):
        raise UserError(f"--cell {only}: expected 0 to {len(sweep.cells) - 1}")
    if processes.leader:
        RunFolder(sweep.folder).create()
        _write(sweep)
    failed = {}
    for number, cell in enumerate(sweep.cells):
        if only in (None, number):
            screen = _CellScreen(number, len(sweep.cells)) if processes.leader else Silence()
            screen.note(cell.words)
            if (reason := _attempt(sweep, cell, screen, processes)) is not None:
                screen.note(f"failed: {reason}")
                failed[cell.words] = reason
    return failed


def _attempt(
    sweep: Sweep, cell: Cell, screen: Screen | Silence, processes: Processes
) -> str | None:
    """Runs a cell and writes down what became of it; returns why it failed."""
    run = RunFolder(sweep.folder / cell.folder)
    try:
        with _held(run, processes):
            record = cell.record("done")
            try:
                record |= _bring_up_to_date(sweep, cell, run, screen, processes)
                (run.path / "failure.txt").unlink(missing_ok=True)
            except Preempted:
                raise
            except Exception as error:
                if processes.size > 1:  # the other processes need not have failed, and would wait
                    raise
                record = cell.record("failed", _in_a_line(error))
                paths.write_atomically(run.path / "failure.txt", traceback.format_exc())
            if processes.leader:
                record["seconds"] = _seconds(run)
                text = json.dumps({"format": FORMAT, **record}, indent=1)
                paths.write_atomically(run.path / "cell.json", text)
                _write(sweep)
    except UserError as error:  # the folder is another process's, or cannot be written to
        if processes.size > 1:
            raise
        return str(error)
    except OSError as error:
        raise UserError(f"cannot write to {sweep.folder}: {error.strerror or error}") from None
    reason: str | None = record["error"]
    return reason


@contextlib.contextmanager
def _held(run: RunFolder, processes: Processes) -> Iterator[None]:
    if not processes.leader:
        yield
        return
    run.create()
    with run.lock():
        yield


def _bring_up_to_date(
    sweep: Sweep, cell: Cell, run: RunFolder, screen: Screen | Silence, processes: Processes
) -> dict[str, Any]:
    """The whole run, and its kept checkpoints; returns what the cell's record says of these."""
    others = [RunFolder(sweep.folder / one.folder) for one in sweep.cells if one is not cell]
    pipeline = Pipeline(
        all_stages(),
        cell.config,
        run,
        screen,
        any_code=sweep.any_code,
        redo=sweep.redo,
        processes=processes,
        reusable_runs=others,
    )
    pipeline.until(*(cell.stages or pipeline.stages))
    if not cell.at:
        return {}
    folders = {
        str(step): f"{cell.folder}/{folder}"
        for step, folder in _evaluate_steps(pipeline, cell.at).items()
    }
    return {"steps": folders}


def _evaluate_steps(pipeline: Pipeline, steps: Sequence[int]) -> dict[int, str]:
    """The folders of the evaluations of a run's kept checkpoints, by step."""
    finetuned = pipeline.run.stage("finetune")
    manifest = pipeline.run.manifest("finetune") or {}
    last = manifest.get("counts", {}).get("checkpoint")
    found = {}
    for step in steps:
        name = f"checkpoints/{step}"
        if name == last:
            found[step] = "evaluate_after"
        elif pipeline.processes.broadcast(functools.partial(Path.is_dir, Path(finetuned / name))):
            stage = EvaluateCheckpoint(str(Path(finetuned / name).resolve()))
            pipeline.until_extra(stage)
            found[step] = stage.name
        else:
            pipeline.screen.note(f"note: no checkpoint of step {step} was kept; it is left out")
    return found


def _in_a_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    if isinstance(error, UserError):
        return words
    return f"{type(error).__name__}: {words[:500]}" if words else type(error).__name__


def _seconds(run: RunFolder) -> float:
    """What the run's own stages took, without those that it took over."""
    found = [run.manifest(path.parent.name) for path in run.path.glob(f"*/{manifests.NAME}")]
    return round(sum(one["seconds"] for one in found if one and "taken_from" not in one), 3)


def _write(sweep: Sweep) -> None:
    """Puts `sweep.json` together from the cells' own files; one process at a time."""
    with lock.hold(sweep.folder, wait=True):
        about = {"format": FORMAT, "name": sweep.name, "command": sweep.command}
        cells = [_recorded(sweep, cell) for cell in sweep.cells]
        text = json.dumps({**about, "cells": cells}, indent=1)
        paths.write_atomically(sweep.folder / "sweep.json", text)


def _recorded(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    """What a cell's file says, unless that is of other settings or no longer so."""
    waiting, folder = cell.record(), sweep.folder / cell.folder
    found, _ = json_files.read_object(folder / "cell.json")
    if found is None:
        return waiting
    same = all(found.get(name) == waiting[name] for name in ("model", "recipe", "seed", "settings"))
    undone = found.get("state") == "done" and not (folder / "metrics.json").exists()
    if not same or undone or found.pop("format", None) != FORMAT:
        return waiting
    return found | {"folder": cell.folder}


def report(folder: Path) -> Path:
    """Writes the page that compares the cells of a sweep; returns its path."""
    from sycophancy.report.family import write_report

    with lock.hold(folder, wait=True):  # other cells' jobs sum up the same sweep
        return write_report(folder)


class _CellScreen(Screen):
    """Says with every line which cell of how many it is about."""

    def __init__(self, number: int, count: int) -> None:
        super().__init__()
        self._position = f"[{number + 1}/{count}]"

    def note(self, text: str) -> None:
        super().note(f"{self._position} {text}")

    @contextlib.contextmanager
    def meter(self, name: str, unit: str, total: int | None = None) -> Iterator[Meter]:
        with super().meter(f"{self._position} {name}", unit, total) as meter:
            yield meter
