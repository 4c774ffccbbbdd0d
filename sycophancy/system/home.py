"""A home folder for the caches of libraries, where the machine gives none. Imports no library."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import tempfile
from collections.abc import MutableMapping
from pathlib import Path


def provide(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets HOME, TMPDIR and USER to what libraries can use, where they are missing or unusable.

    Containers often run under a user id that has no passwd entry and no home, or one that cannot be
    written. HOME then becomes `sycophancy-<user id>` in the folder for temporary files, so that
    compiled programs and what the hub sent are kept from one run to the next. What can be used
    stays as it is.

    Args:
      environment: gets the three variables.
    """
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:  # none can be written; what needs one says so
        return
    if environment.get("TMPDIR", temporary) != temporary:
        environment["TMPDIR"] = temporary
    if not _has_names():
        environment.setdefault("USER", f"user-{os.getuid()}")  # for getpass
        # To limit its cache, JAX has etils look at each file, which asks for the owner's name.
        environment.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", "-1")
    if not _is_usable(environment):
        with contextlib.suppress(OSError):  # a full disk: what needs a home says so
            environment["HOME"] = str(_substitute(Path(temporary)))


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
    """A folder that this user alone can write, as others may write beside it."""
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
