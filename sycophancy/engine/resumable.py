"""A stage that saves as it goes: what it saved is continued, refused or set aside, never lost."""

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
    """The folder of a stage that writes into its final place and can be continued.

    Attributes:
        run: the run it belongs to.
        stage: its name.
        step_setting: the setting that counts its steps; with more of them it goes on.
        states: regular expressions of what it saves, such as `checkpoints/\\d+`; what another
            program leaves there while it saves does not match.
    """

    run: RunFolder
    stage: str
    step_setting: str
    states: tuple[str, ...]

    @property
    def folder(self) -> Any:
        """Where the stage writes."""
        return self.run.stage(self.stage)

    def saved(self) -> list[str]:
        """The names of what was saved, relative to the folder."""
        paths = [path for pattern in ("*", "*/*") for path in self.folder.glob(pattern)]
        return sorted(
            filter(self._is_state, (str(path.relative_to(self.folder)) for path in paths))
        )

    def _is_state(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.states)

    def saved_outputs(self) -> frozenset[str]:
        """The outputs of the complete stage that belong to saved states, relative to the run."""
        folder = PurePath(self.stage)
        return frozenset(
            name
            for name in self.run.outputs(self.stage)
            for state in PurePath(name).relative_to(folder).parents
            if self._is_state(str(state))
        )

    def differences(
        self, ingredients: Ingredients, *, any_code: bool = False, own_files_alone: bool = False
    ) -> list[str]:
        """How what was saved was made otherwise, in words; empty if it can be continued.

        Args:
            ingredients: what the stage would be made of now.
            any_code: continue what other code began.
            own_files_alone: leave out files that `ingredients` do not have.
        """
        if not self.saved():
            return []
        if (begun := self._begun()) is None:
            return [f"neither {_BEGUN} nor {manifests.NAME} says what it was made of"]
        changes = ingredients.differences(
            begun,
            code=not any_code,
            free=frozenset({self.step_setting}),
            own_files_alone=own_files_alone,
        )
        then = begun["settings"].get(self.step_setting)
        now = ingredients.settings[self.step_setting]
        if not isinstance(then, int) or now < then:
            changes.append(f"{self.step_setting} was {then} and is {now}")
        return changes

    def lasting_damage(self) -> list[str]:
        """What is damaged and cannot be made again from an intact saved state, in words."""
        damage, damaged = self.run.damage(self.stage), self._damaged()
        if len(damaged) < len(self.saved()):
            for state in damaged:
                damage = {name: damage[name] for name in damage if not self._is_in(name, state)}
        return list(damage.values())

    def begin(
        self, ingredients: Ingredients, *, any_code: bool = False, redo: bool = False
    ) -> tuple[Any, list[str]]:
        """The folder to work in, with what an earlier start saved there.

        What was saved is continued if it was made of the same settings, files and code, with at
        most as many steps. Saved states that are damaged are set aside if an intact one is left.
        Anything else is refused, or with `redo` set aside until `discard_set_aside`.

        Args:
            ingredients: what the stage would be made of now.
            any_code: continue what other code began; `codes` then lists every code that took part.
            redo: begin anew what cannot be continued.

        Returns:
            The folder, and notes in words.

        Raises:
            UserError: what was saved would be lost.
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
            notes.append(f"what was saved is kept in {place} until this is done")
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
        """Every code that took part in what was saved, as digests by module, in order."""
        begun = self._begun() or {}
        return list(begun.get("codes") or ([begun["code"]] if "code" in begun else []))

    def abandon(self) -> None:
        """Gives back what was set aside for a start that failed before it saved anything."""
        if self.folder.exists() and not self.saved():
            written = [path.name for path in self.folder.iterdir()]
            if self._all_set_aside() or written == [_BEGUN]:  # else a log may say why it failed
                paths.remove(self.folder)
            self._restore()

    def discard_set_aside(self) -> None:
        """Deletes what a complete stage has replaced."""
        for place in self._all_set_aside():
            paths.remove(place)

    def refusal(self, differences: Sequence[str], damage: Sequence[str] = ()) -> str:
        """One line that says why what was saved would be lost, and the ways out."""
        reasons = [*differences, *damage]
        ways = ["another --name" if differences else "the undamaged file back"]
        ways.append(f"--redo {self.stage} to do it again")
        if differences and all(words.endswith(".py changed") for words in reasons):
            ways.append("--any-code to keep what the other code made")
        return (
            f"{self.stage}: {shortened(reasons)}; nothing was done, because "
            f"{self.folder} holds saved work: give {', or '.join(ways)}"
        )

    def _begun(self) -> dict[str, Any] | None:
        """What it was made of, by the manifest or else by what its start wrote down."""
        if (manifest := self.run.manifest(self.stage)) is not None:
            return {**manifest["ingredients"], "codes": manifest.get("codes", [])}
        begun, _ = manifests.read_sealed(self.folder / _BEGUN)
        return begun if manifests.are_ingredients(begun) else None

    def _damaged(self) -> list[str]:
        damage = self.run.damage(self.stage)
        return [state for state in self.saved() if any(self._is_in(name, state) for name in damage)]

    def _is_in(self, name: str, state: str) -> bool:
        """Whether an output, relative to the run, belongs to a saved state."""
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
        """Takes back the folder that was set aside last, where there is none now."""
        whole = [place for place in self._all_set_aside() if (place / _BEGUN).exists()]
        if whole and not self.folder.exists():
            whole[-1].rename(self.folder)

    def _all_set_aside(self) -> list[Any]:
        """What was set aside, the latest last."""
        places = self.run.path.glob(f".{self.stage}.set-aside-*")
        return sorted(places, key=lambda path: int(path.name.rpartition("-")[2]))
