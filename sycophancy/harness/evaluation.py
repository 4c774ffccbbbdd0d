"""Any task of the LM evaluation harness on a model of this project."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable, make_table

from sycophancy.errors import UserError, did_you_mean
from sycophancy.harness.adapter import HarnessModel


def evaluate_tasks(
    model: HarnessModel,
    tasks: Sequence[str],
    *,
    num_fewshot: int | None = None,
    limit: int | None = None,
    include_path: str | None = None,
) -> dict[str, Any]:
    """The harness's results, with a sample for every question under `samples`.

    Args:
      model: the model to ask.
      tasks: names of tasks, groups or tags.
      num_fewshot: examples before each question; None: as the task says.
      limit: questions of each task, the first ones; None: all.
      include_path: a folder with further task definitions.

    Raises:
      UserError: a task is unknown, its data cannot be loaded, or it asks for what the model cannot
        do.
    """
    with _quiet():
        manager = TaskManager(include_path=include_path)
        for task in tasks:
            if task not in manager.task_index:
                hint = did_you_mean(task, manager.all_tasks)
                raise UserError(
                    f"the harness has no task {task}{hint or '; see `lm-eval ls tasks`'}"
                )
        try:
            results: dict[str, Any] = simple_evaluate(
                model,
                tasks=list(tasks),
                num_fewshot=num_fewshot,
                limit=limit,
                task_manager=manager,
                bootstrap_iters=1_000,
            )
        except (OSError, ConnectionError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"the rows of {', '.join(tasks)} cannot be loaded: {reason}") from error
    return results


def in_words(results: dict[str, Any]) -> str:
    """The harness's tables of results, of tasks and of groups."""
    tables = [make_table(results)]
    if results.get("groups"):
        tables.append(make_table(results, "groups"))
    return "\n".join(tables)


def write(out: Path, results: dict[str, Any]) -> None:
    """Writes `results.json` and, for each task, `samples_TASK.jsonl`.

    Raises:
      UserError: the folder cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for task, samples in results["samples"].items():
            lines = [json.dumps(sample, default=handle_non_serializable) for sample in samples]
            name = f"samples_{task.replace('/', '_')}.jsonl"
            (out / name).write_text("".join(f"{line}\n" for line in lines))
        rest = {name: value for name, value in results.items() if name != "samples"}
        text = json.dumps(rest, indent=1, default=handle_non_serializable)
        (out / "results.json").write_text(text)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps all but the harness's errors off the terminal, and the harness in this process.

    It would bootstrap in forked processes, and a fork of a process that uses JAX may hang.
    """
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with mock.patch.dict(os.environ, DISABLE_MULTIPROC="1"):
            yield
    finally:
        logger.setLevel(level)
