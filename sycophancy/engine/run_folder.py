"""The folder of a run: a sub-folder for each stage, with a manifest that is written last.

The folder of a run in a bucket is this host's working copy of it; see `sycophancy.storage`.

Whenever a run is killed, the folder holds complete stages, which have a manifest, and perhaps an
unfinished one without. The next start runs that stage again, or resumes it from its checkpoints.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shutil
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sycophancy import __version__, errors
from sycophancy.engine import fingerprint, manifests
from sycophancy.engine.fingerprint import Ingredients
from sycophancy.storage.working_copy import WorkingCopy
from sycophancy.system import lock
from sycophancy.system.paths import is_address, is_link, remove

if typing.TYPE_CHECKING:
    from etils import epath

NOT_DONE = "it is not done yet"

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "seqio", "tensorflow", "numpy", "pyarrow")


def versions() -> dict[str, str]:
    """The installed versions of the packages that a stage depends on."""
    from importlib import metadata

    numbers = {"sycophancy": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            numbers[package] = metadata.version(package)
    return numbers


class RunFolder:
    """The folder of one run.

    Args:
        place: a path, or the address of a folder in a bucket.
        process: the number of this process among those of the run.
        copy_at: where this process's working copy of a run in a bucket lies; by default in the
            user's cache.

    Attributes:
        path: the folder.
        copy: what brings it from and to a bucket; None for a run that is not in one.
    """

    def __init__(
        self, place: str | os.PathLike[str], process: int = 0, copy_at: Path | None = None
    ) -> None:
        self.copy = WorkingCopy(os.fspath(place), process, copy_at) if is_address(place) else None
        self.path: Path | epath.Path = self.copy.folder if self.copy else Path(place)
        self.digests = fingerprint.Digests()

    @property
    def name(self) -> str:
        """What pages and trackers call the run: the last part of its path or address."""
        if self.copy is not None:
            return self.copy.bucket.address.rpartition("/")[2]
        return Path(self.path).resolve().name

    def create(self) -> bool:
        """Creates the folder and checks that it can be written to; returns True if it is new.

        Raises:
            UserError: it cannot be written to.
        """
        new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if isinstance(self.path, Path):
                probe = self.path / f".probe.{os.getpid()}"
                probe.touch()
                probe.unlink()
        except OSError as error:
            raise errors.UserError(
                f"cannot write the run to {self.path}: {error.strerror or error}; "
                "give another folder with --out"
            ) from None
        return new

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Locks the folder against a second process; see `lock.hold`."""
        if self.copy is not None or not isinstance(self.path, Path):
            return contextlib.nullcontext()  # whoever opens the run holds the lease
        return lock.hold(self.path)

    @contextlib.contextmanager
    def fetched(self, note: Callable[[str], None], *, leader: bool) -> Iterator[None]:
        """Fetches a run that is in a bucket; the leader alone may write there while this is open.

        Args:
            note: called with a line if another process's lease has to expire first.
            leader: whether this process owns the run.

        Raises:
            UserError: another process writes the run, or the bucket cannot be read.
        """
        with contextlib.ExitStack() as stack:
            if self.copy is not None and leader:
                stack.enter_context(self.copy.owned(note))
            self.fetch()
            yield

    def fetch_to_read(self, inside: str = "", *, but: str = "") -> None:
        """Fetches a run that is in a bucket, and that another process may be writing.

        Args:
            inside: the part to fetch; by default all of it.
            but: what is left out: the start of its names in the run; by default nothing.

        Raises:
            UserError: there is no run at the address, or the bucket cannot be read.
        """
        if self.copy is None:
            return
        there = self.copy.bucket.versions(inside)
        if not inside and "config.gin" not in there:
            raise errors.UserError(f"there is no run {self.copy.bucket.address}: no config.gin")
        self.copy.refresh(inside, there=there, but=but)

    def fetch(self, inside: str = "") -> None:
        """Makes the folder, or a part of it, what the run's bucket has, if it is in one."""
        if self.copy is not None:
            self.copy.fetch(inside)

    def publish(self) -> None:
        """Brings what has changed in the folder to the run's bucket, if it is in one."""
        if self.copy is not None:
            self.copy.publish()

    def shown(self, path: Path | epath.Path) -> str:
        """A path of the run as users know it: in a bucket, its address."""
        if self.copy is None or not isinstance(path, Path):
            return str(path)
        return self.copy.address(path)

    def stage(self, name: str) -> Path | epath.Path:
        """The folder of a complete stage."""
        return self.path / name

    def check_layout(self, stages: Iterable[str], files: Iterable[str]) -> None:
        """Refuses a run folder in which other things have the names of its parts.

        A stage that runs again first removes everything in its folder, so that folder must not be
        a link to another place.

        Args:
            stages: names of stages.
            files: names of files at the top of the run.

        Raises:
            UserError: a stage's folder is a link or a file, or a file of the run is a folder.
        """
        for stage in stages:
            for path in (self.stage(stage), self._unfinished(stage)):
                if is_link(path) or (path.exists() and not path.is_dir()):
                    kind = "a link" if is_link(path) else "a file"
                    raise errors.UserError(
                        f"{path} is {kind}, and a folder of this run is expected there; move it "
                        "away, or give another --name"
                    )
        for name in files:
            path = self.path / name
            if path.exists() and not path.is_file():
                raise errors.UserError(
                    f"{path} is not a file, and this run writes one there; move it away, or give "
                    "another --name"
                )

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """The manifest of a complete stage; None if there is none or it cannot be read."""
        return self._read_manifest(stage)[0]

    def _read_manifest(self, stage: str) -> tuple[dict[str, Any] | None, str]:
        """A stage's manifest, or None and the reason why there is none."""
        path = self.stage(stage) / manifests.NAME
        if not (path.exists() or is_link(path)):
            return None, NOT_DONE
        manifest, reason = manifests.read(path)
        return manifest, f"{stage}/{manifests.NAME} {reason}"

    def stale(self, stage: str, ingredients: Ingredients, *, any_code: bool = False) -> list[str]:
        """Why a stage must run, in words; empty if it is up to date.

        Args:
            stage: its name.
            ingredients: the settings, files and code that it would have now.
            any_code: accept a result of other code.
        """
        manifest, reason = self._read_manifest(stage)
        if manifest is None:
            return [reason]
        changes = ingredients.differences(manifest["ingredients"], code=not any_code)
        return changes or list(self.damage(stage).values())

    def damage(self, stage: str) -> dict[str, str]:
        """The outputs of a complete stage that are damaged: path -> what is wrong.

        Every file is compared with the digest in the manifest; for files above 256 MiB the digest
        covers the size and three samples of 1 MiB.
        """
        problems = {}
        for name, digest in self.outputs(stage).items():
            path = self.path / name
            if not path.exists():
                problems[name] = f"{name} is missing"
            elif digest is not None and self._digest_or_reason(path) != digest:
                problems[name] = f"{name} is not as it was written"
        return problems

    def outputs(self, stage: str) -> dict[str, str | None]:
        """A complete stage's files: path relative to the run -> digest, or None."""
        manifest = self.manifest(stage)
        return {} if manifest is None else manifests.outputs(manifest)

    def _digest_or_reason(self, path: Any) -> str:
        try:
            return "a folder" if path.is_dir() else self.digests.of(path)
        except errors.UserError as error:
            return str(error)

    def begin(self, stage: str) -> Path | epath.Path:
        """An empty folder to write a stage into; `complete` gives it its final name."""
        unfinished = self._unfinished(stage)
        remove(unfinished)
        unfinished.mkdir(parents=True)
        return unfinished

    def complete(
        self,
        stage: str,
        ingredients: Ingredients,
        counts: Mapping[str, Any],
        seconds: float,
        unverified: Sequence[str] = (),
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Gives a stage's folder its final name and writes its manifest.

        Args:
            stage: its name.
            ingredients: its settings, files and code.
            counts: the counts and notes that it returned.
            seconds: the time that it took.
            unverified: patterns of names in its folder whose files get no digest.
            more: further entries of the manifest.
        """
        out = self._give_final_name(stage)
        outputs = [
            path
            for entry in sorted(out.iterdir())
            if not (_hidden(entry) or any(fnmatch(entry.name, name) for name in unverified))
            for path in (fingerprint.files_in(entry) if entry.is_dir() else [entry])
        ]
        self._write_manifest(stage, ingredients, outputs, counts, seconds, more)

    def take_over(self, stage: str, other: RunFolder) -> bool:
        """Links a complete stage of another run into this one; returns False if that is impossible.

        The files are hard links if the file system has them, else copies, so no stage may change
        them in place. The manifest is that of the other run, with its path in `taken_from`.
        """
        manifest = other.manifest(stage)
        source, unfinished = other.stage(stage), self.begin(stage)
        try:
            if manifest is None or not (isinstance(source, Path) and isinstance(unfinished, Path)):
                raise FileNotFoundError(stage)
            _link(source, unfinished)
            if other.manifest(stage) != manifest:  # the other run has just run it again
                raise FileNotFoundError(stage)
        except OSError:
            self.abandon(stage)
            return False
        (unfinished / manifests.NAME).unlink()
        out = self._give_final_name(stage)
        origin = os.path.relpath(source.parent, unfinished.parent)
        manifests.write(out / manifests.NAME, {**manifest, "taken_from": origin})
        return True

    def complete_top_level(
        self,
        stage: str,
        ingredients: Ingredients,
        outputs: Iterable[str],
        counts: Mapping[str, Any],
        seconds: float,
    ) -> None:
        """Writes the manifest of a stage whose outputs lie at the top of the run folder."""
        self.stage(stage).mkdir(parents=True, exist_ok=True)
        paths = [self.path / name for name in outputs]
        self._write_manifest(stage, ingredients, paths, counts, seconds)

    def abandon(self, stage: str) -> None:
        """Removes what a failed stage had written."""
        remove(self._unfinished(stage))

    def forget(self, names: Iterable[str]) -> None:
        """Removes files of the run, by their paths relative to it; absent ones are no error."""
        for name in names:
            remove(self.path / name)

    def remove_if_empty(self) -> None:
        """Removes a run folder without stages, so that bad input leaves no files."""
        if isinstance(self.path, Path) and not any(path.is_dir() for path in self.path.iterdir()):
            for name in ("config.gin", ".lock"):
                (self.path / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds a file of the user's
                self.path.rmdir()

    def _give_final_name(self, stage: str) -> Path | epath.Path:
        """Renames the folder of a complete stage; first removes the earlier one, manifest first."""
        out, unfinished = self.stage(stage), self._unfinished(stage)
        if unfinished.exists():
            remove(out / manifests.NAME)
            remove(out)
            unfinished.rename(out)
        return out

    def _unfinished(self, stage: str) -> Path | epath.Path:
        return self.path / f".{stage}.unfinished"

    def _write_manifest(
        self,
        stage: str,
        ingredients: Ingredients,
        outputs: Sequence[Any],
        counts: Mapping[str, Any],
        seconds: float,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        manifest = {
            "stage": stage,
            "fingerprint": ingredients.fingerprint,
            "ingredients": ingredients.as_json(),
            "outputs": {
                str(path.relative_to(self.path)): self.digests.of(path) for path in outputs
            },
            "counts": dict(counts),
            "seconds": round(seconds, 3),
            "versions": versions(),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **(more or {}),
        }
        manifests.write(self.stage(stage) / manifests.NAME, manifest)


def _hidden(path: Any) -> bool:
    return bool(path.name.startswith(".") or path.name in (manifests.NAME, "begun.json"))


def _link(source: Path, destination: Path) -> None:
    """Links or copies the files of a folder into another."""
    for path in source.iterdir():
        if path.is_dir():
            (destination / path.name).mkdir()
            _link(path, destination / path.name)
            continue
        try:
            os.link(path, destination / path.name)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links
            shutil.copy2(path, destination / path.name)
