"""Which items a model can be asked: how long prompts and choices may be, and how alike."""

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
MAX_CHOICE_TOKENS = 2_048  # of an item's choices together, their ends of sequence included

PROMPT_LIMIT = f"{MAX_PROMPT_TOKENS:,} tokens a prompt"
CHOICE_LIMIT = f"{MAX_CHOICE_TOKENS:,} tokens of choices"
EQUAL_CHOICES = "choices of equal token counts"

User = Literal["training", "scoring"]
Kind = Literal["claims", "instructions", "held-out items"]
CountTokens = Callable[[Sequence[str]], NDArray[np.int64]]  # with the end of sequence


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Rows of one data set or task that are beyond a limit.

    Attributes:
      stage: who leaves them out.
      kind: what the rows are.
      name: the data set or task.
      dropped: how many are left out.
      of: how many there are.
      limit: in words.
    """

    stage: User
    kind: Kind
    name: str
    dropped: int
    of: int
    limit: str


def longer_than(texts: Sequence[str], limit: int, count: CountTokens) -> NDArray[np.bool_]:
    """Which texts have more tokens than the limit, end of sequence included; shape (texts,).

    A token is at least one character of ASCII, so that short texts need not be tokenised.
    """
    longer = np.zeros(len(texts), np.bool_)
    # A space may be put in front, and the end of sequence is behind.
    rows = [row for row, text in enumerate(texts) if len(text) + 2 > limit or not text.isascii()]
    if rows:
        longer[rows] = count([texts[row] for row in rows]) > limit
    return longer


def split_by_limits(items: Sequence[Item], count: CountTokens) -> tuple[list[Item], list[LeftOut]]:
    """The items that can be asked, in their order, and the count of the others by task and limit.

    With an item go all that it is compared with: those of its task and pair. Formats of choices
    are not judged by their choices here, since these are the whole task's.
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
        [i for i in items if len(set(lengths[id(i)])) > 1 and not is_format(i.task)],
    )


def in_words(entries: Sequence[LeftOut], totals: Mapping[str, int]) -> list[str]:
    """A line for each stage, kind and limit: how many rows, what share, and where most of them are.

    Args:
      entries: what is left out.
      totals: how many rows of each kind there are, those of other data sets and tasks included.

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
    """A task is named by the user's rows, so its name may hold line breaks and control codes."""
    return "".join(filter(str.isprintable, " ".join(name.split())))[:60]
