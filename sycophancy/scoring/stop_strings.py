"""Where a written text ends: before the first of some strings."""

from __future__ import annotations

from collections.abc import Sequence


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first `stop` string in it.

    >>> cut("yes. no! perhaps", ("!", "."))
    'yes'
    """
    return text[: min((at for word in stop if (at := text.find(word)) >= 0), default=len(text))]
