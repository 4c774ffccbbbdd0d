"""Real T5X as the trainer: the command that runs it, in a process of its own, and its progress.

T5X is no dependency (docs/t5x.md), and gin's global configuration, which it needs, is not for a
process that goes on; so nothing of it is imported here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sycophancy.config import macros
from sycophancy.config.load import load_config, macro_values
from sycophancy.config.schema import Config
from sycophancy.errors import UserError
from sycophancy.training.callbacks import Note, Report
from sycophancy.training.preemption import Preempted, watch_sigterm
from sycophancy.training.t5x.requirements import check_installed

logger = logging.getLogger(__name__)

LOG = "t5x.log"
PARENT = "SYCOPHANCY_PARENT"  # the process that started T5X, which ends with it
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 30.0  # after Ctrl-C, before the process is killed

_CHECKPOINT = re.compile(r"checkpoint_(\d+)")
_ERROR = re.compile(r"(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Exit|Interrupt)): (.*)")


def command(config: Config, data_dir: Path, model_dir: Path) -> list[str]:
    """What a person would type to finetune with T5X: `python -m t5x.train` and the recipe's files.

    The model's and the recipe's shipped gin files, and a `--gin.NAME=value` for every macro that
    differs from them; for a model or recipe of the user's own, the run's `config.gin` instead.

    Args:
      config: the run.
      data_dir: the run folder.
      model_dir: gets T5X's checkpoints.
    """
    wanted = macro_values(config)
    files = [f"models/{config.model.name}.gin", f"recipes/{config.recipe}.gin"]
    if all((macros.root() / file).is_file() for file in files):
        said = macro_values(load_config(config.model.name, config.recipe))
    else:
        files, said = [str(Path(data_dir).absolute() / "config.gin")], wanted
    changed = {name: value for name, value in wanted.items() if value != said[name]}
    changed.pop("TRAINER", None)
    changed |= {"DATA_DIR": str(data_dir), "MODEL_DIR": str(model_dir)}
    return [
        sys.executable,
        "-m",
        "t5x.train",
        f"--gin_search_paths={macros.root()}",
        # Whole paths, since gin looks into the current folder first.
        *(f"--gin_file={macros.root() / file}" for file in [*files, "trainers/t5x.gin"]),
        *(f"--gin.{name}={value!r}" for name, value in changed.items()),
    ]


def finetune(
    config: Config,
    data_dir: Path,
    out: Path,
    *,
    report: Report | None = None,
    note: Note = logger.warning,
    conclude: Note = logger.warning,
) -> Path:
    """Finetunes with T5X; continues what `out` holds. See `trainers.Finetune`.

    Args:
      config: the run.
      data_dir: the run folder.
      out: T5X's model directory; also gets `metrics.jsonl`, `tensorboard/` and T5X's log.
      report: called with step and metrics at every logged step.
      note: called with the command that starts T5X.
      conclude: not called: T5X's log has what a person may want to know at the end.

    Returns:
      The last checkpoint's folder, `out/checkpoint_<PRETRAINED_STEP + FINETUNE_STEPS>`.

    Raises:
      Preempted: SIGTERM came; T5X saved.
      UserError: T5X is missing or failed; the message has its last error and the log's path.
    """
    out, steps = Path(out).resolve(), config.training.finetune_steps
    last = out / f"checkpoint_{config.model.pretrained_step + steps}"
    if last.exists():
        return last
    del conclude
    check_installed()
    words = command(config, data_dir, out)
    note(shlex.join(words))
    log = out / LOG
    _free_devices()
    with watch_sigterm() as told, log.open("ab") as file:
        progress = _Progress(out / "metrics.jsonl", _steps_done(config, out), report)
        with _running(words, file) as process:
            passed_on = False
            while process.poll() is None:
                if told.is_set() and not passed_on:
                    process.terminate()
                    passed_on = True
                progress.tell()
                time.sleep(POLL_SECONDS)
        progress.tell()
    if last.exists():
        shutil.rmtree(out / "initial", ignore_errors=True)  # as large as the model, and done with
        return last
    if told.is_set():
        raise Preempted(_steps_done(config, out), steps)
    raise UserError(
        f"T5X ended with code {process.returncode}: {last_error(log)}; its log is {log}"
    )


def last_error(log: Path) -> str:
    """The last error that a log of T5X has, in one line.

    It is what stands at the end of the last traceback, without what gin adds below; else the last
    line.
    """
    lines = log.read_text(errors="replace").splitlines()[-400:]
    for line in reversed(lines):
        if match := _ERROR.match(line):
            kind, message = match.groups()
            return message if kind == "UserError" else f"{kind}: {message}"
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


@contextlib.contextmanager
def _running(words: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """T5X in its own session, so that Ctrl-C reaches it once, from here; it ends with the block."""
    # The package's own parent, and not the folder we are in, which might have a `tasks` too.
    paths = [str(Path(__file__).resolve().parents[3]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONSAFEPATH": "1",
        "PYTHONUTF8": "1",  # its log is a file, whatever this terminal's encoding is
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        PARENT: str(os.getpid()),
    }
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()


class _Progress:
    """Passes on the lines of a growing `metrics.jsonl`, each step once."""

    def __init__(self, path: Path, start: int, report: Report | None) -> None:
        self._path, self._step, self._report = path, start, report
        self._size = -1

    def tell(self) -> None:
        if self._report is None or not self._path.exists():
            return
        if (size := self._path.stat().st_size) == self._size:
            return
        self._size = size
        for line in self._path.read_text().splitlines():
            with contextlib.suppress(ValueError):  # a line that is being written
                metrics = json.loads(line)
                step = metrics.pop("step")
                if step > self._step:
                    self._step = step
                    self._report(step, metrics)


def _steps_done(config: Config, out: Path) -> int:
    """Finetuning steps of the last checkpoint in `out`; 0 without one."""
    names = [_CHECKPOINT.fullmatch(path.name) for path in out.iterdir()]
    steps = [int(match[1]) for match in names if match]
    return max(steps, default=config.model.pretrained_step) - config.model.pretrained_step


def _free_devices() -> None:
    """Gives back what an earlier stage of this process holds: an accelerator serves one process."""
    if "jax" in sys.modules:
        import jax
        from jax.extend import backend

        if jax.default_backend() != "cpu":
            backend.clear_backends()
