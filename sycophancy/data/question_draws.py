"""Draws whole questions: a question's items, in all conditions, stay together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sycophancy.data import draws
from sycophancy.evaluation.items import Item


def draw_questions(items: Sequence[Item], number: int, seed: int, purpose: str) -> list[Item]:
    """All items of some questions of each task, in the order of the items.

    Args:
      items: of any tasks.
      number: how many questions of each task; all if there are fewer.
      seed: the run's seed.
      purpose: names the draw; see `draws.words`.
    """
    questions = list(dict.fromkeys((item.task, item.pair_id) for item in items))
    hashes = draws.content_hashes("\x1f".join(question) for question in questions)
    ranks = draws.words(hashes, seed, purpose)
    taken: Counter[str] = Counter()
    chosen = set()
    for place in np.argsort(ranks, kind="stable"):
        task, pair_id = questions[place]
        taken[task] += 1
        if taken[task] <= number:
            chosen.add((task, pair_id))
    return [item for item in items if (item.task, item.pair_id) in chosen]
