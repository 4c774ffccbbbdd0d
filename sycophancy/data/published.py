"""Columns of a data set as its authors or its user published them, before labels have a meaning."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from sycophancy.data import columns
from sycophancy.data.catalog import Source
from sycophancy.errors import UserError


@dataclasses.dataclass(frozen=True)
class Published:
    """A split as published, or one file of it.

    Attributes:
      table: the columns, those of the source's texts and its label among them.
      label: the label's column.
      label_names: the name of each label number; None if the column holds names.
      where: file or hub address, for messages.
    """

    table: pa.Table
    label: str
    label_names: tuple[str, ...] | None
    where: str


def read_parquet(source: Source, path: Path, *, remedy: str = columns.PUBLISHED) -> Published:
    """Reads a data set's columns from a parquet file.

    Args:
      source: the data set.
      path: the file.
      remedy: what to do about a missing column, for messages.

    Raises:
      UserError: the file cannot be read or lacks a column; the message names data set and file.
    """
    try:
        with columns.open_parquet(path) as (file, schema):
            check_columns(source, schema.names, source.label, str(path), remedy)
            table = columns.read(file, [*source.texts, source.label], path)
            return Published(table, source.label, _class_label_names(schema, source), str(path))
    except UserError as error:
        prefix = f"data set {source.name!r}: "
        raise UserError(f"{prefix}{str(error).removeprefix(prefix)}") from error


def check_columns(
    source: Source,
    present: Sequence[str],
    label: str,
    where: str,
    remedy: str = columns.PUBLISHED,
) -> None:
    """Checks that a table has each text column and the label's column once.

    Raises:
      UserError: the message lists the columns that the table has.
    """
    where = f"data set {source.name!r}: {where}"
    columns.check_names(present, [*source.texts, label], where, remedy=remedy)


def _class_label_names(schema: pa.Schema, source: Source) -> tuple[str, ...] | None:
    """Label names that `datasets` writes into a parquet file's metadata."""
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        names = metadata["info"]["features"][source.label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
