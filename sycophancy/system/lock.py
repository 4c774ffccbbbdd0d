"""Locks a folder, so that one process at a time writes it.

The lock is a POSIX lock on a small file in the folder. The operating system frees it when the
process that holds it ends for any reason, so no lock outlives its holder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from sycophancy.errors import UserError

_HELD = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}  # POSIX's errors for a lock that is held
_HOLDER = re.compile(rb"[\0\s]*|(T5X, )?process \d+ on [^\n]*")  # the text of a lock file
_ours: set[tuple[int, int]] = set()  # device and inode of the lock files that this process holds
_warned: set[Path] = set()
_TRIES = 100  # attempts to lock a file that other processes remove at the same time


@contextlib.contextmanager
def hold(
    folder: Path, name: str = ".lock", *, who: str = "process", wait: bool = False
) -> Iterator[None]:
    """Locks a folder while the context is open.

    On a file system without locks, it prints a warning of one line and continues.

    Args:
        folder: the folder to lock; it must exist, and may be a link to a folder.
        name: the name of the lock file in the folder.
        who: the holder's name in the lock file and in messages to other processes.
        wait: wait until another holder frees the lock, and write no name into the file.

    Raises:
        UserError: another process holds the lock, or the lock file cannot be opened, or the file
            was not written by this function.
    """
    path = folder / name
    file = _open_locked(folder, path, wait)
    if file is None:  # another thread or context of this process holds the lock
        yield
        return
    status = os.fstat(file)
    key = (status.st_dev, status.st_ino)
    try:
        _ours.add(key)
        if not wait:
            _write(file, f"{who} {os.getpid()} on {platform.node()}")
        yield
    finally:
        if not wait:
            _write(file, "")
        _ours.discard(key)
        os.close(file)


def _open_locked(folder: Path, path: Path, wait: bool) -> int | None:
    """The descriptor of the locked file; None if this process holds the lock and `wait` is set."""
    import fcntl

    for _ in range(_TRIES):
        # Closing any descriptor of the file would free this process's lock, so look before opening.
        if _key(path) in _ours:
            if wait:
                return None
            raise _held(folder, path)
        file = _open(path)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in _HELD:
                refusal = _held(folder, path, os.pread(file, 200, 0))
                os.close(file)
                raise refusal from None
            _warn(folder, error.strerror or str(error))
        status = os.fstat(file)
        if _key(path) == (
            status.st_dev,
            status.st_ino,
        ):  # else the file was removed
            return file
        os.close(file)
    raise UserError(f"{path}: other processes replace it again and again; wait for them")


def _warn(folder: Path, reason: str) -> None:
    if folder not in _warned:
        _warned.add(folder)
        print(
            f"sycophancy: warning: {folder} cannot be locked ({reason}); make sure that no other "
            "process writes it",
            file=sys.stderr,
            flush=True,
        )


def _open(path: Path) -> int:
    """A descriptor of the lock file, which is created empty if it is missing."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise UserError(_no_lock_file(path, "a link")) from None
        if path.is_dir():
            raise UserError(_no_lock_file(path, "a directory")) from None
        raise UserError(
            f"cannot open the lock file {path}: {error.strerror or error}; allow reading and "
            "writing it, or give another --name or --out"
        ) from None
    status = os.fstat(file)
    wrong = ""
    if not stat.S_ISREG(status.st_mode):
        wrong = "no plain file"
    elif status.st_nlink > 1:
        wrong = "a hard link to another file"
    elif not _HOLDER.fullmatch(os.pread(file, 300, 0)):
        wrong = "a file with other contents"
    if wrong:
        os.close(file)
        raise UserError(_no_lock_file(path, wrong))
    return file


def _no_lock_file(path: Path, what: str) -> str:
    return f"{path} is {what}, where a lock file should be; move it away, or give another folder"


def _key(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        status = path.lstat()
        return status.st_dev, status.st_ino
    return None


def _held(folder: Path, path: Path, written: bytes | None = None) -> UserError:
    if written is None:
        written = f"process {os.getpid()} on {platform.node()}".encode()
    holder = written.strip(b"\0\n ").decode("utf-8", "replace") or "another process"
    return UserError(f"{folder} is being written by {holder}; wait for it, or give another --name")


def _write(file: int, text: str) -> None:
    """Replaces the text of the lock file, if the disk has room; the lock does not depend on it."""
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, text.encode(), 0)
