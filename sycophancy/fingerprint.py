"""What a stage's result depends on, as digests that can be compared and named."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

if typing.TYPE_CHECKING:
    from etils import epath

_WHOLE = 256 * 2**20  # files up to this many bytes are hashed whole
_SAMPLE = 2**20  # of larger ones: this many bytes at the start, the middle and the end


@dataclasses.dataclass(frozen=True)
class Ingredients:
    """Everything that decides what a stage writes.

    Attributes:
        settings: gin macros and their values.
        files: what the stage reads, by name, as digests.
        code: the modules that do the work, as digests.
    """

    settings: Mapping[str, Any]
    files: Mapping[str, str]
    code: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        return _digest(json.dumps(self.as_json(), sort_keys=True).encode())

    def as_json(self) -> dict[str, Any]:
        """The same as JSON gives it back, tuples as lists."""
        found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return found

    def differences(
        self, earlier: Mapping[str, Any], *, code: bool = True, free: frozenset[str] = frozenset()
    ) -> list[str]:
        """What changed since `earlier` (an `as_json()`), in words; empty if nothing did.

        Args:
            earlier: what an earlier result was made of.
            code: whether a change of code counts.
            free: settings that do not count.
        """
        now = self.as_json()
        changes = [
            f"{name} was {earlier['settings'].get(name)!r} and is {now['settings'].get(name)!r}"
            for name in _changed(earlier["settings"], now["settings"])
            if name not in free
        ]
        changes += [f"{name} changed" for name in _changed(earlier["files"], now["files"])]
        if code:
            changes += [f"{name} changed" for name in _changed(earlier["code"], now["code"])]
        return changes


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name in dict.fromkeys([*before, *after])
        if name not in before or name not in after or before[name] != after[name]
    ]


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def of_path(path: Path | epath.Path) -> str:
    """The digest of a file's bytes, or of a folder's files with their names.

    A file of more than 256 MiB counts with its size and three samples of 1 MiB.
    """
    if not path.is_dir():
        return _of_file(path)
    lines = [f"{file.relative_to(path)} {_of_file(file)}" for file in _files(path)]
    return _digest("\n".join(lines).encode())


def _files(folder: Path | epath.Path) -> Iterator[Any]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _of_file(path: Any) -> str:
    size = path.stat().st_size if hasattr(path.stat(), "st_size") else path.stat().length
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
def of_code(*patterns: str) -> Mapping[str, str]:
    """The digest of each Python module under the package's parent that matches a glob pattern.

    Example:
        >>> list(of_code("sycophancy/errors.py"))
        ['sycophancy/errors.py']
    """
    parent = Path(__file__).resolve().parents[1]
    modules = {path for pattern in patterns for path in parent.glob(pattern)}
    return {
        path.relative_to(parent).as_posix(): _digest(path.read_bytes()) for path in sorted(modules)
    }
