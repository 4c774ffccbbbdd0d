"""The working copy of a run in a bucket: fetched from it, and published to it.

The bucket is the truth. `fetch` makes the copy what the bucket has, and `publish` brings to the
bucket what has changed in the copy since. A manifest is removed before anything that it describes
changes and written after all of it, so whoever reads the bucket never sees a manifest whose files
are not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from sycophancy.errors import UserError
from sycophancy.storage import lease
from sycophancy.storage.bucket import Bucket
from sycophancy.system import lock, paths
from sycophancy.system.home import cache_folder

_INDEX = ".bucket.json"  # in the copy: name -> [version in the bucket, size and time in the copy]
_MANIFEST = "manifest.json"
_SET_ASIDE = re.compile(r"\.\w+\.set-aside-\d+")  # the one kind of hidden folder that is published
State = list[int]  # the size in bytes and the time of change in ns of a file in the copy


class WorkingCopy:
    """The copy that this process has of a run in a bucket.

    Args:
        address: of the run.
        process: the number of this process, because several on one host need a copy each.
        folder: the copy's; by default one in the user's cache.

    Attributes:
        folder: the copy.
        bucket: the run's objects.
    """

    def __init__(self, address: str, process: int = 0, folder: Path | None = None) -> None:
        self.bucket = Bucket(address)
        self.folder = folder or place_of(self.bucket.address, process)
        self._lease: lease.Lease | None = None
        self._index: dict[str, list[str | int]] = {}

    @contextlib.contextmanager
    def owned(self, note: Callable[[str], None]) -> Iterator[None]:
        """Lets this process alone publish, until the context is left.

        Args:
            note: called with a line if another's lease has to expire first.

        Raises:
            UserError: another process writes the run, or the right to do so is lost.
        """
        address = self.bucket.address
        store = lease.KvStore(self.bucket.conditional(), address)
        self._lease = lease.Lease(
            store, address, seconds=lease.SECONDS, every=lease.RENEWAL_SECONDS
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock.hold(self.folder), self._lease.held(note):
            yield

    def fetch(
        self, inside: str = "", *, there: Mapping[str, str] | None = None, but: str = ""
    ) -> None:
        """Makes the copy, or its folder `inside`, what the bucket has.

        Args:
            inside: a folder of the run; empty for all of it.
            there: name -> version of the objects of `inside`, if they were listed just now.
            but: objects and files whose names begin so stay as they are; empty for none.

        Raises:
            UserError: the bucket cannot be read.
        """
        listed = self.bucket.versions(inside) if there is None else there

        def concerned(name: str) -> bool:
            return _is_part(name) and not (but and name.startswith(but))

        there = {name: version for name, version in listed.items() if concerned(name)}
        index = self._read_index()
        here = self._files()
        start = f"{inside}/" if inside else ""
        for name in here:
            if name.startswith(start) and concerned(name) and name not in there:
                self._forget(name)
                index.pop(name, None)
        wanted = [n for n, version in there.items() if index.get(n) != [version, *here.get(n, ())]]
        removed: list[str] = []  # by the leader, since they were listed
        self.bucket.download(wanted, self.folder, missing=removed.append)
        here = self._files()
        for name in set(wanted).difference(removed):
            index[name] = [there[name], *here[name]]
        self._write_index(index)

    def refresh(self, inside: str = "", *, there: Mapping[str, str], but: str = "") -> None:
        """Fetches without owning the run, unless a process of this host writes it.

        The files of such a process are newer than those in the bucket, so they stay as they are.
        The arguments are those of `fetch`.

        Raises:
            UserError: the bucket cannot be read.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock.hold(self.folder, ".reading", wait=True), _locked(self.folder) as free:
            if free:
                self.fetch(inside, there=there, but=but)

    def publish(self) -> None:
        """Brings to the bucket what has changed in the copy since it was fetched or published.

        Does nothing in a process that does not own the run.

        Raises:
            UserError: the lease is lost, or the bucket cannot be written to.
        """
        if self._lease is None:  # another process of the run does it
            return
        index, here = self._index, self._files()
        changed = [name for name, state in here.items() if index.get(name, [""])[1:] != state]
        gone = [name for name in index if name not in here]
        if not changed and not gone:
            return
        self._lease.check()
        manifests = [name for name in changed if _is_manifest(name)]
        removed = [name for name in gone if _is_manifest(name)]
        self.bucket.remove([*removed, *(name for name in manifests if name in index)])
        self.bucket.upload([name for name in changed if not _is_manifest(name)], self.folder)
        self.bucket.remove([name for name in gone if not _is_manifest(name)])
        self._lease.check()
        self.bucket.upload(manifests, self.folder)
        versions = self.bucket.versions()
        for name in gone:
            del index[name]
        for name in changed:
            index[name] = [versions.get(name, ""), *here[name]]
        self._write_index(index)

    def address(self, path: Path) -> str:
        """The address of a path in the copy."""
        inside = path.relative_to(self.folder).as_posix()
        return self.bucket.address if inside == "." else f"{self.bucket.address}/{inside}"

    def _files(self) -> dict[str, State]:
        """Name -> state of every file of the copy that belongs to the run."""
        found: dict[str, State] = {}
        for home, folders, files in os.walk(self.folder):
            for name in files:
                path = Path(home, name)
                relative = path.relative_to(self.folder).as_posix()
                if _is_part(relative):
                    with contextlib.suppress(FileNotFoundError):  # another thread removes it
                        status = path.stat()
                        found[relative] = [status.st_size, status.st_mtime_ns]
            folders[:] = [name for name in folders if not name.endswith(".unfinished")]
        return found

    def _forget(self, name: str) -> None:
        path = self.folder / name
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == self.folder or any(parent.iterdir()):
                break
            parent.rmdir()

    def _read_index(self) -> dict[str, list[str | int]]:
        try:
            self._index = dict(json.loads((self.folder / _INDEX).read_text()))
        except (OSError, ValueError, TypeError):  # then everything is fetched
            self._index = {}
        return self._index

    def _write_index(self, index: dict[str, list[str | int]]) -> None:
        self._index = index
        self.folder.mkdir(parents=True, exist_ok=True)
        paths.write_atomically(self.folder / _INDEX, json.dumps(index))


def place_of(address: str, process: int = 0) -> Path:
    """The folder of a working copy, in the user's cache."""
    digest = hashlib.blake2b(address.encode(), digest_size=6).hexdigest()
    name = f"{address.rpartition('/')[2]}-{digest}"
    runs = cache_folder(os.environ) / "runs"
    return runs / (name if not process else f"{name}.process-{process}")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Locks the folder if no process has locked it; says whether it did."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock.hold(folder))
        except UserError:
            yield False
            return
        yield True


def _is_part(name: str) -> bool:
    """Whether a file belongs to the run: hidden and unfinished ones do not."""
    first, *rest = PurePosixPath(name).parts
    if rest and _SET_ASIDE.fullmatch(first):
        first = ""
    return not any(part.startswith(".") or part.endswith(".unfinished") for part in (first, *rest))


def _is_manifest(name: str) -> bool:
    return PurePosixPath(name).name == _MANIFEST
