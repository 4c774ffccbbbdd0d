"""The user's home and cache folders; a home for the caches of libraries where there is none."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path


def provide(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets HOME, TMPDIR and USER if they are missing or if libraries could not use them.

    Containers often run under a user id without a passwd entry, without a home, or with a home that
    cannot be written. HOME then becomes `sycophancy-<user id>` in the folder for temporary files,
    which keeps compiled programs and downloads from one run to the next. Usable values stay.

    Args:
      environment: the environment to change.
    """
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:  # no folder can be written: the library that needs one reports it
        return
    if environment.get("TMPDIR", temporary) != temporary:
        environment["TMPDIR"] = temporary
    if not _has_names():
        environment.setdefault("USER", f"user-{os.getuid()}")  # for getpass
        # A limited cache makes JAX ask etils for the owner's name of each file, which would fail.
        environment.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", "-1")
    if not _is_usable(environment):
        with contextlib.suppress(OSError):  # a full disk: the library that needs a home reports it
            environment["HOME"] = str(_substitute(Path(temporary)))


def cache_folder(environment: Mapping[str, str]) -> Path:
    """This program's folder in the user's cache; a relative path if the user has no home."""
    home = environment.get("XDG_CACHE_HOME", "")
    if not Path(home).is_absolute():  # the XDG Base Directory Specification says to ignore it
        home = str(Path("~", ".cache").expanduser()) if _has_home() else ""
    return Path(home) / "sycophancy"


def _has_home() -> bool:
    try:
        return Path.home().is_absolute()
    except RuntimeError:  # neither HOME nor a line in the password file
        return False


def _has_names() -> bool:
    try:
        pwd.getpwuid(os.geteuid())
        grp.getgrgid(os.getegid())
    except KeyError:
        return False
    return True


def _is_usable(environment: MutableMapping[str, str]) -> bool:
    try:
        with tempfile.TemporaryFile(dir=environment.get("HOME") or Path.home()):
            return True
    except (OSError, RuntimeError):  # RuntimeError: neither HOME nor a passwd entry
        return False


def _substitute(temporary: Path) -> Path:
    """A folder that only this user can write, in the temporary folder that all users share."""
    folder = temporary / f"sycophancy-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not stat.S_IMODE(status.st_mode) & 0o022
    ):
        return folder
    return Path(tempfile.mkdtemp(prefix="sycophancy-"))
