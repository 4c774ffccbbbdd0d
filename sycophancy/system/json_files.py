"""Readers of JSON files: a damaged file or line gives a reason in one line, never a traceback."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sycophancy.errors import UserError

if TYPE_CHECKING:
    from etils import epath

_UTF_16_32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def read_object(path: Path | epath.Path) -> tuple[dict[str, Any] | None, str]:
    """Reads a JSON object from a file.

    Args:
        path: a path on a disk or in a bucket.

    Returns:
        The object and an empty text, or None and the reason in words that follow the file's name.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, "does not exist"
    except OSError as error:  # a folder, a link to itself, no permission
        return None, f"cannot be read: {error.strerror or error}"
    return parse_object(data)


def require_object(path: Path | epath.Path, remedy: str) -> dict[str, Any]:
    """Reads a JSON object from a file that must exist.

    Args:
        path: a path on a disk or in a bucket.
        remedy: what to do if it cannot be read, for the message.

    Raises:
        UserError: the file cannot be read; the message names it and the remedy.
    """
    value, reason = read_object(path)
    if value is None:
        raise UserError(f"{path} {reason}; {remedy}")
    return value


def parse_object(
    data: bytes, hook: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> tuple[dict[str, Any] | None, str]:
    """Parses a JSON object from the bytes of a file or of one line.

    Args:
        data: UTF-8, perhaps after a byte-order mark.
        hook: makes an object from its fields; the `object_pairs_hook` of `json.loads`.

    Returns:
        The object and an empty text, or None and the reason in words that follow the place.

    >>> parse_object(b'{"loss": 0.5}'), parse_object(b"[1]")
    (({'loss': 0.5}, ''), (None, 'holds list where an object is expected'))
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None, "cannot be read: it is not UTF-8"
    try:
        value = json.loads(text, object_pairs_hook=hook)
    except (ValueError, RecursionError) as error:  # nested too deeply, or a number of 5,000 digits
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return None, f"cannot be read as JSON: {reason}" if text.strip() else "is empty"
    if not isinstance(value, dict):
        return None, f"holds {type(value).__name__} where an object is expected"
    return value, ""


def read_lines(path: Path, remedy: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Reads a local file with one JSON object in each line.

    Blank lines are skipped.

    Args:
        path: the file.
        remedy: what to do if the file cannot be read, for the message.

    Yields:
        The place `file:line` and the object of each line.

    Raises:
        UserError: the file cannot be read, a line is not a JSON object, or an object has a field
            twice.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if number == 1 and line.startswith(_UTF_16_32):
                    raise UserError(f"{path} is encoded as UTF-16 or UTF-32; save it as UTF-8")
                if not line.removeprefix(codecs.BOM_UTF8).strip():
                    continue
                where = f"{path}:{number}"
                value, reason = parse_object(line, _distinct_fields)
                if value is None:
                    raise UserError(f"{where}: the line {reason}")
                yield where, value
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path} cannot be read: {reason}; {remedy}") from None


def _distinct_fields(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object from its fields; raises `ValueError` if a field is given twice."""
    value = dict(fields)
    if len(value) < len(fields):
        names = [name for name, _ in fields]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!a} is there twice")
    return value
