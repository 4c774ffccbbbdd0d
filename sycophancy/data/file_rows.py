"""Reads the files of a user's own data set: jsonl, csv, tsv or parquet."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from sycophancy.data.bad_rows import BadRow, BadRows, shortened
from sycophancy.data.catalog import Source, folded
from sycophancy.data.published import Published, read_parquet
from sycophancy.data.records import is_text, read_records
from sycophancy.errors import UserError

_WHOLE = re.compile(r"-?[0-9]+\.0+")  # how a csv file holds whole numbers, if others are missing


def read_file(source: Source, path: Path, bad: BadRows) -> Published:
    """Reads texts and labels; label numbers become text, as the keys of [labels] write them.

    Args:
      source: a data set with a TOML file.
      path: one of its files.
      bad: counts rows read and rows that cannot be used.

    Raises:
      UserError: the file cannot be read, lacks a column, or a label has no wording; the message
        names the file and, for a row, its line.
    """
    remedy = f"name its columns in {source.described_in}"
    if path.suffix.lower() != ".parquet":
        return _read_lines(source, path, bad, remedy)
    published = read_parquet(source, path, remedy=remedy)
    bad.read += published.table.num_rows
    return with_label_text(published)


def with_label_text(published: Published) -> Published:
    """The same rows; label numbers that have no names become text: 1 and 1.0 are "1"."""
    name, table = published.label, published.table
    kind = table[name].type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if published.label_names is not None or not (is_number or pa.types.is_boolean(kind)):
        return published
    labels = [_label(value, name, published.where) for value in table[name].to_pylist()]
    position = table.column_names.index(name)
    column = pa.array(labels, pa.string())
    return dataclasses.replace(published, table=table.set_column(position, name, column))


def _read_lines(source: Source, path: Path, bad: BadRows, remedy: str) -> Published:
    wanted = (*source.texts, source.label)
    columns: dict[str, list[str | None]] = {name: [] for name in wanted}
    missing = set(wanted)
    fields: list[str] = []  # of the first row, for messages
    known = {folded(value) for value, _ in source.labels}
    for row, where in read_records(path, wanted, (), bad, remedy=remedy):
        fields = fields or list(row)
        missing.difference_update(row)
        try:
            texts = [_text(row, name, where) for name in source.texts]
            label = _label(row.get(source.label), source.label, where)
            if label is not None and folded(label) not in known and _WHOLE.fullmatch(label):
                label = label.partition(".")[0]
        except BadRow as error:
            bad.drop(error)
            continue
        if label is not None and folded(label) not in known and not source.is_unlabelled(label):
            raise UserError(
                f"data set {source.name!r}: {where} has a label {shortened(repr(label))}, which"
                f" [labels] of {source.described_in} does not name (it names"
                f" {', '.join(value for value, _ in source.labels)})"
            )
        for name, value in zip(wanted, (*texts, label), strict=True):
            columns[name].append(value)
    if fields and missing:
        name = next(name for name in wanted if name in missing)
        raise UserError(
            f"data set {source.name!r}: no row of {path} has a column {name!r} (the first has"
            f" {shortened(', '.join(fields), 300)}); {remedy}"
        )
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return Published(pa.table(arrays), source.label, None, str(path))


def _text(row: dict[str, Any], name: str, where: str) -> str | None:
    value = row.get(name)
    if value is not None and not is_text(value):
        raise BadRow(where, f"column {name!r} is not text", repr(value))
    return value


def _label(value: Any, name: str, where: str) -> str | None:
    """A label as the keys of [labels] write it: true is "true", 1 and 1.0 are "1"."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, int):
        return str(value)
    if value is not None and not is_text(value):
        raise BadRow(where, f"column {name!r} is neither text nor a number", repr(value))
    return value
