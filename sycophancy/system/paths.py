"""Paths on disks and in buckets: opening, atomic writing, removing."""

from __future__ import annotations

import os
import shutil
import typing
from pathlib import Path

if typing.TYPE_CHECKING:
    from etils import epath


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an address such as `gs://bucket/runs/xl`, and not a local path."""
    return "://" in os.fspath(place)


def open_path(path: str | os.PathLike[str]) -> Path | epath.Path:
    """A local path, or through etils the path of an object in a bucket (`gs://...`)."""
    if not is_address(path):
        return Path(path)
    from etils import epath

    return epath.Path(path)


def write_atomically(path: Path | epath.Path, text: str) -> None:
    """Writes a file so that it appears whole or not at all, even if the machine stops meanwhile."""
    if not isinstance(path, Path):
        path.write_text(text)  # an object appears in a bucket when it is complete
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def is_link(path: Path | epath.Path) -> bool:
    """Whether a path is a symbolic link. Buckets have none."""
    return isinstance(path, Path) and path.is_symlink()


def remove(path: Path | epath.Path) -> None:
    """Removes a file, a link or a folder with its files, if it exists."""
    if is_link(path) or (path.exists() and not path.is_dir()):
        path.unlink()
    elif path.exists():
        shutil.rmtree(path) if isinstance(path, Path) else path.rmtree()
