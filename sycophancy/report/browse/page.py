"""The page of items: one html file with search and filters that loads nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sycophancy.evaluation import naming
from sycophancy.report import pages
from sycophancy.report.browse.answers import TURNS, Asked
from sycophancy.report.evaluations import Evaluations
from sycophancy.report.run.examples import choice_words


def render(run: Evaluations, evaluations: Sequence[str], asked: Sequence[Asked]) -> str:
    """The page as text, with these items of a run."""
    return pages.render(
        "browse.html.j2", {"run": run, "data": data(evaluations, asked), "count": len(asked)}
    )


def data(evaluations: Sequence[str], asked: Sequence[Asked]) -> dict[str, Any]:
    """What the page's script reads, as JSON values; texts that recur are listed once.

    Entries of `items`: id, index of the task, index of the condition, pair id, prompt, index of the
    choices, index of the right choice (-1: none), indices of the user's choices, bits of the turns
    by finetuning, and for each evaluation null or [choice, right (1, 0 or null), the user's
    (likewise), probabilities, bits of the turns by the user]. Bit i stands for `turns[i]`.
    """
    tasks, conditions, choices = _Index(), _Index(), _Index()
    items = []
    for one in asked:
        item = one.item
        words = tuple(choice_words(item, choice) for choice in item.choices)
        items.append([
            item.item_id, tasks[item.task], conditions[item.condition], item.pair_id, item.inputs,
            choices[words], item.answer, item.user_choices if item.condition != "neutral" else (),
            _bits(one.flipped), *(_answer(one, name) for name in evaluations),
        ])  # fmt: skip
    return {
        "evaluations": list(evaluations),
        "turns": TURNS,
        "tasks": [[task, naming.task_words(task)] for task in tasks],
        "conditions": list(conditions),
        "choices": list(choices),
        "items": items,
    }


def _answer(one: Asked, evaluation: str) -> list[Any] | None:
    if (given := one.answers.get(evaluation)) is None:
        return None
    right, users = (
        None if mark is None else int(mark) for mark in (given.is_right, given.is_users)
    )
    probabilities = [round(share, 4) for share in given.shares]
    return [given.choice, right, users, probabilities, _bits(one.swayed[evaluation])]


def _bits(turned: frozenset[str]) -> int:
    return sum(1 << bit for bit, turn in enumerate(TURNS) if turn in turned)


class _Index(dict[Any, int]):
    """Numbers values in the order in which they are first asked for."""

    def __missing__(self, value: Any) -> int:
        self[value] = number = len(self)
        return number
