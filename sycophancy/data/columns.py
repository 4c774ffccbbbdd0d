"""Reads parquet files and their text columns, of every type that Arrow has for text.

Arrow does not check that texts are UTF-8, neither when it reads a file nor when it casts a column;
an error arises only when Python reads such a text. So every text column passes through `texts`,
which finds these rows.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sycophancy.data.bad_rows import shortened
from sycophancy.errors import UserError

PUBLISHED = "use a file with the published columns"


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns every error of Arrow while it reads a parquet file into a UserError with its name."""
    try:
        yield
    except UserError:
        raise
    # Damaged bytes have raised ArrowException, OSError, UnicodeDecodeError, KeyError and more.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is not readable as parquet ({reason}); write it again") from error


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[tuple[pq.ParquetFile, pa.Schema]]:
    """Opens a parquet file with its schema.

    Raises:
      UserError: the file is not parquet, or it is damaged.
    """
    with readable(path):
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        _ = schema.names  # column names may not be UTF-8
    with file:
        yield file, schema


def read(file: pq.ParquetFile, names: Sequence[str], path: Path) -> pa.Table:
    """Reads whole columns.

    Raises:
      UserError: the file is damaged.
    """
    with readable(path):
        return file.read(list(names))


def batches(file: pq.ParquetFile, names: Sequence[str], path: Path) -> Iterator[pa.RecordBatch]:
    """Reads columns batch by batch; raises as `read` does."""
    with readable(path):
        yield from file.iter_batches(columns=list(names))


def check_names(
    present: Sequence[str],
    required: Sequence[str],
    where: str,
    optional: Sequence[str] = (),
    remedy: str = PUBLISHED,
) -> None:
    """Checks that a table has each required column, and no needed column twice.

    Args:
      present: the table's columns.
      required: columns that it must have.
      where: the table, for messages.
      optional: columns that it may have.
      remedy: what to do about a missing column, for messages.

    Raises:
      UserError: a column is missing or is there twice; the message lists the table's columns.
    """
    counts = Counter(present)
    for name in required:
        if name not in counts:
            known = shortened(", ".join(counts), 300) or "none"
            raise UserError(f"{where} has no column {name!r} (it has {known}); {remedy}")
    for name in (*required, *optional):
        if counts[name] > 1:
            raise UserError(f"{where} has {counts[name]} columns {name!r}; keep one of them")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text: any kind of string, or a dictionary of them."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def texts(column: pa.Array | pa.ChunkedArray, what: str) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Reads the texts of a column, and finds the rows that are not UTF-8.

    Args:
      column: any kind of string, a dictionary of them, or nulls alone; shape (rows,).
      what: the column, for messages.

    Returns:
      An array of type string, null for a row that is null or not UTF-8; and whether each row is
      UTF-8 or null, shape (rows,).

    Raises:
      UserError: the column has another type.
    """
    if not is_text(column.type) and not pa.types.is_null(column.type):
        raise UserError(f"{what} holds {column.type}, expected text")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_chunk_texts(chunk, what) for chunk in chunks]
    if not parts:
        return pa.array([], pa.string()), np.ones(0, np.bool_)
    return pa.concat_arrays([part for part, _ in parts]), np.concatenate([ok for _, ok in parts])


def _chunk_texts(chunk: pa.Array, what: str) -> tuple[pa.Array, NDArray[np.bool_]]:
    if pa.types.is_dictionary(chunk.type):
        indices = chunk.indices.cast(pa.int64()).to_numpy(zero_copy_only=False)
        used = indices[~np.isnan(indices)]
        if len(used) and not 0 <= used.min() <= used.max() < len(chunk.dictionary):
            raise UserError(f"{what} has an index outside its dictionary; write the file again")
        values, good = _chunk_texts(chunk.dictionary, what)
        missing = np.isnan(indices)
        chosen = np.where(missing, len(good), np.nan_to_num(indices)).astype(np.int64)
        return values.take(chunk.indices), np.append(good, True)[chosen]
    try:
        chunk.validate(full=True)
        return chunk.cast(pa.string()), np.ones(len(chunk), np.bool_)
    except pa.ArrowInvalid:
        return _decoded(chunk)


def _decoded(chunk: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Decodes row by row, which is slow; for chunks with a text that is not UTF-8."""
    good = np.ones(len(chunk), np.bool_)
    texts: list[str | None] = []
    for row, value in enumerate(chunk.cast(pa.large_binary()).to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            good[row] = False
    return pa.array(texts, pa.string()), good
