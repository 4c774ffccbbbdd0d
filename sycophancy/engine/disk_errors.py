"""Turns the errors of a full or read-only disk into one line."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from sycophancy.errors import UserError

_CANNOT_WRITE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.EIO,
    errno.EFBIG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}


@contextlib.contextmanager
def in_one_line(folder: Any, prefix: str = "") -> Iterator[None]:
    """Raises UserError where the block fails because `folder` cannot be written to."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise UserError(
            f"{prefix}cannot write to {folder}: {error.strerror}"
            f"{f' ({error.filename})' if error.filename else ''}; complete stages are kept, and "
            "the same command continues once there is room"
        ) from error
