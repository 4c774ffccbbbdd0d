"""A whole run from Python: the stages, folder and results of `sycophancy run`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sycophancy.engine import distributed
from sycophancy.engine.distributed import Processes
from sycophancy.engine.pipeline import Pipeline
from sycophancy.engine.progress import Screen, Silence
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.evaluation.metric_files import read_series
from sycophancy.evaluation.metrics import Metric
from sycophancy.library import tracking
from sycophancy.library.request import RunRequest
from sycophancy.report import PAGE
from sycophancy.stages.order import all_stages
from sycophancy.system import terminal
from sycophancy.training import preemption

if typing.TYPE_CHECKING:
    from etils import epath

_LISTS = ("data_sets", "public_sets")
_PATHS_OR_NAMES = (
    *("data_mirror", "surveys", "instructions", "public_sets_from"),
    *("on_bad_row", "chat", "trainer", "mesh", "wandb", *_LISTS),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A complete run.

    Attributes:
        folder: its folder, as docs/architecture.md describes it; for a run in a bucket, the copy
            on this machine.
        metrics: `before` and `after` finetuning -> metric's name -> its value, 95% interval
            (`low`, `high`) and number of items `n`.
        report: the html page about the run.
    """

    folder: Path | epath.Path
    metrics: Mapping[str, Mapping[str, Metric]] = dataclasses.field(repr=False)
    report: Path | epath.Path


def run(
    *,
    model: str | None = None,
    recipe: str | None = None,
    name: str | None = None,
    out: str | os.PathLike[str] | None = None,
    any_code: bool = False,
    redo: Sequence[str] = (),
    show_progress: bool = False,
    **settings: object,
) -> Run:
    """Starts or continues a run, from the data to the report, as `sycophancy run` does.

    Stages that are up to date are not run again, so the same call reads the results of a complete
    run. It works in one process, changes no signal handler and prints nothing unless asked to.

    Args:
        model: as `--model`; without it, the run exists and its own configuration is used.
        recipe: as `--recipe`; by default `paper`.
        name: the run's folder is `runs/NAME`; by default MODEL-RECIPE-seedN.
        out: the run's folder itself, or its address in a bucket, instead of `name`.
        any_code: keep complete stages that other code made.
        redo: stages that may replace what they saved: `finetune`.
        show_progress: print progress and notes on standard error.
        **settings: macros in small letters (`finetune_steps=100`), and the options `seed`, `mesh`,
            `trainer`, `data_mirror`, `surveys`, `instructions`, `evaluation`, `public_sets`,
            `public_sets_from`, `data_sets`, `data_set`, `on_bad_row` and `wandb`.

    Raises:
        UserError: the line that the command would end with.
    """
    if distributed.is_shared():
        raise UserError(
            "sycophancy.run works in one process, and the environment says that this is one of "
            "several; use the command `sycophancy run`, or unset those variables"
        )
    request = _requested(
        settings,
        model=model,
        recipe=recipe,
        name=name,
        out=None if out is None else os.fspath(out),
        any_code=any_code,
        redo=tuple(redo),
    )
    screen = Screen() if show_progress else Silence()
    with (
        terminal.silent_tensorflow(),
        preemption.signals_left_alone(),
        opened(request, screen) as pipeline,
    ):
        pipeline.until(*pipeline.stages)
        return _complete(pipeline)


@contextlib.contextmanager
def opened(
    request: RunRequest, screen: Screen | Silence, processes: Processes | None = None
) -> Iterator[Pipeline]:
    """A run's pipeline, while its folder is locked; bad input leaves no new folder behind.

    Args:
        request: the run.
        screen: where progress is shown.
        processes: the processes of the run, of which the leader owns the folder; by default one.

    Raises:
        UserError: the request is no run, or its folder cannot be written to or is in use.
    """
    processes = processes or Processes()
    folder = RunFolder(request.folder(), processes.index)
    terminal.check_names(str(folder.path.absolute()))
    with folder.fetched(screen.note, leader=processes.leader):
        pipeline = Pipeline(
            all_stages(),
            request.config(folder.path),
            folder,
            screen,
            any_code=request.any_code,
            redo=request.redo or (),
            processes=processes,
        )
        if not processes.leader:
            yield pipeline
            return
        if request.wandb is not None:
            tracking.check_installed(request.wandb)
        is_new = folder.create()
        with folder.lock():
            try:
                with tracking.tracked(pipeline, folder.name):
                    yield pipeline
            except UserError:
                if is_new:
                    folder.remove_if_empty()
                raise


def _requested(settings: Mapping[str, typing.Any], **known: typing.Any) -> RunRequest:
    """The request that keyword arguments make: options by their names, macros in small letters."""
    options: dict[str, typing.Any] = {}
    bindings = []
    for name, value in settings.items():
        if name in _LISTS and not isinstance(value, str) and isinstance(value, Sequence):
            options[name] = ",".join(map(str, value))
        elif name in ("evaluation", "data_set"):
            files = [value] if isinstance(value, str | os.PathLike) else value
            options[name] = tuple(map(os.fspath, files))
        elif name in ("seed", "limit"):
            options[name] = value
        elif name in _PATHS_OR_NAMES and isinstance(value, str | os.PathLike):
            options[name] = os.fspath(value)
        else:  # a macro, or an option's macro, such as `mesh=(1, 4, 1)`
            bindings.append(f"{name.upper()}={value!r}")
    return RunRequest(**known, **options, set_=tuple(bindings))


def _complete(pipeline: Pipeline) -> Run:
    folder = pipeline.run.path
    return Run(folder, read_series(folder), folder / PAGE)
