"""MMLU and BIG-Bench Hard as the LM evaluation harness defines them, on rows that are given.

The definitions are the harness's own: `mmlu` (the letters' likelihoods), `bbh_fewshot` and
`bbh_cot_fewshot` (greedy decoding, exact match). Only where the rows come from is replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import lm_eval.tasks
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from sycophancy.data.retention_rows import Family
from sycophancy.evaluation.retention import Answer
from sycophancy.harness.adapter import HarnessModel

Rows = Mapping[str, Sequence[Mapping[str, Any]]]  # the name of a split -> its rows

LETTERS = "ABCD"


@dataclasses.dataclass(frozen=True)
class Tasks:
    """The harness's tasks that make up a variant.

    Attributes:
      variant: the variant's name.
      family: whose rows it asks.
      prefix: a task is called by this and the subject.
      examples: the number of examples before each question.
      filter: the harness's filter whose result counts.
    """

    variant: str
    family: Family
    prefix: str
    examples: int
    filter: str


ALL_TASKS = (
    Tasks("mmlu_5shot", "mmlu", "mmlu_", 5, "none"),
    Tasks("mmlu_0shot", "mmlu", "mmlu_", 0, "none"),
    Tasks("bbh_direct_3shot", "bbh", "bbh_fewshot_", 3, "none"),
    Tasks("bbh_cot_3shot", "bbh", "bbh_cot_fewshot_", 3, "get-answer"),
)


@functools.cache
def manager() -> TaskManager:
    """The harness's index of MMLU and BIG-Bench Hard alone; that of all tasks takes seconds."""
    folder = Path(lm_eval.tasks.__file__).parent
    return TaskManager(
        include_path=[folder / "mmlu" / "default", folder / "bbh"], include_defaults=False
    )


def subjects(family: Family) -> list[str]:
    """The subjects of MMLU or the tasks of BIG-Bench Hard, without the harness's prefix."""
    prefix = next(tasks.prefix for tasks in ALL_TASKS if tasks.family == family)
    return [name.removeprefix(prefix) for name in manager().all_subtasks if name.startswith(prefix)]


def ask(
    model: HarnessModel,
    tasks: Tasks,
    rows: Mapping[str, Rows],
    limit: int | None = None,
    **overrides: Any,
) -> list[Answer]:
    """What a model answers to the rows of a variant.

    Args:
      model: the model.
      tasks: the variant.
      rows: subject -> split -> rows with the columns of the published data set. MMLU has the splits
        `dev` and `test`, BIG-Bench Hard has `test`.
      limit: the number of rows that are asked of each subject, the first ones; None: all.
      **overrides: further values of the harness's task definitions.
    """
    group = {
        "group": f"retention_{tasks.variant}",
        "task": [
            {
                "task": tasks.prefix + subject,
                "num_fewshot": tasks.examples,
                "custom_dataset": functools.partial(_given, splits),
                **overrides,
            }
            for subject, splits in rows.items()
        ],
    }
    with _silence():
        results = evaluate(
            model, manager().load([group]), limit=limit, bootstrap_iters=0, log_samples=True
        )
    return [
        _answer(tasks, name.removeprefix(tasks.prefix), sample)
        for name, samples in results["samples"].items()
        for sample in samples
        if sample["filter"] == tasks.filter
    ]


def _given(splits: Rows, **_: Any) -> dict[str, Any]:
    """The rows as the harness wants them, in place of a download."""
    from datasets import Dataset

    return {split: Dataset.from_list([dict(row) for row in rows]) for split, rows in splits.items()}


def _answer(tasks: Tasks, subject: str, sample: Mapping[str, Any]) -> Answer:
    row = int(sample["doc_id"])
    if tasks.family == "mmlu":
        likelihoods = tuple(float(value) for value, _ in sample["filtered_resps"])
        given = LETTERS[max(range(len(likelihoods)), key=likelihoods.__getitem__)]
        right, answer = bool(sample["acc"]), LETTERS[int(sample["target"])]
        return Answer(tasks.variant, subject, row, answer, given, likelihoods, right)
    (given,) = sample["filtered_resps"]
    right = bool(sample["exact_match"])
    return Answer(tasks.variant, subject, row, str(sample["target"]), given, (), right)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps the harness's log and its bars, which have no switch, off the terminal."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with mock.patch("lm_eval.api.task.tqdm", _without_bar):
            yield
    finally:
        logger.setLevel(level)


def _without_bar(rows: Iterable[Any], **_: Any) -> Iterable[Any]:
    return rows
