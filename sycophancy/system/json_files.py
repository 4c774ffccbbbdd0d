"""The reader of a run's small JSON files: a damaged one gives a reason, never a traceback."""

from __future__ import annotations

import json
from typing import Any

from sycophancy.errors import UserError


def read_object(path: Any) -> tuple[dict[str, Any] | None, str]:
    """A JSON object from a file.

    Args:
        path: a local path, or one in a bucket.

    Returns:
        The object and an empty text, or None and the reason in words that follow the file's name.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None, "does not exist"
    except OSError as error:  # a folder, a link to itself, no permission
        return None, f"cannot be read: {error.strerror or error}"
    except UnicodeDecodeError:
        return None, "cannot be read: it is not UTF-8"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # nested too deeply, or a number of 5,000 digits
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return None, f"cannot be read as JSON: {reason}" if text.strip() else "is empty"
    if not isinstance(found, dict):
        return None, f"holds {type(found).__name__} where an object is expected"
    return found, ""


def require_object(path: Any, remedy: str) -> dict[str, Any]:
    """A JSON object from a file that must be there.

    Args:
        path: a local path, or one in a bucket.
        remedy: what to do where it cannot be read, for the message.

    Raises:
        UserError: it cannot be read; the message names the file and the remedy.
    """
    found, reason = read_object(path)
    if found is None:
        raise UserError(f"{path} {reason}; {remedy}")
    return found
