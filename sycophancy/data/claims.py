"""Makes a claim, true or false, from a text with a label.

Two modes:

* `paper` (Wei et al. 2023, section 3): a claim has the right label, so that `is` makes it true and
  `is not` false. The word `not` alone decides the answer.
* `balanced`: the label is right or wrong and the verb `is` or `is not`, independently with
  probability 1/2 each, so neither the verb nor the label alone decides whether the claim is true.

The paper's code deletes newlines, which joins the words on both sides; here a run of line breaks
becomes one space. The paper's code also replaces `[label]` in the finished prompt, which corrupts a
text that contains `[label]`; `prompts.fill` does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sycophancy.config.schema import ClaimMode
from sycophancy.data import draws, prompts


@dataclasses.dataclass(frozen=True)
class Claims:
    """Claims of shape (rows,): their text, and whether each is true."""

    text: pa.Array
    is_true: NDArray[np.bool_]


def clean(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    r"""Drops double quotes, turns line breaks into a space and strips the ends.

    >>> clean(pa.array([' a "b"\r\nc '])).to_pylist()
    ['a b c']
    """
    texts = pc.replace_substring(texts, '"', "")
    texts = pc.replace_substring_regex(texts, r"[\r\n]+", " ")
    return pc.utf8_trim_whitespace(texts)


def quote(columns: list[pa.Array]) -> pa.Array:
    """Quotes each text field and joins a row's fields with ` and `.

    >>> quote([pa.array(["a"]), pa.array(["b"])]).to_pylist()
    ['"a" and "b"']
    """
    pieces = [piece for column in columns for piece in ('" and "', column)][1:]
    return pc.binary_join_element_wise('"', *pieces, '"', "")


def label_problem(wordings: Sequence[str]) -> str | None:
    """Why some wording of a label would make an ambiguous claim; None if all are clear.

    >>> label_problem(["Good News", "not Good News"])
    "'not Good News' begins with not, so a claim with it could be read as a denial; write Not"
    """
    seen: set[str] = set()
    for wording in wordings:
        key = " ".join(wording.casefold().split())
        if key in seen:
            return f"two labels are worded {wording!r}, so a claim could mean either"
        seen.add(key)
        if '"' in wording:
            return f'{wording!r} has a ", which ends the quoted text of a claim'
        if wording != wording.strip() or wording.endswith("."):
            return f"{wording!r} begins or ends with a space or a full stop, which a claim adds"
        if wording.startswith("not "):
            return (
                f"{wording!r} begins with not, so a claim with it could be read as a denial; write"
                " Not"
            )
    return None


def draw_claims(
    quoted: pa.Array,
    labels: NDArray[np.integer],
    label_names: tuple[str, ...],
    hashes: draws.Hashes,
    seed: int,
    mode: ClaimMode,
) -> Claims:
    """Draws a claim for each row.

    Args:
      quoted: the rows' texts as `quote` gives them, shape (rows,).
      labels: indices of the right labels, shape (rows,).
      label_names: the data set's labels, as claims word them.
      hashes: content hashes of the rows, shape (rows, 2).
      seed: the run's seed.
      mode: `paper` or `balanced`, see the module.
    """
    affirmed = draws.coins(hashes, seed, "is or is not")
    shown = np.asarray(labels, np.int64)
    right = np.ones(len(shown), np.bool_)
    if mode == "balanced":
        right = draws.coins(hashes, seed, "right or wrong label")
        step = 1 + draws.below(hashes, seed, "which wrong label", len(label_names) - 1)
        shown = np.where(right, shown, (shown + step) % len(label_names))
    names = pa.array(label_names).take(pa.array(shown))
    text = pc.if_else(
        pa.array(affirmed),
        prompts.fill(prompts.CLAIM, quoted=quoted, label=names),
        prompts.fill(prompts.CLAIM_NEGATED, quoted=quoted, label=names),
    )
    return Claims(text=text, is_true=affirmed == right)
