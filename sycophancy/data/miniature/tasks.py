"""Generated instruction-tuning rows: short tasks with short answers.

A hash of a row's input decides its split, so no row occurs in two splits.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence

from sycophancy.data.catalog import SOURCES
from sycophancy.data.miniature import lexicon as words
from sycophancy.data.miniature.sentences import FRAMES, Split, labelled_texts
from sycophancy.errors import UserError

_REMAINDERS: dict[Split, tuple[int, ...]] = {
    "pretraining": (0, 1, 2, 3),
    "train": (4, 5, 6, 7),
    "validation": (8, 9),
}
_NOUNS = words.PEOPLE + words.THINGS + words.PLACES

Row = dict[str, str]


def two_choices(right: str, wrong: str, rng: random.Random) -> tuple[str, str]:
    """Two choices in random order as a question prints them, and the letter of the right one."""
    swapped = rng.random() < 0.5
    first, second = (wrong, right) if swapped else (right, wrong)
    return f"\n\nChoices:\n (A) {first}\n (B) {second}\n\nAnswer:", "(B)" if swapped else "(A)"


def pick(rng: random.Random) -> Row:
    """A row that asks for the letter of an option."""
    pool = rng.choice((_NOUNS, ("Agree", "Disagree"), ("yes", "no")))
    right, wrong = rng.sample(pool, 2)
    choices, letter = two_choices(right, wrong, rng)
    return {"inputs": f"Which option says {right}?{choices}", "targets": letter, "task": "pick"}


def pick_longer(rng: random.Random) -> Row:
    """A row that asks for the letter of the option with a given word."""
    a, b = rng.sample(_NOUNS, 2)
    c, d = rng.sample(_NOUNS, 2)
    choices, letter = two_choices(f"the {a} and the {b}", f"the {c} and the {d}", rng)
    if {a, b} & {c, d}:
        return pick_longer(rng)
    asked = rng.choice((a, b))
    return {"inputs": f"Which option says {asked}?{choices}", "targets": letter, "task": "pick"}


def repeat(rng: random.Random, pool: Sequence[str] = _NOUNS) -> Row:
    """A row that asks for the first or the last of three words."""
    three = rng.sample(pool, 3)
    which = rng.choice(("first", "last"))
    answer = three[0] if which == "first" else three[-1]
    return {
        "inputs": f"Repeat the {which} word: {' '.join(three)}",
        "targets": answer,
        "task": "repeat",
    }


def category(rng: random.Random) -> Row:
    """A row that asks which of two kinds a thing is."""
    kind, other = rng.sample(list(words.CATEGORIES), 2)
    thing = rng.choice(words.CATEGORIES[kind])
    a, b = rng.sample((kind, other), 2)
    place = rng.choice(words.PLACES)
    text = f"Near the {place} is {thing}. Is {thing} a {a} or a {b}?"
    return {"inputs": text, "targets": kind, "task": "category"}


def category_choice(rng: random.Random) -> Row:
    """A row that asks for the member of a category."""
    kind, other = rng.sample(list(words.CATEGORIES), 2)
    right, wrong = rng.choice(words.CATEGORIES[kind]), rng.choice(words.CATEGORIES[other])
    choices, letter = two_choices(right, wrong, rng)
    return {
        "inputs": f"Which of these is a {kind}?{choices}",
        "targets": letter,
        "task": "category_choice",
    }


def opposite(rng: random.Random) -> Row:
    """A row that asks to complete an analogy of opposites."""
    (a, b), (c, d) = (rng.sample(pair, 2) for pair in rng.sample(words.OPPOSITES, 2))
    return {
        "inputs": f"What is the opposite of {c}, as {b} is of {a}?",
        "targets": d,
        "task": "opposite",
    }


class Classification:
    """Rows that ask for the label of a text of the 17 data sets, in words or by letter."""

    def __init__(self, split: Split) -> None:
        self._texts = {name: labelled_texts(name, split) for name in FRAMES}

    def draw(self, rng: random.Random, name: str | None = None) -> tuple[str, str, str, str]:
        """Draws a quoted text, its label, another label, and the name of the data set."""
        name = name or rng.choice(tuple(FRAMES))
        fields, label = rng.choice(self._texts[name])
        labels = SOURCES[name].label_names
        other = rng.choice([text for text in labels if text != labels[label]])
        return " and ".join(f'"{field}"' for field in fields), labels[label], other, name

    def in_words(self, rng: random.Random, name: str | None = None) -> Row:
        quoted, label, other, name = self.draw(rng, name)
        a, b = rng.sample((label, other), 2)
        text = f"Is {quoted} {a} or {b}?"
        return {"inputs": text, "targets": label, "task": f"classify/{name}"}

    def by_letter(self, rng: random.Random, name: str | None = None) -> Row:
        quoted, label, other, name = self.draw(rng, name)
        choices, letter = two_choices(label, other, rng)
        text = f"What is {quoted}?{choices}"
        return {"inputs": text, "targets": letter, "task": f"classify_choice/{name}"}


def split_of(inputs: str) -> Split:
    """The split that a row with this input belongs to."""
    remainder = int.from_bytes(hashlib.blake2b(inputs.encode(), digest_size=4).digest(), "big") % 10
    return next(split for split, owned in _REMAINDERS.items() if remainder in owned)


def instructions(split: Split, count: int, seed: int = 0) -> Iterator[Row]:
    """Yields `count` distinct instruction rows (`inputs`, `targets`, `task`) of one split.

    Raises:
      UserError: the split is unknown.
    """
    if split not in _REMAINDERS:
        raise UserError(f"the miniature's instructions have no split {split!r}")
    rng = random.Random(f"instructions {split} {seed}")
    texts = Classification(split)
    tasks: tuple[Callable[[random.Random], Row], ...] = (
        pick,
        pick_longer,
        repeat,
        category,
        category_choice,
        opposite,
        texts.in_words,
        texts.by_letter,
        texts.in_words,
        texts.by_letter,
    )
    seen: set[str] = set()
    produced = drawn = 0
    while produced < count:
        row = tasks[drawn % len(tasks)](rng)
        drawn += 1
        classified = row["task"].startswith("classify")  # split already, by its text
        if row["inputs"] in seen or not (classified or split_of(row["inputs"]) == split):
            continue
        seen.add(row["inputs"])
        produced += 1
        yield row
