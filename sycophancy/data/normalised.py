"""Finds near-duplicates: texts that differ in case, spacing or punctuation alone."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

# Punctuation, separators, control characters, and the two accents that serve as quotes. Symbols are
# kept: C++ is not C, and two tweets may differ in an emoji alone.
_DROPPED = r"[\pP\pZ\pC\x{60}\x{B4}\s]+"


def keys(columns: Sequence[pa.Array]) -> pa.Array:
    r"""A key for each row; rows that differ in case, spacing or punctuation alone share a key.

    A text of punctuation alone is its own key, so that `!` and `?` differ.

    Args:
      columns: the rows' text fields, each of shape (rows,).

    Returns:
      Keys, shape (rows,).

    >>> keys([pa.array(["It 's  fine .", "!", "?"])]).to_pylist()
    ['itsfine', '!', '?']
    """
    return pc.binary_join_element_wise(*map(_normalised, columns), "\x1f")


def _normalised(texts: pa.Array) -> pa.Array:
    folded = _casefold(pc.utf8_normalize(texts, "NFKC"))
    stripped = pc.replace_substring_regex(folded, _DROPPED, "")
    return pc.if_else(pc.equal(stripped, ""), texts, stripped)


def _casefold(texts: pa.Array) -> pa.Array:
    """`str.casefold`; Arrow's lower case is the same for ASCII, and faster."""
    ascii_ = pc.string_is_ascii(texts)
    others = pa.array([text.casefold() for text in texts.filter(pc.invert(ascii_)).to_pylist()])
    lower = pc.utf8_lower(texts)
    return pc.replace_with_mask(lower, pc.invert(ascii_), others.cast(pa.string()))
