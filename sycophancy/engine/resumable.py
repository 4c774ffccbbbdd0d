"""A stage with checkpoints: they are resumed, refused or set aside, and never lost."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from sycophancy.engine import manifests
from sycophancy.engine.fingerprint import Ingredients, shortened
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.system import paths

_BEGUN = "begun.json"


@dataclasses.dataclass(frozen=True)
class Resumable:
    """The folder of a stage that writes into its final place and can be resumed.

    Attributes:
        run: the run it belongs to.
        stage: its name.
        step_setting: the setting that counts its steps; if it is raised, the stage resumes.
        checkpoints: regular expressions of its checkpoints' names, such as `checkpoints/\\d+`;
            names of unfinished checkpoints do not match.
    """

    run: RunFolder
    stage: str
    step_setting: str
    checkpoints: tuple[str, ...]

    @property
    def folder(self) -> Any:
        """The folder that the stage writes to."""
        return self.run.stage(self.stage)

    def saved(self) -> list[str]:
        """The names of its checkpoints, relative to the folder."""
        paths = [path for pattern in ("*", "*/*") for path in self.folder.glob(pattern)]
        return sorted(
            filter(self._is_checkpoint, (str(path.relative_to(self.folder)) for path in paths))
        )

    def _is_checkpoint(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.checkpoints)

    def saved_outputs(self) -> frozenset[str]:
        """The outputs of the complete stage that belong to checkpoints, relative to the run."""
        folder = PurePath(self.stage)
        return frozenset(
            name
            for name in self.run.outputs(self.stage)
            for state in PurePath(name).relative_to(folder).parents
            if self._is_checkpoint(str(state))
        )

    def differences(
        self, ingredients: Ingredients, *, any_code: bool = False, own_files_only: bool = False
    ) -> list[str]:
        """Why the checkpoints cannot be resumed, in words; empty if they can.

        Args:
            ingredients: the settings, files and code that the stage would have now.
            any_code: resume checkpoints of other code.
            own_files_only: ignore files that `ingredients` do not have.
        """
        if not self.saved():
            return []
        if (begun := self._begun()) is None:
            return [f"neither {_BEGUN} nor {manifests.NAME} records its settings, files and code"]
        changes = ingredients.differences(
            begun,
            code=not any_code,
            ignored=frozenset({self.step_setting}),
            own_files_only=own_files_only,
        )
        then = begun["settings"].get(self.step_setting)
        now = ingredients.settings[self.step_setting]
        if not isinstance(then, int) or now < then:
            changes.append(f"{self.step_setting} was {then} and is {now}")
        return changes

    def lasting_damage(self) -> list[str]:
        """The damage that no intact checkpoint can repair, in words."""
        damage, damaged = self.run.damage(self.stage), self._damaged()
        if len(damaged) < len(self.saved()):
            for state in damaged:
                damage = {name: damage[name] for name in damage if not self._is_in(name, state)}
        return list(damage.values())

    def begin(
        self, ingredients: Ingredients, *, any_code: bool = False, redo: bool = False
    ) -> tuple[Any, list[str]]:
        """Prepares the folder to work in; checkpoints of an earlier start stay there.

        Checkpoints are resumed if they have the same settings, files and code, and at most as many
        steps. Damaged ones are set aside if an intact one is left. Everything else is refused or,
        with `redo`, set aside until `discard_set_aside`.

        Args:
            ingredients: the settings, files and code that the stage would have now.
            any_code: resume checkpoints of other code; `codes` then lists every code.
            redo: start again if the checkpoints cannot be resumed.

        Returns:
            The folder, and notes in words.

        Raises:
            UserError: checkpoints would be lost.
        """
        begun = self._begun()
        if not self.saved() and (begun is None or ingredients.differences(begun, code=False)):
            paths.remove(self.folder)
            self._restore()
        differences = self.differences(ingredients, any_code=any_code)
        damage, notes = self.lasting_damage(), []
        if (differences or damage) and not redo:
            raise UserError(self.refusal(differences, damage))
        if differences or damage:
            place = self._set_aside()
            notes.append(f"the earlier checkpoints are kept in {place} until this is done")
        elif damaged := self._damaged():
            place = self._set_aside(damaged)
            notes.append(f"{', '.join(damaged)} is damaged and was set aside in {place}")
        codes = self.codes() if self.saved() else []
        self.folder.mkdir(parents=True, exist_ok=True)
        made_of = ingredients.as_json()
        if made_of["code"] not in codes:
            codes = [*codes, made_of["code"]]
        manifests.write(self.folder / _BEGUN, {**made_of, "codes": codes})
        paths.remove(self.folder / manifests.NAME)
        return self.folder, notes

    def codes(self) -> list[dict[str, str]]:
        """Every code that wrote the checkpoints, as digests by file, in order."""
        begun = self._begun() or {}
        return list(begun.get("codes") or ([begun["code"]] if "code" in begun else []))

    def abandon(self) -> None:
        """After a start that failed before its first checkpoint: restores what was set aside."""
        if self.folder.exists() and not self.saved():
            written = [path.name for path in self.folder.iterdir()]
            if self._all_set_aside() or written == [_BEGUN]:  # else keep its log
                paths.remove(self.folder)
            self._restore()

    def discard_set_aside(self) -> None:
        """Deletes the checkpoints that a complete stage has replaced."""
        for place in self._all_set_aside():
            paths.remove(place)

    def refusal(self, differences: Sequence[str], damage: Sequence[str] = ()) -> str:
        """One line that says why checkpoints would be lost, and the ways out."""
        reasons = [*differences, *damage]
        ways = ["another --name" if differences else "the undamaged file back"]
        ways.append(f"--redo {self.stage} to do it again")
        if differences and all(words.endswith(".py changed") for words in reasons):
            ways.append("--any-code to keep the result of the other code")
        return (
            f"{self.stage}: {shortened(reasons)}; nothing was done, because "
            f"{self.folder} holds checkpoints: give {', or '.join(ways)}"
        )

    def _begun(self) -> dict[str, Any] | None:
        """Its settings, files and code, by the manifest or else by the record of its start."""
        if (manifest := self.run.manifest(self.stage)) is not None:
            return {**manifest["ingredients"], "codes": manifest.get("codes", [])}
        begun, _ = manifests.read_sealed(self.folder / _BEGUN)
        return begun if manifests.are_ingredients(begun) else None

    def _damaged(self) -> list[str]:
        damage = self.run.damage(self.stage)
        return [state for state in self.saved() if any(self._is_in(name, state) for name in damage)]

    def _is_in(self, name: str, state: str) -> bool:
        """True if an output, relative to the run, belongs to a checkpoint."""
        return f"{name}/".startswith(f"{self.stage}/{state}/")

    def _set_aside(self, parts: Sequence[str] = ()) -> Any:
        """Moves the folder, or parts of it, to a hidden folder of the run; returns its path."""
        number = len(self._all_set_aside()) + 1
        while (place := self.run.path / f".{self.stage}.set-aside-{number}").exists():
            number += 1
        if not parts:
            self.folder.rename(place)
        for part in parts:
            (place / part).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / part).rename(place / part)
        return place

    def _restore(self) -> None:
        """Restores the folder that was set aside last, unless there is one now."""
        whole = [place for place in self._all_set_aside() if (place / _BEGUN).exists()]
        if whole and not self.folder.exists():
            whole[-1].rename(self.folder)

    def _all_set_aside(self) -> list[Any]:
        """The folders that were set aside, the latest last."""
        places = self.run.path.glob(f".{self.stage}.set-aside-*")
        return sorted(places, key=lambda path: int(path.name.rpartition("-")[2]))
