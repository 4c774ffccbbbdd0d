"""Rows of a jsonl or parquet file, one at a time, and the count of those that cannot be used."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from sycophancy.data import columns
from sycophancy.errors import UserError

Record = tuple[dict[str, Any], str]  # a row and its place, e.g. "train.jsonl:3"
OnBadRow = Literal["drop", "stop"]

# A source with more bad rows than this is refused: it is probably not what it is taken for.
FEW = 10
SHARE = 0.1  # of the rows, where more than FEW are bad
SHARE_OF_FEW = 0.5  # of the rows, where at most FEW and more than one are bad

NOT_UTF8 = "not UTF-8"

_UTF_16_32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


class BadRow(UserError):  # noqa: N818 - named as what it stands for
    """One row that cannot be used.

    Args:
      where: the row's place, e.g. "train.jsonl:3".
      reason: what is wrong, in words that are the same for all rows with this fault.
      found: what this row has instead, for messages.
    """

    def __init__(self, where: str, reason: str, found: object = None) -> None:
        shown = "" if found is None else f" ({shortened(found)})"
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
        """Starts to count anew, for another file."""
        self.read = 0  # rows so far, bad ones included
        self.first: BadRow | None = None
        self._dropped: Counter[str] = Counter()

    @property
    def dropped(self) -> int:
        return self._dropped.total()

    def drop(self, error: BadRow, rows: int = 1) -> None:
        """Counts rows with the same fault; `error` tells of the first.

        Raises:
          UserError: `on_bad_row` is `stop`.
        """
        if self._stop:
            raise UserError(
                f"{error}; mend or delete the row, or leave such rows out with --on-bad-row drop"
            )
        self.first = self.first or error
        self._dropped[error.reason] += rows

    def check(self) -> None:
        """Refuses a source of which too many rows are bad; call it once all rows are read.

        Raises:
          UserError: more than 10 rows and 10 % are bad, or more than one row and half of them.
        """
        share = SHARE if self.dropped > FEW else SHARE_OF_FEW
        if self.dropped > 1 and self.dropped > share * self.read:
            raise UserError(
                f"{self.source}: {self.dropped:,} of {self.read:,} rows cannot be used, too many to"
                f" leave out; the first: {self.first}; mend the rows or give another file"
            )

    def summary(self) -> list[dict[str, Any]]:
        """An entry a reason: `source`, `reason`, rows `dropped`, `of` rows read."""
        return [
            {"source": self.source, "reason": reason, "dropped": rows, "of": self.read}
            for reason, rows in self._dropped.items()
        ]

    def note(self) -> str:
        """A line on the rows left out; empty if there are none."""
        if not self.first:
            return ""
        reasons = ", ".join(f"{reason}: {rows:,}" for reason, rows in self._dropped.items())
        share = self.dropped / self.read
        return (
            f"{self.source}: {self.dropped:,} of {self.read:,} rows ({share:.1%}) cannot be used"
            f" and are left out ({reasons}); the first: {self.first}"
        )

    def in_words(self) -> str:
        """What a message about a lack of rows adds; empty if no row was bad."""
        return f"; {self.dropped:,} cannot be used, the first: {self.first}" if self.first else ""


def is_text(value: object) -> bool:
    """Whether a value is a string that can be written; half of a surrogate pair cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_records(
    path: Path, names: Sequence[str], optional: Sequence[str], bad: BadRows
) -> Iterator[Record]:
    """Reads a `.parquet` file, or any other as jsonl; blank lines are skipped.

    Args:
      path: the file.
      names: text columns that a parquet file must have. Whether a line of jsonl has them is for
        the caller to see.
      optional: text columns that a parquet file may have; others are not read.
      bad: counts rows read, and rows that are not a JSON object or not UTF-8.

    Raises:
      UserError: the file is missing or cannot be read; the message names it.
    """
    if not is_file(path):
        raise UserError(f"{path} does not exist; name a jsonl or parquet file")
    if path.suffix == ".parquet":
        yield from _read_parquet(path, names, optional, bad)
    else:
        yield from _read_jsonl(path, bad)


def is_file(path: Path) -> bool:
    """Whether there is a file; False where the system cannot even look (loops, long names)."""
    try:
        return path.is_file()
    except OSError:
        return False


def _read_jsonl(path: Path, bad: BadRows) -> Iterator[Record]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if number == 1 and line.startswith(_UTF_16_32):
                    raise UserError(f"{path} is encoded as UTF-16 or UTF-32; save it as UTF-8")
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                bad.read += 1
                try:
                    yield _parse(line, where), where
                except BadRow as error:
                    bad.drop(error)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadRow(where, NOT_UTF8, error.reason) from None
    except RecursionError:
        raise BadRow(where, "nested too deeply") from None
    except ValueError as error:
        raise BadRow(where, "not JSON", getattr(error, "msg", error)) from None
    if not isinstance(row, dict):
        raise BadRow(where, "not a JSON object")
    return row


def _read_parquet(
    path: Path, names: Sequence[str], optional: Sequence[str], bad: BadRows
) -> Iterator[Record]:
    with columns.open_parquet(path) as (file, schema):
        columns.check_names(schema.names, names, str(path), optional)
        present = [*names, *(name for name in optional if name in schema.names)]
        for batch in columns.batches(file, present, path):
            yield from counted(rows_of(batch, names, optional, str(path)), str(path), bad)


def counted(
    rows: Iterable[dict[str, str | None] | None], origin: str, bad: BadRows
) -> Iterator[Record]:
    """Rows of `rows_of` as records with their place; counts all, and drops those not UTF-8."""
    for row in rows:
        bad.read += 1
        where = f"{origin} row {bad.read}"
        if row is None:
            bad.drop(BadRow(where, NOT_UTF8))
        else:
            yield row, where


def rows_of(
    batch: pa.RecordBatch | pa.Table, names: Sequence[str], optional: Sequence[str], where: str
) -> Iterator[dict[str, str | None] | None]:
    """The rows of a table with text columns; None for a row that is not UTF-8.

    Raises:
      UserError: a column is missing, is there twice or holds something else.
    """
    columns.check_names(batch.schema.names, names, where, optional)
    good = np.ones(batch.num_rows, np.bool_)
    values = {}
    for name in (*names, *(name for name in optional if name in batch.schema.names)):
        column = batch.column(name)
        if name in optional and pa.types.is_integer(column.type):
            column = column.cast(pa.string())  # tasks that are numbered
        texts, valid = columns.texts(column, f"{where}: column {name!r}")
        good &= valid
        values[name] = texts.to_pylist()
    for row in range(batch.num_rows):
        yield {name: column[row] for name, column in values.items()} if good[row] else None


def shortened(found: object, limit: int = 100) -> str:
    """A value for a message: its start, in characters that every terminal can show as text."""
    try:
        text = found if isinstance(found, str) else repr(found)
    except RecursionError:
        text = type(found).__name__
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
