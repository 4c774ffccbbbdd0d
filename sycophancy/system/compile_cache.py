"""JAX's cache of compiled programs: where it lies, and repair of damaged entries.

JAX keeps the cache; this module sets its folder through environment variables, which reach every
process of a run, and removes damaged entries. It does not import JAX.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import sys
import warnings
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from sycophancy.system import home

FOLDER = "JAX_COMPILATION_CACHE_DIR"
_MAX_BYTES = 4 * 2**30  # JAX then removes the least recently used programs

# An entry has two files: the program, and the time when it was last read.
_HALVES = ("-cache", "-atime")
_LOCK = ".lockfile"
_LOCK_SECONDS = 1.0
_WARNING = re.compile(
    r"Error (?P<doing>reading|writing) persistent compilation cache entry for '.*?': "
    r"(?P<reason>(?P<kind>\w+).*)",
    re.DOTALL,
)
# Errors of zlib, zstandard and XLA about a damaged program; other errors concern the folder.
_DAMAGE = re.compile(r"error|\w*(?:Zstd|Runtime|Value|EOF)Error")


def keep(environment: MutableMapping[str, str] = os.environ) -> Path | None:
    """Makes JAX keep compiled programs. Call it before JAX is imported.

    Variables that the user has set stay; an empty JAX_COMPILATION_CACHE_DIR switches the cache off.
    The default folder is cleaned of half-written entries. If it cannot be written, JAX gets no
    folder.

    Args:
      environment: the environment to change.

    Returns:
      The default folder if JAX uses it, otherwise None.
    """
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    folder = _own_folder(environment)
    # Programs that share another folder may set no limit, and then write no times into it.
    if folder is None or environment.setdefault(FOLDER, str(folder)) != str(folder):
        return None
    if environment.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_MAX_BYTES)) != "-1":
        clean(folder)  # without a limit, JAX writes no times, and all entries would look damaged
    return folder


def clean(folder: Path) -> int:
    """Removes incomplete entries, and renames folders that stand where a file should be.

    A process that is killed while it writes leaves half an entry. JAX reads the times of all
    entries before each write, so half an entry makes all later writes fail.

    Returns:
      The number of removed files and renamed folders.
    """
    lock = folder / _LOCK
    gone = int(os.path.lexists(lock) and not lock.is_file() and _remove(lock))
    if not any(_damaged(folder)):
        return gone
    import filelock

    try:
        with filelock.FileLock(
            lock, timeout=_LOCK_SECONDS
        ):  # JAX's own lock: no process is writing now
            return gone + sum(_remove(path) for path in list(_damaged(folder)))
    except (
        filelock.Timeout,
        OSError,
        NotImplementedError,
    ):  # NotImplementedError: a file system without locks
        return gone


def mend_when_damaged(folder: Path | None) -> None:
    """Repairs the cache when JAX warns about it, and prints one line per process in its place.

    JAX compiles a program again whenever the cache fails.

    Args:
      folder: the default folder, which may be repaired; None if the user chose another one.
    """
    show = warnings.showwarning
    lines = iter([True])

    def mend(message: Warning | str, *rest: Any, **options: Any) -> None:
        match = _WARNING.match(str(message))
        if match is None:
            show(message, *rest, **options)
            return
        mended = 0
        if folder is not None:
            mended = clean(folder)
            if match["doing"] == "reading" and _DAMAGE.fullmatch(match["kind"]):
                mended += _remove_last_read(folder)
        if next(lines, False):
            what = (
                f"a damaged program was removed from the compile cache {folder}"
                if mended
                else f"the compile cache fails ({' '.join(match['reason'].split())[:200]})"
            )
            print(f"note: {what}; programs are compiled again", file=sys.stderr)

    warnings.showwarning = mend


def _own_folder(environment: MutableMapping[str, str]) -> Path | None:
    """The default folder below the user's cache folder; None if it cannot be created or written."""
    folder = home.cache_folder(environment) / "compiled" / _processor()
    existing = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    usable = folder.is_absolute() and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return folder if usable and _is_unicode(folder) else None


def _is_unicode(folder: Path) -> bool:
    """Whether a path is UTF-8, as XLA needs it."""
    try:
        return bool(str(folder).encode())
    except UnicodeEncodeError:
        return False


def _damaged(folder: Path) -> Iterator[Path]:
    """The files of entries that are not two readable, writable files with content."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:  # the folder is missing or may not be read
        return
    keys = {name[: -len(half)] for name in names for half in _HALVES if name.endswith(half)}
    for key in sorted(keys):
        entry = [folder / f"{key}{half}" for half in _HALVES]
        if not all(map(_is_good, entry)):
            yield from (path for path in entry if os.path.lexists(path))


def _is_good(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0 and os.access(path, os.R_OK | os.W_OK)
    except OSError:
        return False


def _remove(path: Path) -> bool:
    """Removes a file or renames a folder; returns whether the path is free now."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            path.replace(path.with_name(f"{path.name}.aside"))
        else:
            path.unlink()
    return not os.path.lexists(path)


def _remove_last_read(folder: Path) -> int:
    """Removes the entry that was read last, which is the damaged one.

    JAX writes an entry's time before it reads the program.
    """
    with contextlib.suppress(
        OSError, ValueError
    ):  # another process removed it, or there is no entry
        last = max(folder.glob("*-atime"), key=lambda path: path.stat().st_mtime_ns)
        return _remove(last) + _remove(last.with_name(f"{last.name.removesuffix('-atime')}-cache"))
    return 0


def _processor() -> str:
    """A name of this kind of processor.

    Machines that share a home may differ in the instructions that compiled programs use.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = [platform.processor()]
    traits = sorted(
        {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    )
    digest = hashlib.blake2b("\n".join(traits or lines[:1]).encode(), digest_size=4).hexdigest()
    return f"{platform.machine()}-{digest}"
