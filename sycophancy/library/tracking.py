"""Shows a run on Weights & Biases (W&B) while it works, if WANDB_PROJECT is set.

Nothing that goes wrong there stops the run: one line says what it was. W&B is started when there is
something to send, so a run that is refused leaves no trace of it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import secrets
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sycophancy.config.load import macro_values
from sycophancy.engine.progress import Meter, Screen, Silence
from sycophancy.errors import UserError
from sycophancy.report import PAGE
from sycophancy.system import json_files, paths

if typing.TYPE_CHECKING:
    from sycophancy.engine.pipeline import Pipeline

STATE = "wandb.json"  # in the run folder: the project and the id of the run there
JOURNAL = "finetune/metrics.jsonl"
START_SECONDS, FINISH_SECONDS = 30.0, 120.0  # waited for W&B, before the run goes on without it
INSTALL = "pip install -e '.[wandb]'"


def check_installed(project: str) -> None:
    """Refuses the option `--wandb` where W&B is missing.

    Raises:
        UserError: as above.
    """
    if not _installed():
        raise UserError(
            f"--wandb {project} needs the package wandb, which is not installed: {INSTALL}, or "
            "leave out --wandb"
        )


@contextlib.contextmanager
def tracked(pipeline: Pipeline, name: str) -> Iterator[None]:
    """Sends training metrics as they are written, and results and report at the end of the block.

    Does nothing without WANDB_PROJECT, and in every process but the leader.

    Args:
        pipeline: the run's.
        name: what W&B calls the run.
    """
    project = pipeline.config.wandb_project
    if project is None or not pipeline.processes.leader:
        yield
        return
    tracker = _Tracker(pipeline, project, name)
    pipeline.screen = _WatchedScreen(pipeline.screen, tracker.send_training)
    complete = False
    try:
        yield
        complete = True
    finally:
        tracker.finish(complete)


class _Tracker:
    """The run on W&B, from the first thing that is sent to it."""

    def __init__(self, pipeline: Pipeline, project: str, name: str) -> None:
        self._folder, self._note = Path(pipeline.run.path), pipeline.screen.note
        self._config, self._is_redone = pipeline.config, bool(pipeline.redo)
        self._project, self._name = project, name
        self._run: Any = None
        self._lines_sent = 0
        self._failed = False

    def send_training(self) -> None:
        """Sends the lines of the journal that were written since the last call."""
        self._attempt(self._send_training)

    def finish(self, complete: bool) -> None:
        """Ends the run on W&B; of a complete one, first sends what is left, results and report."""
        if complete:
            self._attempt(self._send_training)
            self._attempt(self._send_results)
        if self._run is not None:
            self._attempt(lambda: self._run.finish(exit_code=0 if complete else 1))

    def _attempt(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except Exception as error:  # whatever W&B raises
            self._failed = True
            words = " ".join(str(error).split()) or type(error).__name__
            self._note(f"note: W&B does not show this run: {words[:300]}")

    def _send_training(self) -> None:
        if not (self._folder / JOURNAL).is_file():
            return
        text = (self._folder / JOURNAL).read_text(encoding="utf-8")
        lines = text[: text.rfind("\n") + 1].splitlines()  # a last one may be half written
        for line in lines[self._lines_sent :]:
            metrics = json.loads(line)
            step = metrics.pop("step")
            if step >= self._started().starting_step:  # the first that W&B does not have yet
                self._started().log(metrics, step=step)
        self._lines_sent = len(lines)

    def _send_results(self) -> None:
        metrics, page = self._folder / "metrics.json", self._folder / PAGE
        if metrics.is_file():
            self._started().summary.update(json_files.require_object(metrics, "evaluate again"))
        if page.is_file():
            import wandb

            self._started().summary["report"] = wandb.Html(str(page), inject=False)

    def _started(self) -> Any:
        """The run on W&B; starts or continues it at the first call."""
        if self._run is None:
            if not _installed():
                raise UserError(f"the package wandb is not installed ({INSTALL})")
            import wandb

            wandb.setup(settings=wandb.Settings(silent=True))  # or it would ask for a key and wait
            self._run = wandb.init(
                project=self._project,
                id=self._id(),
                resume="allow",
                name=self._name,
                dir=str(self._folder),
                config=macro_values(self._config),
                reinit="create_new",  # leaves a run of the caller's alone
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    disable_code=True,
                    disable_git=True,
                    init_timeout=START_SECONDS,
                    finish_timeout=FINISH_SECONDS,
                ),
            )
        return self._run

    def _id(self) -> str:
        """That of the run folder; a new one for another project or another finetuning."""
        path = self._folder / STATE
        state, _ = json_files.read_object(path) if path.exists() else (None, "")
        if state and state.get("project") == self._project and not self._is_redone:
            return str(state.get("id"))
        state = {"project": self._project, "id": secrets.token_hex(4)}
        paths.write_atomically(path, json.dumps(state) + "\n")
        return str(state["id"])


class _WatchedScreen(Silence):
    """A screen whose meters also call a function after every report of training metrics."""

    def __init__(self, screen: Screen | Silence, after_report: Callable[[], None]) -> None:
        self._screen, self._after_report = screen, after_report

    def note(self, text: str) -> None:
        """Prints a line on the screen."""
        self._screen.note(text)

    @contextlib.contextmanager
    def meter(self, name: str, unit: str, total: int | None = None) -> Iterator[Meter]:
        """A meter of the screen."""
        with self._screen.meter(name, unit, total) as meter:
            meter.after_report = self._after_report
            yield meter


def _installed() -> bool:
    """Whether `import wandb` finds the package, and not only a folder of that name."""
    spec = importlib.util.find_spec("wandb")
    return spec is not None and spec.origin is not None
