"""Runs a grid of models, recipes and seeds; stages that several runs share are run once.

The sweep's folder holds `MODEL/RECIPE/seedN/`, a run folder each with a `cell.json`, and
`sweep.json`, which is rebuilt from those files whenever one of them is written. So the cells may be
run one after the other by one process, or by several processes at the same time.
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
from sycophancy.library import tracking
from sycophancy.stages.evaluate import EvaluateCheckpoint
from sycophancy.stages.order import all_stages
from sycophancy.study.index import FORMAT, Cell, index_entries
from sycophancy.study.place import SweepPlace
from sycophancy.system import json_files, paths
from sycophancy.training.preemption import Preempted

Load = Callable[[str, str, int], Config]


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell of a sweep and how it is run.

    Attributes:
        cell: its entry in `sweep.json` before it has run.
        config: the run's.
        stages: the stages that are wanted; empty means all of them.
        at: steps whose checkpoints are evaluated too, if the run keeps them.
    """

    cell: Cell
    config: Config
    stages: tuple[str, ...] = ()
    at: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """The jobs of a sweep and its place.

    Attributes:
        any_code: keep complete stages that other code made.
        redo: names of stages that may replace their checkpoints.
    """

    name: str
    place: SweepPlace
    command: str
    jobs: tuple[Job, ...]
    any_code: bool = False
    redo: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The sweep's folder, or this process's working copy of it."""
        return self.place.folder

    def write_index(self) -> None:
        """Rebuilds `sweep.json` from the cells' own files."""

        def text() -> str:
            entries = [_entry(self, job.cell) for job in self.jobs]
            return json.dumps(index_entries(self.name, self.command, entries), indent=1)

        self.place.write_index([job.cell.folder for job in self.jobs], text)


def plan_grid(
    folder: Path,
    models: Sequence[str],
    recipes: Sequence[str],
    seeds: int,
    load: Load,
    at: tuple[int, ...] = (),
) -> tuple[Job, ...]:
    """The jobs of a grid, all of them checked; seeds vary fastest, models slowest.

    Args:
        folder: the sweep's.
        models: as `--model` takes them.
        recipes: as `--recipe` takes them.
        seeds: how many, from 0.
        load: the configuration of a model, a recipe and a seed.
        at: steps whose checkpoints are evaluated too, where a cell keeps them.

    Raises:
        UserError: an unknown model or recipe, a bad setting, or two cells with the same folder.
    """
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: expected at least 1")
    jobs: dict[Path, Job] = {}
    for model in models:
        for recipe in recipes:
            for seed in range(seeds):
                job = plan_job(folder, model, load(model, recipe, seed), seed)
                place = job.cell.folder
                if place in jobs:
                    raise UserError(
                        f"{model} with {recipe}: another cell has the folder "
                        f"{place.relative_to(folder)}"
                    )
                jobs[place] = dataclasses.replace(job, at=at)
    steps = max((job.config.training.finetune_steps for job in jobs.values()), default=0)
    if at and max(at) > steps:
        raise UserError(f"--at {max(at)}: the longest run of the sweep has {steps} steps")
    return tuple(jobs.values())


def plan_job(folder: Path, model: str, config: Config, seed: int, recipe: str = "") -> Job:
    """The job of a configuration that was loaded for this model.

    Args:
        folder: the sweep's.
        model: as `--model` takes it.
        config: the run's.
        seed: the sweep's.
        recipe: what `sweep.json` calls the recipe; by default its own name.

    Raises:
        UserError: the user set SEED, which the sweep sets.
    """
    if config.training.seed != seed:
        raise UserError("--set SEED: a sweep sets SEED itself; say --seeds N")
    values, usual = _macros(config), _macros(load_config(model, "paper"))
    settings = {name: values[name] for name in values if values[name] != usual[name]}
    settings.pop("RECIPE", None)
    recipe = recipe or config.recipe
    name = config.model.name
    place = folder / name / recipe.replace("/", "-") / f"seed{seed}"
    return Job(Cell(name, recipe, seed, place, settings=settings), config)


def _macros(config: Config) -> dict[str, Any]:
    """The macros of a configuration as JSON gives them back."""
    read = macros.read_text(config.operative, "the configuration")
    values: dict[str, Any] = json.loads(json.dumps({name: read[name].value for name in read}))
    return values


def run(plan: Plan, only: int | None = None, processes: Processes | None = None) -> dict[str, str]:
    """Runs the cells one after the other and continues past failed ones.

    Args:
        plan: the sweep.
        only: the number of the one cell to run, from 0.
        processes: the processes that run each cell together; by default this one alone.

    Returns:
        What a failed cell is called -> why it failed, in one line.

    Raises:
        UserError: there is no such cell, or the sweep's folder cannot be written to.
        Preempted: SIGTERM arrived while a cell finetuned; its checkpoint is saved.
    """
    processes = processes or Processes()
    if only is not None and not 0 <= only < len(plan.jobs):
        raise UserError(f"--cell {only}: expected 0 to {len(plan.jobs) - 1}")
    if processes.leader:
        RunFolder(plan.folder).create()
        plan.write_index()
    failed = {}
    for number, job in enumerate(plan.jobs):
        if only in (None, number):
            screen = _CellScreen(number, len(plan.jobs)) if processes.leader else Silence()
            screen.note(job.cell.words)
            if reason := _attempt(plan, job, screen, processes):
                screen.note(f"failed: {reason}")
                failed[job.cell.words] = reason
    return failed


def _attempt(plan: Plan, job: Job, screen: Screen | Silence, processes: Processes) -> str:
    """Runs a cell and writes its `cell.json`; returns why it failed, or an empty text."""
    run = plan.place.run(job.cell.folder)
    try:
        with _held(run, screen, processes):
            cell = dataclasses.replace(job.cell, state="done")
            try:
                steps = _bring_up_to_date(plan, job, run, screen, processes)
                cell = dataclasses.replace(cell, steps=steps)
                (run.path / "failure.txt").unlink(missing_ok=True)
            except Preempted:
                raise
            except Exception as error:
                if processes.size > 1:  # the other processes need not have failed, and would wait
                    raise
                cell = dataclasses.replace(cell, state="failed", error=_in_a_line(error))
                paths.write_atomically(run.path / "failure.txt", traceback.format_exc())
            if processes.leader:
                cell = dataclasses.replace(cell, seconds=_seconds(run))
                text = json.dumps({"format": FORMAT, **cell.as_json(plan.folder)}, indent=1)
                paths.write_atomically(run.path / "cell.json", text)
                run.publish()
                plan.write_index()
    except UserError as error:  # another process has the folder, or it cannot be written to
        if processes.size > 1:
            raise
        return str(error)
    except OSError as error:
        raise UserError(f"cannot write to {plan.folder}: {error.strerror or error}") from None
    return cell.error


@contextlib.contextmanager
def _held(run: RunFolder, screen: Screen | Silence, processes: Processes) -> Iterator[None]:
    """Creates and locks the run folder in the process that owns it."""
    with run.fetched(screen.note, leader=processes.leader):
        if not processes.leader:
            yield
            return
        run.create()
        with run.lock():
            yield


def _bring_up_to_date(
    plan: Plan, job: Job, run: RunFolder, screen: Screen | Silence, processes: Processes
) -> dict[str, Path]:
    """Runs the stages of a cell and evaluates its kept checkpoints.

    Returns:
        Step -> folder of the evaluation of that step's checkpoint.
    """
    pipeline = Pipeline(
        all_stages(),
        job.config,
        run,
        screen,
        any_code=plan.any_code,
        redo=plan.redo,
        processes=processes,
        reusable_runs=[RunFolder(other.cell.folder) for other in plan.jobs if other is not job],
    )
    names = job.stages or tuple(pipeline.stages)
    summaries = [name for name in names if pipeline.stages[name].top_level]
    with tracking.tracked(pipeline, job.cell.words):
        pipeline.until(*(name for name in names if name not in summaries))
        steps = {
            str(step): job.cell.folder / name
            for step, name in _evaluate_steps(pipeline, job.at).items()
        }
        for name in summaries:  # they show the evaluations of kept checkpoints, too
            pipeline.summarise(name)
    return steps


def _evaluate_steps(pipeline: Pipeline, steps: Sequence[int]) -> dict[int, str]:
    """Evaluates a run's kept checkpoints; returns step -> name of the evaluation's folder."""
    finetuned = Path(pipeline.run.stage("finetune"))
    manifest = pipeline.run.manifest("finetune") or {}
    last = manifest.get("counts", {}).get("checkpoint")
    folders = {}
    for step in steps:
        name = f"checkpoints/{step}"
        if name == last:
            folders[step] = "evaluate_after"
        elif pipeline.processes.broadcast(functools.partial(Path.is_dir, finetuned / name)):
            stage = EvaluateCheckpoint(str(finetuned / name), pipeline.run)
            pipeline.until_extra(stage)
            folders[step] = stage.name
        else:
            pipeline.screen.note(f"note: no checkpoint of step {step} was kept; it is left out")
    return folders


def _in_a_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    if isinstance(error, UserError):
        return words
    return f"{type(error).__name__}: {words[:500]}" if words else type(error).__name__


def _seconds(run: RunFolder) -> float:
    """The time of the run's own stages, without those linked from other runs."""
    read = [run.manifest(path.parent.name) for path in run.path.glob(f"*/{manifests.NAME}")]
    return round(sum(one["seconds"] for one in read if one and "taken_from" not in one), 3)


def _entry(plan: Plan, cell: Cell) -> dict[str, Any]:
    """What a cell's file says, unless it is of other settings or its results are gone."""
    waiting = cell.as_json(plan.folder)
    entry, _ = json_files.read_object(cell.folder / "cell.json")
    if entry is None:
        return waiting
    same = all(entry.get(name) == waiting[name] for name in ("model", "recipe", "seed", "settings"))
    undone = entry.get("state") == "done" and not (cell.folder / "metrics.json").exists()
    if not same or undone or entry.pop("format", None) != FORMAT:
        return waiting
    return entry | {"folder": waiting["folder"]}


class _CellScreen(Screen):
    """Puts the number of the cell before every line."""

    def __init__(self, number: int, count: int) -> None:
        super().__init__()
        self._position = f"[{number + 1}/{count}]"

    def note(self, text: str) -> None:
        super().note(f"{self._position} {text}")

    @contextlib.contextmanager
    def meter(self, name: str, unit: str, total: int | None = None) -> Iterator[Meter]:
        with super().meter(f"{self._position} {name}", unit, total) as meter:
            yield meter
