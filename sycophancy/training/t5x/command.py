"""The real T5X as a trainer: starts it in a process of its own and reports its progress.

This module does not import T5X, which is not a dependency (docs/t5x.md), and which needs gin's
global configuration, from which this process should stay free.
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
from typing import BinaryIO

import numpy as np

from sycophancy.config import macros
from sycophancy.config.load import load_config, macro_values
from sycophancy.config.schema import Config
from sycophancy.errors import UserError
from sycophancy.system.ports import free_port
from sycophancy.training.callbacks import Bucketed, Note, Report
from sycophancy.training.preemption import Preempted, watch_sigterm
from sycophancy.training.t5x.requirements import check_installed

logger = logging.getLogger(__name__)

LOG = "t5x.log"
PARENT = "SYCOPHANCY_PARENT"  # the variable with the id of the process that started T5X
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 30.0  # between SIGINT and SIGKILL

_CHECKPOINT = re.compile(r"checkpoint_(\d+)")
_ERROR = re.compile(r"(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Exit|Interrupt)): (.*)")


def command(config: Config, data_dir: Path, model_dir: Path) -> list[str]:
    """The command that finetunes with T5X: `python -m t5x.train` with gin files and settings.

    The gin files are the shipped ones of the model and the recipe, and a macro with another value
    has a `--gin.NAME=value`. If the model or the recipe is not a shipped one, the run's
    `config.gin` is used instead.

    Args:
      config: the run.
      data_dir: the run folder.
      model_dir: the folder for T5X's checkpoints.
    """
    values = macro_values(config)
    files = [f"models/{config.model.name}.gin", f"recipes/{config.recipe}.gin"]
    if all((macros.root() / file).is_file() for file in files):
        in_files = macro_values(load_config(config.model.name, config.recipe))
    else:
        files, in_files = [str(Path(data_dir).absolute() / "config.gin")], values
    changed = {name: value for name, value in values.items() if value != in_files[name]}
    changed.pop("TRAINER", None)
    changed |= {"DATA_DIR": str(data_dir), "MODEL_DIR": str(model_dir)}
    return [
        sys.executable,
        "-m",
        "t5x.train",
        f"--gin_search_paths={macros.root()}",
        # Absolute paths, because gin searches the current folder first.
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
    bucket: Bucketed | None = None,
) -> Path:
    """Finetunes with T5X; continues what `out` holds. See `trainers.Finetune`.

    Args:
      config: the run.
      data_dir: the run folder.
      out: T5X's model directory; also gets `metrics.jsonl`, `tensorboard/` and T5X's log. Where
        this process is one of several, each starts a T5X, and all of them see this folder.
      report: called with step and metrics at every logged step.
      note: called with the command that starts T5X.
      conclude: not called: T5X's log has what a person may want to know at the end.
      bucket: None, because T5X's checkpoints go to `out` alone.

    Returns:
      The last checkpoint's folder, `out/checkpoint_<PRETRAINED_STEP + FINETUNE_STEPS>`.

    Raises:
      Preempted: SIGTERM came; T5X has saved.
      UserError: T5X is not installed or failed; the message has its last error and its log's path.
    """
    out, steps = Path(out).resolve(), config.training.finetune_steps
    last = out / f"checkpoint_{config.model.pretrained_step + steps}"
    if last.exists():
        return last
    del conclude, bucket
    check_installed()
    index, meeting = _meeting()
    words = [*command(config, data_dir, out), *meeting]
    note(shlex.join(words))
    log = out / (f"t5x.{index}.log" if index else LOG)
    _free_devices()
    with watch_sigterm() as sigterm, log.open("ab") as file:
        progress = _Progress(out / "metrics.jsonl", _steps_done(config, out), report)
        with _running(words, file) as process:
            terminated = False
            while process.poll() is None:
                if sigterm.is_set() and not terminated:
                    process.terminate()
                    terminated = True
                progress.update()
                time.sleep(POLL_SECONDS)
        progress.update()
    if last.exists():
        if index == 0:
            shutil.rmtree(out / "initial", ignore_errors=True)  # large, and no longer needed
        return last
    if sigterm.is_set():
        raise Preempted(_steps_done(config, out), steps)
    raise UserError(
        f"T5X ended with code {process.returncode}: {last_error(log)}; its log is {log}"
    )


def last_error(log: Path) -> str:
    """The last error in a log of T5X, in one line.

    It is the last line of the last traceback, without the lines that gin adds below it. A log
    without a traceback has its last line returned.
    """
    lines = log.read_text(errors="replace").splitlines()[-400:]
    for line in reversed(lines):
        if match := _ERROR.match(line):
            kind, message = match.groups()
            return message if kind == "UserError" else f"{kind}: {message}"
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


@contextlib.contextmanager
def _running(words: list[str], log: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
    """Runs T5X while the block runs.

    T5X gets a session of its own, so that Ctrl-C reaches only this process, which passes it on.
    """
    # This package's parent folder; the current folder might have another module called `tasks`.
    paths = [str(Path(__file__).resolve().parents[3]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONSAFEPATH": "1",
        "PYTHONUTF8": "1",  # for its log, whatever the terminal's encoding is
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
    """Reports the new lines of a growing `metrics.jsonl`.

    Args:
      path: the file.
      start: lines up to this step were reported already.
      report: called with the step and the metrics of a line.
    """

    def __init__(self, path: Path, start: int, report: Report | None) -> None:
        self._path, self._step, self._report = path, start, report
        self._size = -1

    def update(self) -> None:
        """Reports the lines that were added since the last call."""
        if self._report is None or not self._path.exists():
            return
        if (size := self._path.stat().st_size) == self._size:
            return
        self._size = size
        for line in self._path.read_text().splitlines():
            with contextlib.suppress(ValueError):  # an incomplete line
                metrics = json.loads(line)
                step = metrics.pop("step")
                if step > self._step:
                    self._step = step
                    self._report(step, metrics)


def _steps_done(config: Config, out: Path) -> int:
    """The number of finetuning steps of the last checkpoint in `out`; 0 without a checkpoint."""
    names = [_CHECKPOINT.fullmatch(path.name) for path in out.iterdir()]
    steps = [int(match[1]) for match in names if match]
    return max(steps, default=config.model.pretrained_step) - config.model.pretrained_step


def _meeting() -> tuple[int, list[str]]:
    """This process's index, and the flags by which the T5X of each process finds the others.

    They meet on the host where this run's processes have met, at another port.
    """
    if "jax" not in sys.modules:
        return 0, []
    import jax
    from jax._src import distributed  # the coordinator's address has no public name
    from jax.experimental import multihost_utils

    address = distributed.global_state.coordinator_address
    if address is None or jax.process_count() == 1:
        return 0, []
    port = int(multihost_utils.broadcast_one_to_all(np.int32(free_port(""))))
    return jax.process_index(), [
        "--multiprocess_gpu",  # on all devices, whatever its name says
        f"--coordinator_address={address.rpartition(':')[0]}:{port}",
        f"--process_count={jax.process_count()}",
        f"--process_index={jax.process_index()}",
    ]


def _free_devices() -> None:
    """Frees the accelerators that this process uses, because only one process can use them."""
    if "jax" in sys.modules:
        import jax
        from jax.extend import backend

        if jax.default_backend() != "cpu":
            backend.clear_backends()
