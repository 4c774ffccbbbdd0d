"""Generated stand-ins for the 17 data sets, with the same columns and label ids and short texts.

A text is a frame with two free words and one cue word, which decides the label. The texts of a data
set are numbered in a fixed random order; a number modulo 10 decides whether the text is in the
pre-training, the train or the validation split. So no text is in two splits.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import numpy as np
import pyarrow as pa

from sycophancy.data.catalog import SOURCES
from sycophancy.data.miniature import lexicon as words
from sycophancy.errors import UserError

Split = Literal["pretraining", "train", "validation"]

_REMAINDERS: dict[str, tuple[int, ...]] = {
    "pretraining": (0, 1, 2, 3),
    "train": (4, 5, 6, 7, 8),
    "validation": (9,),
}
ROWS = {"pretraining": 4_000, "train": 6_500, "validation": 600}  # at most, of each data set


@dataclasses.dataclass(frozen=True)
class Frames:
    """Text fields with the slots {a}, {b} (free words) and {cue} (decides the label).

    Attributes:
      frames: a tuple for each frame, with a string for each text field in the protocol's order.
      a, b: the words for the free slots.
    """

    frames: tuple[tuple[str, ...], ...]
    a: tuple[str, ...]
    b: tuple[str, ...]


P, T, L = words.PEOPLE, words.THINGS, words.PLACES

FRAMES: dict[str, Frames] = {
    "sst2": Frames(
        (("the {a} in this {b} film is {cue}",), ("a {cue} film about a {a} and a {b}",)), P, L
    ),
    "rotten_tomatoes": Frames(
        (
            ("the story of the {a} and the {b} feels {cue}",),
            ("this {cue} picture follows a {a} to the {b}",),
        ),
        P,
        L,
    ),
    "tweet_eval_sentiment": Frames(
        (("my {a} at the {b} was {cue}",), ("what a {cue} day with my {a} at the {b}",)), P, L
    ),
    "tweet_eval_offensive": Frames(
        (("you {cue} of a {a} with a {b}",), ("that {a} with the {b} is a {cue}",)), P, T
    ),
    "tweet_eval_irony": Frames(
        (("{cue} i love my {a} in the {b}",), ("oh {cue} another {a} in the {b}",)), T, L
    ),
    "qqp": Frames(
        (("how do i mend a {a} in a {b}", "what is the {cue} of mending a {a} in a {b}"),), T, L
    ),
    "mrpc": Frames((("the {a} sold a {b} on monday", "{cue} on monday the {a} sold a {b}"),), P, T),
    "paws": Frames(
        (("the {a} moved from {b} to town", "{cue} the {a} came to town from {b}"),), P, L
    ),
    "rte": Frames(
        (
            ("the {a} left the {b} at noon", "{cue} left the {b} at noon"),
            ("a {a} was seen in the {b}", "{cue} was seen in the {b}"),
        ),
        P,
        L,
    ),
    "wnli": Frames((("the {a} kept the {b}", "{cue} the {a} needed it the {b} was kept"),), P, T),
    "qnli": Frames(
        (("the {b} near the {a} was built of stone", "what {cue} {b} near the {a} was built"),),
        T,
        L,
    ),
    "mnli": Frames((("the {a} carries a {b}", "the {cue} one carries a {b}"),), P, T),
    "snli": Frames((("a {a} walks through the {b}", "the {a} in the {b} is {cue}"),), P, L),
    "cb": Frames((("the {a} {cue} that it was in the {b}", "it was in the {b}"),), P, L),
    "trec": Frames(
        (("tell me the {cue} of the {a} in the {b}",), ("{cue} is the {a} in the {b}",)), P, L
    ),
    "ag_news": Frames(
        (
            ("the {cue} near the {b} surprised every {a}",),
            ("new {cue} news for the {a} at the {b}",),
        ),
        P,
        L,
    ),
    "cola": Frames((("the {a} {cue} near the {b}",), ("a {a} {cue} it in the {b}",)), P, L),
}


@functools.cache  # claims and instructions are made of the same texts
def labelled_texts(name: str, split: Split) -> tuple[tuple[tuple[str, ...], int], ...]:
    """The texts of a split with their label ids, in a fixed random order.

    Returns:
      Up to `ROWS[split]` pairs of (text fields in the protocol's order, label id).

    Raises:
      UserError: the data set or the split is unknown.
    """
    if name not in FRAMES or split not in _REMAINDERS:
        raise UserError(f"the miniature has no data set {name!r} with a split {split!r}")
    world, cues = FRAMES[name], words.CUES[name]
    flat_cues = [(cue, label) for label, group in enumerate(cues) for cue in group]
    shape = (len(world.frames), len(flat_cues), len(world.a), len(world.b))
    # A fixed permutation, then a remainder: every cue and word occurs in every split.
    order = np.random.Generator(np.random.PCG64(len(name) + 17 * sum(map(ord, name)))).permutation(
        int(np.prod(shape))
    )
    chosen = order[np.isin(np.arange(len(order)) % 10, _REMAINDERS[split])][: ROWS[split]]
    rows = []
    places = (axis.tolist() for axis in np.unravel_index(chosen, shape))
    for frame, cue, a, b in zip(*places, strict=True):
        word, label = flat_cues[cue]
        slots = {"cue": word, "a": world.a[a], "b": world.b[b]}
        fields = tuple(field.format(**slots) for field in world.frames[frame])
        rows.append((fields, label))
    return tuple(rows)


def data_set(name: str, split: Split) -> pa.Table:
    """A stand-in for one of the 17 data sets, in the hub's schema.

    Returns:
      The text columns of the hub data set and its label column (int64, the hub's label order).
    """
    source = SOURCES[name]
    rows = labelled_texts(name, split)
    columns = {
        field: pa.array([fields[i] for fields, _ in rows]) for i, field in enumerate(source.texts)
    }
    return pa.table({**columns, source.label: pa.array([label for _, label in rows], pa.int64())})
