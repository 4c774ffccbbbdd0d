"""Rows of a jsonl or parquet file, one at a time, each with its place for messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sycophancy.errors import UserError

Record = tuple[dict[str, Any], str]  # a row and its place, e.g. "train.jsonl:3"


def read_records(path: Path) -> Iterator[Record]:
    """Reads a `.parquet` file, or any other as jsonl; blank lines are skipped.

    Raises:
      UserError: the file is missing or unreadable, or a line is no JSON object; the message names
        file and line.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; name a jsonl or parquet file")
    reader = _read_parquet if path.suffix == ".parquet" else _read_jsonl
    yield from reader(path)


def _read_jsonl(path: Path) -> Iterator[Record]:
    number = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UserError(f"{path}:{number} is no JSON object; mend or delete the line")
                for value in row.values():
                    str(value).encode()  # half a surrogate pair is no text
                yield row, f"{path}:{number}"
    except ValueError as error:
        reason = getattr(error, "msg", None) or error
        raise UserError(
            f"{path}:{number} is no JSON ({reason}); mend or delete the line"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _read_parquet(path: Path) -> Iterator[Record]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield row, f"{path} row {number}"
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not readable as parquet ({reason}); write it anew") from error
