"""A run is a folder: one sub-folder a stage, each with a manifest that is written last.

Killed at any instant, the folder holds complete stages (with a manifest), and perhaps an unfinished
one (without), which the next start does again or, where the stage can, continues.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import shutil
import typing
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sycophancy import __version__, errors, lock
from sycophancy.fingerprint import Ingredients

if typing.TYPE_CHECKING:
    from etils import epath

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "seqio", "tensorflow", "numpy", "pyarrow")


def open_path(path: str | os.PathLike[str]) -> Path | epath.Path:
    """A local path, or a bucket's (`gs://...`) through etils."""
    if "://" not in os.fspath(path):
        return Path(path)
    from etils import epath

    return epath.Path(path)


def write_atomically(path: Path | epath.Path, text: str) -> None:
    """Writes a file that appears whole or not at all, also when the machine stops."""
    if not isinstance(path, Path):
        path.write_text(text)  # a bucket shows an object only once it is complete
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """The versions a stage ran with; packages that are absent are left out."""
    found = {"sycophancy": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


class RunFolder:
    """One run on disk or in a bucket."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = open_path(path)

    def create(self) -> bool:
        """Makes the folder and checks that it can be written to; says whether it is new.

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
        """Holds the folder against a second process; see `lock.hold`.

        Buckets have no locks: there, two writers are the user's to avoid.
        """
        if not isinstance(self.path, Path):
            return contextlib.nullcontext()
        return lock.hold(self.path)

    def stage(self, name: str) -> Path | epath.Path:
        """The folder of a complete stage."""
        return self.path / name

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """What a complete stage says of itself; None if it is not complete."""
        return _read_json(self.stage(stage) / "manifest.json")

    def stale(self, stage: str, ingredients: Ingredients, *, any_code: bool = False) -> list[str]:
        """Why a stage must be done, or done again, in words; empty if it is up to date.

        Args:
            stage: its name.
            ingredients: what it would be made of now.
            any_code: accept what other code made.
        """
        manifest = self.manifest(stage)
        if manifest is None:
            return ["it is not done yet"]
        if changes := ingredients.differences(manifest["ingredients"], code=not any_code):
            return changes
        return [
            f"{name} is missing" for name in manifest["outputs"] if not (self.path / name).exists()
        ]

    def begin(self, stage: str) -> Path | epath.Path:
        """An empty folder to write a stage into; `complete` gives it its final name."""
        unfinished = self._unfinished(stage)
        _remove(unfinished)
        unfinished.mkdir(parents=True)
        return unfinished

    def continue_or_begin(
        self, stage: str, ingredients: Ingredients, grows: str
    ) -> Path | epath.Path:
        """The folder of a stage that saves as it goes, with what an interrupted start left there.

        That is kept if it was made of the same settings and files; other code and a larger `grows`
        (its number of steps) do not matter. Otherwise the folder is emptied.
        """
        out = self.stage(stage)
        begun = _read_json(out / "begun.json")
        if begun is not None and (
            ingredients.differences(begun, code=False, free=frozenset({grows}))
            or ingredients.settings[grows] < begun["settings"][grows]
        ):
            begun = None
        if begun is None:
            _remove(out)
            out.mkdir(parents=True)
        elif (out / "manifest.json").exists():
            (out / "manifest.json").unlink()
        write_atomically(out / "begun.json", json.dumps(ingredients.as_json(), indent=1))
        return out

    def complete(
        self, stage: str, ingredients: Ingredients, counts: Mapping[str, Any], seconds: float
    ) -> None:
        """Gives a stage's folder its final name and writes its manifest."""
        out = self._give_final_name(stage)
        outputs = [
            str(path.relative_to(self.path)) for path in sorted(out.iterdir()) if not _hidden(path)
        ]
        self._write_manifest(stage, ingredients, outputs, counts, seconds)

    def take_over(self, stage: str, other: RunFolder) -> bool:
        """Makes a complete stage of another run this one's, too; says whether it could.

        The files are hard links where links are possible, else copies: nothing may write into them
        in place. The manifest is the other's, and says so in `taken_from`.
        """
        manifest = other.manifest(stage)
        source, unfinished = other.stage(stage), self.begin(stage)
        try:
            if manifest is None or not (isinstance(source, Path) and isinstance(unfinished, Path)):
                raise FileNotFoundError(stage)
            _link(source, unfinished)
            if other.manifest(stage) != manifest:  # the other run does it again just now
                raise FileNotFoundError(stage)
        except OSError:
            self.abandon(stage)
            return False
        (unfinished / "manifest.json").unlink()
        out = self._give_final_name(stage)
        origin = os.path.relpath(source.parent, unfinished.parent)
        text = json.dumps({**manifest, "taken_from": origin}, indent=1)
        write_atomically(out / "manifest.json", text)
        return True

    def complete_results(
        self, stage: str, ingredients: Ingredients, outputs: list[str], seconds: float
    ) -> None:
        """Writes the manifest of a stage whose outputs lie at the top of the run folder."""
        self.stage(stage).mkdir(parents=True, exist_ok=True)
        self._write_manifest(stage, ingredients, outputs, {}, seconds)

    def abandon(self, stage: str) -> None:
        """Removes what a failed stage had written, but not what it can continue from."""
        _remove(self._unfinished(stage))
        out = self.stage(stage)
        if out.exists() and [path.name for path in out.iterdir()] == ["begun.json"]:
            _remove(out)

    def forget_results(self) -> None:
        """Removes what sums up the run, so that it never disagrees with the stages below it."""
        for name in ("report/manifest.json", "report.html", "metrics.json"):
            (self.path / name).unlink(missing_ok=True)

    def remove_if_empty(self) -> None:
        """Removes a folder that holds no stage, so that bad input leaves nothing behind."""
        if isinstance(self.path, Path) and not any(path.is_dir() for path in self.path.iterdir()):
            for name in ("config.gin", ".lock"):
                (self.path / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something of the user's lies there
                self.path.rmdir()

    def _give_final_name(self, stage: str) -> Path | epath.Path:
        """To a stage that is whole; the earlier one goes, its manifest first."""
        out, unfinished = self.stage(stage), self._unfinished(stage)
        if unfinished.exists():
            (out / "manifest.json").unlink(missing_ok=True)
            _remove(out)
            unfinished.rename(out)
        return out

    def _unfinished(self, stage: str) -> Path | epath.Path:
        return self.path / f".{stage}.unfinished"

    def _write_manifest(
        self,
        stage: str,
        ingredients: Ingredients,
        outputs: list[str],
        counts: Mapping[str, Any],
        seconds: float,
    ) -> None:
        manifest = {
            "stage": stage,
            "fingerprint": ingredients.fingerprint,
            "ingredients": ingredients.as_json(),
            "outputs": outputs,
            "counts": dict(counts),
            "seconds": round(seconds, 3),
            "versions": versions(),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        write_atomically(self.stage(stage) / "manifest.json", json.dumps(manifest, indent=1))


def _hidden(path: Any) -> bool:
    return bool(path.name.startswith(".") or path.name in ("manifest.json", "begun.json"))


def _link(source: Path, destination: Path) -> None:
    """Fills a folder with another's files, as links where that is possible."""
    for path in source.iterdir():
        if path.is_dir():
            (destination / path.name).mkdir()
            _link(path, destination / path.name)
            continue
        try:
            os.link(path, destination / path.name)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one that has no links
            shutil.copy2(path, destination / path.name)


def _read_json(path: Any) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return found


def _remove(path: Any) -> None:
    if not path.exists():
        return
    if isinstance(path, Path):
        shutil.rmtree(path)
    else:
        path.rmtree()
