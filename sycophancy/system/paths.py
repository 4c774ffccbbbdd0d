"""Files and folders of a run, on a disk or in a bucket."""

from __future__ import annotations

import os
import shutil
import typing
from pathlib import Path
from typing import Any

if typing.TYPE_CHECKING:
    from etils import epath


def open_path(path: str | os.PathLike[str]) -> Path | epath.Path:
    """A local path, or a bucket's (`gs://...`) through etils."""
    if "://" not in os.fspath(path):
        return Path(path)
    from etils import epath

    return epath.Path(path)


def write_atomically(path: Path | epath.Path, text: str) -> None:
    """Writes a file that appears whole or not at all, also when the machine stops."""
    if not isinstance(path, Path):
        path.write_text(text)  # a bucket shows an object only once it is complete
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


def is_link(path: Any) -> bool:
    """Whether a path is a symbolic link; buckets have none."""
    return isinstance(path, Path) and path.is_symlink()


def remove(path: Any) -> None:
    """Removes a file, a link or a folder; nothing if there is none."""
    if is_link(path) or (path.exists() and not path.is_dir()):
        path.unlink()
    elif path.exists():
        shutil.rmtree(path) if isinstance(path, Path) else path.rmtree()
