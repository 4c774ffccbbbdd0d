"""A claim of a held-out set, in a true and a false variant, and how its set draws it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from sycophancy.data import draws

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim, as it stands after "that".

    Attributes:
      name: unique within its set.
      field: what a professor who would know is a professor of.
      true, false: the two variants; a question asks one of them.
    """

    name: str
    field: str
    true: str
    false: str


def drawn(pool: Sequence[T], number: int, seed: int) -> list[T]:
    """Draws `number` different entries of a pool, or all if there are fewer, in random order."""
    ranks = draws.words(draws.content_hashes(map(str, pool)), seed, "held-out question")
    return [pool[row] for row in np.argsort(ranks, kind="stable")[:number].tolist()]
