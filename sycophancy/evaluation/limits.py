"""Limits on items: the lengths of prompts and choices, and equal lengths of an item's choices."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sycophancy.evaluation.items import Item
from sycophancy.evaluation.measures import is_format

MAX_PROMPT_TOKENS = 2_048  # end of sequence included
MAX_CHOICE_TOKENS = 2_048  # sum over an item's choices, each with its end of sequence

PROMPT_LIMIT = f"{MAX_PROMPT_TOKENS:,} tokens a prompt"
CHOICE_LIMIT = f"{MAX_CHOICE_TOKENS:,} tokens of choices"
EQUAL_CHOICES = "choices of equal token counts"

Work = Literal["training", "scoring"]
Kind = Literal["claims", "instructions", "held-out items"]
CountTokens = Callable[[Sequence[str]], NDArray[np.int64]]  # of each text, end of sequence included


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """The rows of one data set or task that exceed a limit.

    Attributes:
      stage: what leaves the rows out: training or scoring.
      kind: what the rows are.
      name: the data set or task.
      dropped: number of rows left out.
      of: number of rows in all.
      limit: the limit in words.
    """

    stage: Work
    kind: Kind
    name: str
    dropped: int
    of: int
    limit: str


def longer_than(texts: Sequence[str], limit: int, count: CountTokens) -> NDArray[np.bool_]:
    """True for each text with more tokens than the limit, end of sequence included; shape (texts,).

    In ASCII, a text has at most one token per character, so short texts need not be tokenised.
    """
    longer = np.zeros(len(texts), np.bool_)
    # Two more tokens are possible: a leading space and the end of sequence.
    rows = [row for row, text in enumerate(texts) if len(text) + 2 > limit or not text.isascii()]
    if rows:
        longer[rows] = count([texts[row] for row in rows]) > limit
    return longer


def split_by_limits(items: Sequence[Item], count: CountTokens) -> tuple[list[Item], list[LeftOut]]:
    """The items that can be scored, in their order, and the counts of the others by task and limit.

    An item is left out together with the other items of its pair, which it is compared with. Tasks
    that are formats of choices are not checked for equal choices here: all items of such a task
    have the same choices, so the whole task is left out or none of it.
    """
    beyond: dict[tuple[str, str], str] = {}
    for limit, unfit in _unfit(items, count):
        for item in unfit:
            beyond.setdefault((item.task, item.pair_id), limit)
    kept = [item for item in items if (item.task, item.pair_id) not in beyond]
    totals = Counter(item.task for item in items)
    dropped = Counter(
        (item.task, beyond[item.task, item.pair_id])
        for item in items
        if (item.task, item.pair_id) in beyond
    )
    return kept, [
        LeftOut("scoring", "held-out items", task, rows, totals[task], limit)
        for (task, limit), rows in dropped.items()
    ]


def _unfit(items: Sequence[Item], count: CountTokens) -> Iterable[tuple[str, list[Item]]]:
    prompts = list(dict.fromkeys(item.inputs for item in items))
    longer = longer_than(prompts, MAX_PROMPT_TOKENS, count)
    too_long = {prompt for prompt, beyond in zip(prompts, longer, strict=True) if beyond}
    yield PROMPT_LIMIT, [item for item in items if item.inputs in too_long]
    choices = list(dict.fromkeys(choice for item in items for choice in item.choices))
    tokens = dict(zip(choices, count(choices).tolist() if choices else [], strict=True))
    lengths = {id(item): [tokens[choice] for choice in item.choices] for item in items}
    yield CHOICE_LIMIT, [item for item in items if sum(lengths[id(item)]) > MAX_CHOICE_TOKENS]
    yield (
        EQUAL_CHOICES,
        [
            item
            for item in items
            if len(set(lengths[id(item)])) > 1 and not (item.free_text or is_format(item.task))
        ],
    )


def in_words(entries: Sequence[LeftOut], totals: Mapping[str, int]) -> list[str]:
    """One line per stage, kind and limit: the number of rows, their share and where most are.

    Args:
      entries: the rows left out.
      totals: the number of rows of each kind, over all data sets and tasks.

    >>> in_words([LeftOut("scoring", "claims", "cb", 2, 40, "9 tokens a prompt")], {"claims": 80})
    ['claims: 2 of 80 (2.5%) are left out of scoring, limit 9 tokens a prompt (cb 2 of 40)']
    """
    groups: dict[tuple[str, str, str], list[LeftOut]] = defaultdict(list)
    for entry in entries:
        groups[entry.stage, entry.kind, entry.limit].append(entry)
    lines = []
    for (stage, kind, limit), group in groups.items():
        group.sort(key=lambda entry: -entry.dropped)
        dropped = sum(entry.dropped for entry in group)
        named = ", ".join(f"{_shown(e.name)} {e.dropped:,} of {e.of:,}" for e in group[:3])
        more = f", and {len(group) - 3} more" if len(group) > 3 else ""
        lines.append(
            f"{kind}: {dropped:,} of {totals[kind]:,} ({_share(dropped / totals[kind])}) are left"
            f" out of {stage}, limit {limit} ({named}{more})"
        )
    return lines


def _share(value: float) -> str:
    return f"{value:.1%}" if value >= 0.001 else "under 0.1%"


def _shown(name: str) -> str:
    """A name without line breaks and control codes: tasks of instructions are named by the user."""
    return "".join(filter(str.isprintable, " ".join(name.split())))[:60]
