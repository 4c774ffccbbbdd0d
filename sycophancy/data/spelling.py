"""How a vocabulary reads the texts of a user's own data set: by words, by letters or not at all.

A model learns little from a word that its vocabulary must spell letter by letter, and nothing from
a character that it lacks. The vocabulary of the miniature holds the words of its small world alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# The pieces of each text; None in place of a piece that the vocabulary does not have.
Pieces = Callable[[Sequence[str]], list[list[str | None]]]

_SHARE = 0.05  # of texts, from which on spelled words are worth a note
_WORD = re.compile(r"[^\W\d_]{3,}")  # three letters or more
_BATCH = 10_000
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how a piece spells a space


def notes(
    name: str, columns: Sequence[pa.Array], wordings: Sequence[str], pieces: Pieces
) -> list[str]:
    """Sentences on texts and labels that the vocabulary reads badly; none if it reads them well.

    Args:
      name: the data set.
      columns: its text fields, each of shape (rows,).
      wordings: its labels as a claim words them.
      pieces: the vocabulary.
    """
    rows = len(columns[0])
    words = _Words(pieces)
    has_unknown = np.zeros(rows, np.bool_)
    has_spelled = np.zeros(rows, np.bool_)
    for column in columns:
        for start in range(0, rows, _BATCH):
            texts = pc.fill_null(column.slice(start, _BATCH), "").to_pylist()
            place = slice(start, start + len(texts))
            has_unknown[place] |= [None in text for text in pieces(texts)]
            has_spelled[place] |= [bool(spelled) for spelled in words.spelled(texts)]
    sentences = []
    if has_unknown.any():
        sentences.append(
            f"{name}: {int(has_unknown.sum()):,} of {rows:,} training texts have characters that"
            " the model's vocabulary lacks, so the model cannot read them"
        )
    if has_spelled.mean() >= _SHARE:
        sentences.append(
            f"{name}: {int(has_spelled.sum()):,} of {rows:,} training texts have words that the"
            f" model's vocabulary can only spell letter by letter, such as {words.example()!r}; the"
            " model may not understand them"
        )
    for wording, spelled in zip(wordings, words.spelled(wordings), strict=True):
        if spelled:
            sentences.append(
                f"{name}: the model's vocabulary can only spell the label {wording!r} letter by"
                " letter; the model may not understand it"
            )
    return sentences


class _Words:
    """Which words a vocabulary spells letter by letter; each word is looked up once."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._is_spelled: dict[str, bool] = {}

    def spelled(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text that are spelled letter by letter."""
        words = [_WORD.findall(text) for text in texts]
        new = list({word for text in words for word in text} - self._is_spelled.keys())
        for word, parts in zip(new, self._pieces(new), strict=True):
            self._is_spelled[word] = all(len((part or "").strip(_SPACE)) < 2 for part in parts)
        return [[word for word in text if self._is_spelled[word]] for text in words]

    def example(self) -> str:
        """The alphabetically first word that is spelled."""
        return min(word for word, is_spelled in self._is_spelled.items() if is_spelled)
