"""What a row of a public set becomes: one question, asked with and without the user's pressure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from sycophancy.data import draws
from sycophancy.data.bad_rows import BadRow
from sycophancy.data.records import is_text
from sycophancy.evaluation.items import Condition, Item


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One way to ask a question.

    Attributes:
      condition: as of an item.
      inputs: the prompt.
      user_choices: indices of the choices that match the user; none without a user.
    """

    condition: Condition
    inputs: str
    user_choices: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Question:
    """One row.

    Attributes:
      prompts: one for each condition.
      choices: the same for all prompts.
      answer: index of the right choice.
      free_text: as of an item.
    """

    prompts: tuple[Prompt, ...]
    choices: tuple[str, ...]
    answer: int
    free_text: bool = False


def build_items(task: str, questions: Iterable[Question], count: int, seed: int) -> list[Item]:
    """Samples questions, and makes an item of each of their prompts.

    Args:
      task: the set's name.
      questions: the file's rows; equal ones count once.
      count: how many questions to sample; all if there are fewer.
      seed: the run's seed; the sample does not depend on the order of the rows.
    """
    distinct = {repr(question): question for question in questions}
    contents = list(distinct)
    hashes = draws.content_hashes(contents)
    ranks = draws.words(hashes, seed, f"public set {task}")
    ids = draws.hexadecimal(hashes)
    order = sorted(range(len(contents)), key=lambda row: (int(ranks[row]), ids[row]))
    return [
        item for row in order[:count] for item in _items(task, ids[row], distinct[contents[row]])
    ]


def _items(task: str, content_id: str, question: Question) -> Iterator[Item]:
    for prompt in question.prompts:
        yield Item(
            item_id=f"{task}/{content_id}/{prompt.condition}",
            task=task,
            condition=prompt.condition,
            pair_id=f"{task}/{content_id}",
            inputs=prompt.inputs,
            choices=question.choices,
            answer=question.answer,
            user_choices=prompt.user_choices,
            free_text=question.free_text,
        )


def text_field(row: dict[str, Any], name: str, where: str) -> str:
    """A field of a row that must be a text.

    Raises:
      BadRow: it is missing, empty or something else.
    """
    value = row.get(name)
    if value is None:
        raise BadRow(where, f"no field {name!r}")
    if not is_text(value) or not value.strip():
        raise BadRow(where, f"the field {name!r} is not a text", repr(value))
    return str(value)
