"""Rows that cannot be used: counted by reason, left out, and refused where there are too many."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from sycophancy.errors import UserError

OnBadRow = Literal["drop", "stop"]

# A source with more bad rows than this is refused: it is probably not of the expected kind.
FEW = 10
SHARE = 0.1  # of the rows, where more than FEW are bad
SHARE_OF_FEW = 0.5  # of the rows, where at most FEW and more than one are bad

NOT_UTF8 = "not UTF-8"


class BadRow(UserError):  # noqa: N818 - named as what it stands for
    """One row that cannot be used.

    Args:
      where: the row's place, e.g. "train.jsonl:3".
      reason: what is wrong, in words that are the same for all rows with this fault.
      value: what this row has instead, for messages.
    """

    def __init__(self, where: str, reason: str, value: object = None) -> None:
        shown = "" if value is None else f" ({shortened(value)})"
        super().__init__(f"{where}: {reason}{shown}")
        self.reason = reason


class BadRows:
    """Counts the rows of one source that cannot be used.

    Args:
      source: what the rows belong to, for the summary, e.g. "sst2 train".
      on_bad_row: `drop` leaves bad rows out, up to a share; `stop` refuses the first.
      place: where the rows come from, for messages; by default the source.
    """

    def __init__(self, source: str, on_bad_row: OnBadRow, place: str = "") -> None:
        self.source, self.place = source, place or source
        self._stop = on_bad_row == "stop"
        self.reset()

    def reset(self) -> None:
        """Forgets all counts, for another file."""
        self.read = 0  # rows so far, bad ones included
        self.first: BadRow | None = None
        self._dropped: Counter[str] = Counter()

    @property
    def dropped(self) -> int:
        return self._dropped.total()

    def drop(self, error: BadRow, rows: int = 1) -> None:
        """Counts rows with the same fault; `error` describes the first.

        Raises:
          UserError: `on_bad_row` is `stop`.
        """
        if self._stop:
            raise UserError(
                f"{error}; correct or delete the row, or leave such rows out with --on-bad-row drop"
            )
        self.first = self.first or error
        self._dropped[error.reason] += rows

    def check(self) -> None:
        """Refuses a source with too many bad rows; call it when all rows are read.

        Raises:
          UserError: more than 10 rows and more than 10 % are bad, or more than one row and more
            than half.
        """
        share = SHARE if self.dropped > FEW else SHARE_OF_FEW
        if self.dropped > 1 and self.dropped > share * self.read:
            raise UserError(
                f"{self.source}: {self.dropped:,} of {self.read:,} rows cannot be used, too many to"
                f" leave out; the first: {self.first}; correct the rows or give another file"
            )

    def summary(self) -> list[dict[str, Any]]:
        """An entry for each reason: `source`, `reason`, rows `dropped`, `of` rows read."""
        return [
            {"source": self.source, "reason": reason, "dropped": rows, "of": self.read}
            for reason, rows in self._dropped.items()
        ]

    def note(self) -> str:
        """A sentence on the rows left out; empty if there are none."""
        if not self.first:
            return ""
        reasons = ", ".join(f"{reason}: {rows:,}" for reason, rows in self._dropped.items())
        share = self.dropped / self.read
        return (
            f"{self.source}: {self.dropped:,} of {self.read:,} rows ({share:.1%}) cannot be used"
            f" and are left out ({reasons}); the first: {self.first}"
        )

    def in_words(self) -> str:
        """An addition to a message about too few rows; empty if no row was bad."""
        return f"; {self.dropped:,} cannot be used, the first: {self.first}" if self.first else ""


def shortened(value: object, limit: int = 100) -> str:
    r"""The start of a value for a message, on one line: unprintable characters are escaped.

    >>> shortened("a\vb" + 200 * "c", 10)
    'a\\x0bbccc…'
    """
    try:
        text = value if isinstance(value, str) else repr(value)
    except RecursionError:
        text = type(value).__name__
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
