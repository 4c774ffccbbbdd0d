"""Where compiled programs are kept, so that a run that continues need not compile again.

JAX does it; this says where, by environment, which reaches every process of a run, and keeps the
folder usable. Imports no JAX.
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

FOLDER = "JAX_COMPILATION_CACHE_DIR"
_MAX_BYTES = 4 * 2**30  # the least recently used goes first

# An entry is two files: the program, and when it was last read.
_HALVES = ("-cache", "-atime")
_LOCK = ".lockfile"
_LOCK_SECONDS = 1.0
_WARNING = re.compile(
    r"Error (?P<doing>reading|writing) persistent compilation cache entry for '.*?': "
    r"(?P<reason>(?P<kind>\w+).*)",
    re.DOTALL,
)
# What zlib, zstandard and XLA raise on a damaged program. Other errors are the folder's.
_DAMAGE = re.compile(r"error|\w*(?:Zstd|Runtime|Value|EOF)Error")


def keep(environment: MutableMapping[str, str] = os.environ) -> Path | None:
    """Tells JAX, which must not be imported yet, to keep what it compiles.

    What the user has set stays; an empty JAX_COMPILATION_CACHE_DIR keeps nothing. Our own folder is
    cleaned of half written entries; where it cannot be written to, JAX is told nothing.

    Args:
      environment: gets JAX's own variables.

    Returns:
      Our own folder, if JAX uses it.
    """
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    folder = _own_folder(environment)
    # Another folder may be shared with programs that do not limit its size, and write no times.
    if folder is None or environment.setdefault(FOLDER, str(folder)) != str(folder):
        return None
    if environment.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_MAX_BYTES)) != "-1":
        clean(folder)  # without a limit, JAX writes no times
    return folder


def clean(folder: Path) -> int:
    """Removes entries that are not whole; a folder in the place of a file is renamed.

    JAX reads the time of every entry before each write, so one half entry, as a process leaves it
    that is killed while it writes, fails all writes after it.

    Returns:
      How many files and folders went.
    """
    lock = folder / _LOCK
    gone = int(os.path.lexists(lock) and not lock.is_file() and _remove(lock))
    if not any(_damaged(folder)):
        return gone
    import filelock

    try:
        with filelock.FileLock(lock, timeout=_LOCK_SECONDS):  # JAX's own: nobody is writing now
            return gone + sum(_remove(path) for path in list(_damaged(folder)))
    except (filelock.Timeout, OSError, NotImplementedError):  # the last: no locks here
        return gone


def mend_when_damaged(folder: Path | None) -> None:
    """Lets JAX's warnings about the cache mend it; they become one line, once a process.

    JAX compiles a program anew whenever the cache fails.

    Args:
      folder: our own, which may be mended; None if the cache is somebody else's.
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
    """Our folder below the user's cache, unless it cannot be made or written to."""
    home = environment.get("XDG_CACHE_HOME", "")
    if not Path(home).is_absolute():  # to be ignored, says the XDG Base Directory Specification
        home = str(Path("~", ".cache").expanduser()) if _has_home() else ""
    folder = Path(home) / "sycophancy" / "compiled" / _processor()
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    usable = folder.is_absolute() and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return folder if usable and _is_unicode(folder) else None


def _has_home() -> bool:
    try:
        return Path.home().is_absolute()
    except RuntimeError:  # neither HOME nor a line in the password file
        return False


def _is_unicode(folder: Path) -> bool:
    """Whether XLA, which wants UTF-8, can be told this path."""
    try:
        return bool(str(folder).encode())
    except UnicodeEncodeError:
        return False


def _damaged(folder: Path) -> Iterator[Path]:
    """The files of entries that are not two readable, writable files with something in them."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:  # not there yet, or not ours to read
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
    """Whether the path is free now."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            path.replace(path.with_name(f"{path.name}.aside"))
        else:
            path.unlink()
    return not os.path.lexists(path)


def _remove_last_read(folder: Path) -> int:
    """Removes the entry that was read last: JAX notes the time before it looks into the program."""
    with contextlib.suppress(OSError, ValueError):  # another process was quicker; none is there
        last = max(folder.glob("*-atime"), key=lambda path: path.stat().st_mtime_ns)
        return _remove(last) + _remove(last.with_name(f"{last.name.removesuffix('-atime')}-cache"))
    return 0


def _processor() -> str:
    """Names this kind of processor: code for one may use what another, of the same home, lacks."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = [platform.processor()]
    told = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    digest = hashlib.blake2b("\n".join(told or lines[:1]).encode(), digest_size=4).hexdigest()
    return f"{platform.machine()}-{digest}"
