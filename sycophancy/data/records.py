"""Reads the rows of a jsonl, csv, tsv or parquet file one at a time, each with its place."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from sycophancy.data import columns
from sycophancy.data.bad_rows import NOT_UTF8, BadRow, BadRows
from sycophancy.errors import UserError

Record = tuple[dict[str, Any], str]  # a row and its place, e.g. "train.jsonl:3"

_UTF_16_32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_records(
    path: Path,
    names: Sequence[str],
    optional: Sequence[str],
    bad: BadRows,
    *,
    remedy: str = columns.PUBLISHED,
) -> Iterator[Record]:
    """Reads a `.parquet`, `.csv` or `.tsv` file, or any other as jsonl; blank lines are skipped.

    The first line of csv and tsv names the columns. A tsv file has no quotation marks around
    fields, so no field holds a tab or a line break.

    Args:
      path: the file.
      names: columns that a parquet, csv or tsv file must have, text in a parquet file. The caller
        checks whether a line of jsonl has them.
      optional: columns that such a file may have; others are not read.
      bad: counts rows read, and rows that are not UTF-8, not a JSON object or not as long as the
        first line of a csv or tsv file.
      remedy: what to do about a missing column, for messages.

    Raises:
      UserError: the file is missing or cannot be read; the message names it.
    """
    if not is_file(path):
        raise UserError(f"{path} does not exist; name a jsonl, csv, tsv or parquet file")
    if path.suffix.lower() == ".parquet":
        yield from _read_parquet(path, names, optional, bad, remedy)
        return
    try:
        with path.open("rb") as stream:
            if stream.read(4).startswith(_UTF_16_32):
                raise UserError(f"{path} is encoded as UTF-16 or UTF-32; save it as UTF-8")
        if separator := _SEPARATORS.get(path.suffix.lower()):
            # Bytes that are not UTF-8 become characters that UTF-8 does not have; see `is_text`.
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
                yield from _read_table(text, path, separator, names, optional, bad, remedy)
        else:
            with path.open("rb") as lines:
                yield from _read_jsonl(lines, path, bad)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def is_file(path: Path) -> bool:
    """Whether the path is a file; False where the system cannot look (loops, long names)."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_text(value: object) -> bool:
    """Whether a value is a string that UTF-8 can hold; half of a surrogate pair it cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_jsonl(lines: IO[bytes], path: Path, bad: BadRows) -> Iterator[Record]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        bad.read += 1
        try:
            yield _parse(line, where), where
        except BadRow as error:
            bad.drop(error)


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


def _read_table(
    lines: IO[str],
    path: Path,
    separator: str,
    names: Sequence[str],
    optional: Sequence[str],
    bad: BadRows,
    remedy: str,
) -> Iterator[Record]:
    """Rows below a line of column names; rows of another length are bad."""
    rows = csv.reader(
        lines,
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE,
        strict=True,
    )
    header: list[str] | None = None
    positions: dict[str, int] = {}
    while True:
        where = f"{path}:{rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            if header is None or "expected after" not in str(error):
                raise UserError(
                    f"{where}: {error}; is a quotation mark left open? Correct the file"
                ) from None
            bad.read += 1
            bad.drop(BadRow(where, "a quotation mark inside a field is not doubled"))
            continue
        if not row:
            continue
        if header is None:
            header = row
            if not all(map(is_text, header)):
                raise UserError(f"{where}: the column names are {NOT_UTF8}; save the file as UTF-8")
            columns.check_names(header, names, str(path), optional, remedy)
            positions = {name: header.index(name) for name in (*names, *optional) if name in header}
            continue
        bad.read += 1
        if len(row) != len(header):
            lengths = f"{len(row):,}, not {len(header):,}"
            bad.drop(BadRow(where, "another number of fields than column names", lengths))
        elif not all(map(is_text, row)):
            bad.drop(BadRow(where, NOT_UTF8))
        else:
            yield {name: row[position] for name, position in positions.items()}, where
    if header is None:
        raise UserError(f"{path} is empty; its first line must name the columns")


def _read_parquet(
    path: Path, names: Sequence[str], optional: Sequence[str], bad: BadRows, remedy: str
) -> Iterator[Record]:
    with columns.open_parquet(path) as (file, schema):
        columns.check_names(schema.names, names, str(path), optional, remedy)
        present = [*names, *(name for name in optional if name in schema.names)]
        for batch in columns.batches(file, present, path):
            yield from with_places(table_rows(batch, names, optional, str(path)), str(path), bad)


def with_places(
    rows: Iterable[dict[str, str | None] | None], where: str, bad: BadRows
) -> Iterator[Record]:
    """Rows of `table_rows` with their places; counts all, and drops those that are not UTF-8."""
    for row in rows:
        bad.read += 1
        place = f"{where} row {bad.read}"
        if row is None:
            bad.drop(BadRow(place, NOT_UTF8))
        else:
            yield row, place


def table_rows(
    table: pa.RecordBatch | pa.Table, names: Sequence[str], optional: Sequence[str], where: str
) -> Iterator[dict[str, str | None] | None]:
    """The rows of a table with text columns; None for a row that is not UTF-8.

    Raises:
      UserError: a column is missing, is there twice or holds something else.
    """
    columns.check_names(table.schema.names, names, where, optional)
    good = np.ones(table.num_rows, np.bool_)
    values = {}
    for name in (*names, *(name for name in optional if name in table.schema.names)):
        column = table.column(name)
        if name in optional and pa.types.is_integer(column.type):
            column = column.cast(pa.string())  # tasks that are numbered
        texts, valid = columns.texts(column, f"{where}: column {name!r}")
        good &= valid
        values[name] = texts.to_pylist()
    for row in range(table.num_rows):
        yield {name: column[row] for name, column in values.items()} if good[row] else None


def numbered(rows: Iterable[dict[str, Any]], where: str, bad: BadRows) -> Iterator[Record]:
    """Generated rows with their places, which are counted from 1."""
    for number, row in enumerate(rows, start=1):
        bad.read += 1
        yield row, f"{where} row {number}"
