"""Where a sweep lies: in a folder, or in a bucket, of which this process has a working copy.

In a bucket, each cell is a run with a lease of its own, so several hosts may run cells at the same
time. `sweep.json` and the report are made of what all cells have written, so any process may write
them: `sweep.json` only if no other has written it since this one looked, and the report again if
another has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.report.checkpoints import CHECKPOINTS
from sycophancy.storage import lease
from sycophancy.storage.bucket import Bucket
from sycophancy.storage.working_copy import place_of
from sycophancy.study.index import INDEX
from sycophancy.system import lock, paths

_TRIES = 100  # attempts to write `sweep.json` while other processes replace it


class SweepPlace:
    """The folder of a sweep, and its bucket if it is in one.

    Args:
        address: a path, or the address of a folder in a bucket.
        process: the number of this process among those that run each cell together.

    Attributes:
        folder: the folder, or this process's working copy of it.

    Raises:
        UserError: the address is not one of a bucket, or its client is not installed.
    """

    def __init__(self, address: str, process: int = 0) -> None:
        self._bucket = Bucket(address) if paths.is_address(address) else None
        self._process = process
        self.folder = place_of(self._bucket.address, process) if self._bucket else Path(address)

    def run(self, folder: Path) -> RunFolder:
        """The run of a cell with this folder."""
        if self._bucket is None:
            return RunFolder(folder)
        return RunFolder(f"{self._bucket.address}/{self._inside(folder)}", self._process, folder)

    def fetch(self, cells: Iterable[Path]) -> None:
        """Makes these cells' folders what the bucket has, if the sweep is in one.

        Their checkpoints are left out, and so is a cell that a process of this host is running,
        because its files here are newer.

        Raises:
            UserError: the bucket cannot be read.
        """
        if self._bucket is None:
            return
        versions = self._bucket.versions()
        for folder in cells:
            start = f"{self._inside(folder)}/"
            there = {
                name.removeprefix(start): version
                for name, version in versions.items()
                if name.startswith(start)
            }
            copy = self.run(folder).copy
            if copy is not None and (there or folder.exists()):
                copy.refresh(there=there, but=CHECKPOINTS)

    def write_index(self, cells: Iterable[Path], text: Callable[[], str]) -> None:
        """Fetches the cells and writes `sweep.json`; no entry of another process is lost.

        Args:
            cells: the folders that it is made of.
            text: makes it of these folders.

        Raises:
            UserError: the bucket cannot be read or written to.
        """
        if self._bucket is None:
            with lock.hold(self.folder, wait=True):
                paths.write_atomically(self.folder / INDEX, text())
            return
        for _ in range(_TRIES):
            contents, version = self._index.read()
            self.fetch(cells)
            found = text()
            if found.encode() == contents or self._index.write(found.encode(), version) is not None:
                paths.write_atomically(self.folder / INDEX, found)
                return
        raise UserError(
            f"{self._bucket.address}/{INDEX}: other processes replace it again and again; "
            "wait for them"
        )

    def write_report(self, write: Callable[[Path], Path], write_index: Callable[[], None]) -> str:
        """Writes the report and returns where its page is, as the user knows it.

        Args:
            write: writes the report's files to the top of the sweep's folder; returns the page.
            write_index: brings the cells and `sweep.json` up to date.

        Raises:
            UserError: a file cannot be written.
        """
        if self._bucket is None:
            return str(write(self.folder))
        for _ in range(_TRIES):
            _, version = self._index.read()
            write_index()
            page = write(self.folder)
            files = [path.name for path in self.folder.iterdir() if path.is_file()]
            report = [name for name in files if name != INDEX and not name.startswith(".")]
            self._bucket.upload(report, self.folder)
            if self._index.read()[1] == version:
                break
        return f"{self._bucket.address}/{page.name}"

    @functools.cached_property
    def _index(self) -> lease.KvStore:
        """`sweep.json` in the bucket."""
        assert self._bucket is not None
        return lease.KvStore(self._bucket.conditional(), self._bucket.address, INDEX)

    def _inside(self, folder: Path) -> str:
        return folder.relative_to(self.folder).as_posix()
