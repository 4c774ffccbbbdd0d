"""The settings, files and code that a stage's result depends on, as digests."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import stat
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sycophancy.engine import imports
from sycophancy.errors import UserError

if typing.TYPE_CHECKING:
    from etils import epath

_WHOLE = 256 * 2**20  # files up to this many bytes are hashed whole
_SAMPLE = 2**20  # of larger ones: this many bytes at the start, the middle and the end


@dataclasses.dataclass(frozen=True)
class Ingredients:
    """Everything that decides what a stage writes.

    Attributes:
        settings: gin macro -> value.
        files: name of an input file -> digest.
        code: source file -> digest.
    """

    settings: Mapping[str, Any]
    files: Mapping[str, str]
    code: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """One digest of all of them."""
        return _digest(json.dumps(self.as_json(), sort_keys=True).encode())

    def as_json(self) -> dict[str, Any]:
        """The three mappings as JSON reads them back: tuples become lists."""
        value: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return value

    def differences(
        self,
        earlier: Mapping[str, Any],
        *,
        code: bool = True,
        ignored: frozenset[str] = frozenset(),
        own_files_only: bool = False,
    ) -> list[str]:
        """What changed since an earlier result, in words; empty if nothing changed.

        Args:
            earlier: the `as_json()` of that result.
            code: True if a change of code counts.
            ignored: settings whose change does not count.
            own_files_only: ignore files that only `earlier` has.
        """
        now = self.as_json()
        # Settings that the earlier version did not have were what their defaults say.
        settings = _defaults(now["settings"].keys()) | earlier["settings"]
        changes = [
            f"{name} was {settings.get(name)!r} and is {now['settings'].get(name)!r}"
            for name in _changed(settings, now["settings"])
            if name not in ignored
        ]
        changes += [
            f"{name} changed"
            for name in _changed(earlier["files"], now["files"])
            if name in now["files"] or not own_files_only
        ]
        if code:
            changes += [f"{name} changed" for name in _changed(earlier["code"], now["code"])]
        return changes


def shortened(reasons: Sequence[str]) -> str:
    """The first three of several reasons, and how many more there are, for one line."""
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return ", ".join(reasons[:3]) + more


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name in dict.fromkeys([*before, *after])
        if name not in before or name not in after or before[name] != after[name]
    ]


def _defaults(names: Iterable[str]) -> dict[str, Any]:
    """The defaults of settings, as JSON reads them back; required settings have none."""
    from sycophancy.config.conversion import plain
    from sycophancy.config.declarations import declarations

    known = declarations()
    found = {n: plain(known[n].default) for n in names if n in known and not known[n].is_required}
    defaults: dict[str, Any] = json.loads(json.dumps(found))
    return defaults


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Digests:
    """Digests of files, each computed once while the file's size, time and inode stay the same."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, str]] = {}

    def of(self, path: Path | epath.Path) -> str:
        """The digest of a file's bytes, or of a folder's files with their names.

        A file of more than 256 MiB counts with its size and three samples of 1 MiB.

        Raises:
            UserError: a file cannot be read; the message names it.
        """
        try:
            if not path.is_dir():
                return self._of_file(path)
            lines = [f"{file.relative_to(path)} {self._of_file(file)}" for file in files_in(path)]
        except OSError as error:
            raise UserError(
                f"{error.filename or path} cannot be read: {error.strerror or error}"
            ) from None
        return _digest("\n".join(lines).encode(errors="surrogateescape"))

    def _of_file(self, path: Any) -> str:
        if not isinstance(path, Path):
            return _of_contents(path, path.stat().length)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would never end
            raise UserError(f"{path} is neither a file nor a folder")
        version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._known.get(str(path))
        if known is None or known[0] != version:
            known = self._known[str(path)] = version, _of_contents(path, status.st_size)
        return known[1]


def files_in(folder: Path | epath.Path) -> Iterator[Any]:
    """All files below a folder, in order."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from files_in(path)
        else:
            yield path


def _of_contents(path: Any, size: int) -> str:
    state = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        if size <= _WHOLE:
            while block := file.read(_SAMPLE):
                state.update(block)
        else:
            for offset in (0, size // 2, size - _SAMPLE):
                file.seek(offset)
                state.update(file.read(_SAMPLE))
    return state.hexdigest()


@functools.cache
def of_code(*modules: str, patterns: tuple[str, ...] = ()) -> Mapping[str, str]:
    """The digests of modules of this project and of everything of the project that they import.

    Args:
        modules: dotted names; imports inside functions count, imports for type checking do not.
        patterns: glob patterns of further files, relative to the package's parent.

    Example:
        >>> list(of_code("sycophancy.errors"))
        ['sycophancy/__init__.py', 'sycophancy/errors.py']
    """
    parent = imports.parent_folder()
    paths = imports.closure(*modules) | {path for glob in patterns for path in parent.glob(glob)}
    return {
        path.relative_to(parent).as_posix(): _digest(path.read_bytes()) for path in sorted(paths)
    }
