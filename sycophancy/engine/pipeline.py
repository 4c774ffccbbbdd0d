"""Brings the stages of a run up to date: a stage runs when what it consists of has changed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import time
import typing
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from sycophancy import errors
from sycophancy.config.declarations import MEASURED_SETTINGS
from sycophancy.config.load import macro_values
from sycophancy.engine import disk_errors, fingerprint
from sycophancy.engine.distributed import Processes
from sycophancy.engine.fingerprint import Ingredients
from sycophancy.engine.resumable import Resumable
from sycophancy.engine.run_folder import NOT_DONE, RunFolder
from sycophancy.system import paths

if typing.TYPE_CHECKING:
    from etils import epath

    from sycophancy.config.schema import Config
    from sycophancy.engine.progress import Screen, Silence
    from sycophancy.engine.stage import Check, Counts, Publisher, Stage

T = TypeVar("T")

_UNKNOWN = Ingredients({}, {}, {})  # in every process but the one that owns the run folder


class Pipeline:
    """A configuration, the folder of its run, and the stages between them.

    Args:
        stages: the stages that runs can have, each after those it depends on; those that do not
            apply to the configuration are left out.
        config: the run's configuration.
        run: its folder.
        screen: where progress is shown.
        any_code: keep complete stages that other code made.
        redo: names of stages that may replace their checkpoints; these are kept until the new
            ones are complete.
        processes: the processes of the run; by default this one alone.
        reusable_runs: runs whose complete stages are linked if they are what this run needs.
    """

    def __init__(
        self,
        stages: Iterable[Stage],
        config: Config,
        run: RunFolder,
        screen: Screen | Silence,
        *,
        any_code: bool = False,
        redo: Iterable[str] = (),
        processes: Processes | None = None,
        reusable_runs: Sequence[RunFolder] = (),
    ) -> None:
        self.stages = {stage.name: stage for stage in stages if stage.applies(config)}
        self.config, self.run, self.screen, self.any_code = config, run, screen, any_code
        self.redo = frozenset(redo)
        self.reusable_runs = tuple(reusable_runs)
        self.processes = processes or Processes()

    # ---- what a command asks for ----------------------------------------------------------------

    def until(self, *names: str, only_if_current: Collection[str] = ()) -> None:
        """Brings stages, and every stage they depend on, up to date.

        Args:
            names: the stages.
            only_if_current: stages that are not run, but have to be up to date.

        Raises:
            UserError: bad input, a stage of `only_if_current` is out of date, or a folder that
                cannot be written to.
        """
        stages = [self.stages[name] for name in self._with_dependencies(names)]
        self._bring_up_to_date(stages, only_if_current)

    def until_extra(self, stage: Stage) -> None:
        """Brings a stage up to date that is none of the run's own, with what it depends on.

        The run's summaries and report stay as they are.

        Raises:
            UserError: as `until`.
        """
        names = self._with_dependencies(stage.depends_on)
        self._bring_up_to_date([*(self.stages[name] for name in names), stage])

    def summarise(self, name: str) -> None:
        """Runs one stage on what the run has, and says which stages are missing or out of date.

        Raises:
            UserError: a file of the run is damaged, or its folder cannot be written to.
        """
        stage = self.stages[name]
        with disk_errors.in_one_line(self.run.path):
            self._agree(lambda: self._prepare_summary(stage))
            self._update(stage)

    def is_current(self, name: str) -> bool:
        """True if a stage and all that it depends on are complete and up to date."""
        stage = self.stages[name]
        earlier = [each for each in stage.depends_on if each in self.stages]
        if self.run.manifest(name) is None or not all(map(self.is_current, earlier)):
            return False
        return not self._reasons(stage, self.ingredients(stage))

    def publish(self) -> None:
        """Writes the files at the top of the run folder that summarise its current stages."""
        publishers: dict[str, Publisher] = {}
        for stage in self.stages.values():
            publishers |= stage.published
        if not publishers:
            return
        current = [name for name in self.stages if self.is_current(name)]
        for name, publisher in publishers.items():
            if (text := publisher(self.run, current)) is not None:
                paths.write_atomically(self.run.path / name, text)

    def ingredients(self, stage: Stage, *, given_only: bool = False) -> Ingredients:
        """What the stage would consist of now.

        Args:
            stage: any stage.
            given_only: leave out the files inside the run, which earlier stages write.
        """
        values = macro_values(self.config)
        return Ingredients(
            settings={name: values[name] for name in values if name in stage.settings},
            files={
                name: path if isinstance(path, str) else self.run.digests.of(path)
                for name, path in stage.inputs(self.config, self.run).items()
                if not (given_only and self._is_inside(path))
            },
            code=stage.code(self.config),
        )

    # ---- before the first stage -----------------------------------------------------------------

    def _bring_up_to_date(
        self, stages: Sequence[Stage], only_if_current: Collection[str] = ()
    ) -> None:
        with disk_errors.in_one_line(self.run.path):
            self._agree(lambda: self._check(stages, only_if_current))
            for stage in stages:
                if stage.name in only_if_current:
                    self._agree(functools.partial(self._require_current, stage))
                if stage.top_level:  # it reads what is published
                    self._agree(self.publish)
                self._update(stage)
                self._agree(self._record_configuration)
            self._agree(self.publish)

    def _check(self, stages: Sequence[Stage], only_if_current: Collection[str] = ()) -> None:
        """Raises at once what would otherwise be raised after hours of earlier stages."""
        self._check_layout()
        resumable = [stage.name for stage in self.stages.values() if stage.step_setting]
        if unknown := sorted(self.redo.difference(resumable)):
            raise errors.UserError(
                f"--redo {unknown[0]}: expected {', '.join(resumable)}; every other stage is done "
                "again automatically when something that it consists of has changed"
            )
        for stage in stages:
            if stage.step_setting and stage.name not in self.redo:
                self._protect(stage)
            if stage.name in only_if_current and all(map(self.is_current, stage.depends_on)):
                self._require_current(stage)
        checks: dict[Check, None] = {}
        for stage in stages:
            if not self._is_done(stage):
                checks |= dict.fromkeys(stage.checks)
        for check in checks:
            check(self.config, self.run)

    def _require_current(self, stage: Stage) -> None:
        """Raises UserError with the reason if a stage, which is not to be run, is out of date."""
        if not self.is_current(stage.name):
            reasons = self._reasons(stage, self.ingredients(stage))
            raise errors.UserError(
                f"{stage.name} is out of date ({fingerprint.shortened(reasons)}), and "
                f"this command does not run it; `sycophancy {stage.command}` does"
            )

    def _is_done(self, stage: Stage) -> bool:
        if stage.name in self.stages:
            return self.is_current(stage.name)
        return self.run.manifest(stage.name) is not None

    def _check_layout(self) -> None:
        self.run.check_layout(self.stages, ["config.gin", *self._summaries()])

    def _protect(self, stage: Stage) -> None:
        """Refuses, before anything is written, a run that would replace a stage's checkpoints.

        The files that earlier stages will write are not known yet, but their settings, the files
        that the user gives and their code are.

        Raises:
            UserError: names the difference and the ways out.
        """
        resumable = self._resumable(stage)
        if not resumable.saved():
            return
        reasons = resumable.differences(
            self.ingredients(stage, given_only=True), any_code=self.any_code, own_files_only=True
        )
        for name in self._with_dependencies(stage.depends_on):
            earlier, manifest = self.stages[name], self.run.manifest(name)
            if manifest is not None:
                given = self.ingredients(earlier, given_only=True)
                files = {
                    file: digest
                    for file, digest in given.files.items()
                    if not file.startswith(earlier.measured_only)
                }
                reasons += dataclasses.replace(given, files=files).differences(
                    manifest["ingredients"],
                    code=not self.any_code,
                    ignored=MEASURED_SETTINGS,
                    own_files_only=True,
                )
        damage = resumable.lasting_damage()
        if reasons or damage:
            raise errors.UserError(resumable.refusal(list(dict.fromkeys(reasons)), damage))

    def _prepare_summary(self, stage: Stage) -> None:
        self._check_layout()
        others = [other for other in self.stages.values() if other.name != stage.name]
        if any(self.run.manifest(other.name) is not None for other in others):
            self._record_configuration()
        for other in others:
            self._refuse_damage(stage, other)
        for other in others:
            if self.run.manifest(other.name) is not None and not self.is_current(other.name):
                self.screen.note(
                    f"{stage.name}: {other.name} is out of date; `sycophancy run` does it again"
                )
        self.publish()

    def _refuse_damage(self, stage: Stage, other: Stage) -> None:
        """Raises UserError if a file of `other` is damaged; checkpoints may be pruned."""
        saved = self._resumable(other).saved_outputs() if other.step_setting else frozenset()
        for name, words in self.run.damage(other.name).items():
            if name not in saved:
                raise errors.UserError(f"{stage.name}: {words}; `sycophancy run` does it again")

    # ---- one stage ------------------------------------------------------------------------------

    def _update(self, stage: Stage) -> None:
        """Runs a stage, or links it from another run, unless it is current."""
        ingredients = self.ingredients(stage) if self.processes.leader else _UNKNOWN
        if self._agree(lambda: self._is_settled(stage, ingredients)):
            return
        start = time.monotonic()
        counts = self._work(stage, ingredients)
        seconds = time.monotonic() - start
        self._agree(lambda: self._complete(stage, ingredients, counts, seconds))
        self.screen.note(f"{stage.name}: done in {seconds:,.1f} s{_first_counts(counts)}")
        for note in counts.get("notes", ()):
            self.screen.note(f"{stage.name}: note: {note}")

    def _is_settled(self, stage: Stage, ingredients: Ingredients) -> bool:
        """True if the stage is current or could be linked from another run; else logs why not."""
        reasons = self._reasons(stage, ingredients)
        if not reasons:
            self.screen.note(f"{stage.name}: up to date")
            if stage.step_setting:
                self._resumable(stage).discard_set_aside()
            return True
        if reasons != [NOT_DONE]:
            self.screen.note(f"{stage.name}: again, because {fingerprint.shortened(reasons)}")
        return self._link(stage, ingredients)

    def _reasons(self, stage: Stage, ingredients: Ingredients) -> list[str]:
        """Why the stage must run, in words; empty if it is current."""
        any_code = self.any_code and stage.keeps_other_code
        return self.run.stale(stage.name, ingredients, any_code=any_code)

    def _link(self, stage: Stage, ingredients: Ingredients) -> bool:
        """Links the stage from a reusable run that has it ready; says whether one had.

        A stage with checkpoints is not shared, because it writes into its files when it resumes;
        nor is one that writes at the top of the run folder.
        """
        if stage.step_setting or stage.top_level:
            return False
        for other in self.reusable_runs:
            stale = other.stale(stage.name, ingredients, any_code=self.any_code)
            if not stale and self.run.take_over(stage.name, other):
                self._forget_summaries(stage)
                self.screen.note(f"{stage.name}: taken over from {other.path}")
                return True
        return False

    def _work(self, stage: Stage, ingredients: Ingredients) -> Counts:
        total = macro_values(self.config).get(stage.step_setting)
        try:
            with disk_errors.in_one_line(self.run.path, f"{stage.name}: "):
                shared = self._agree(lambda: self._workplace(stage, ingredients))
                if not (stage.on_devices or self.processes.leader):
                    return {}
                out = self.processes.workplace(
                    self.run.path / shared, together=bool(stage.step_setting)
                )
                with self.screen.meter(stage.name, stage.unit, total) as meter:
                    counts = stage.work(self.config, self.run, out, meter)
                if stage.on_devices:
                    gc.collect()  # arrays in cycles leave the devices before the next stage
                return counts
        except BaseException:
            if self.processes.leader:
                with contextlib.suppress(errors.UserError):  # what ended the stage matters more
                    self._abandon(stage)
            raise

    def _abandon(self, stage: Stage) -> None:
        """Removes what a failed stage has left, except checkpoints and their log."""
        if not stage.step_setting:
            self.run.abandon(stage.name)
            return
        self.run.publish()
        self.run.fetch(stage.name)  # the checkpoints that the processes have written there
        self._resumable(stage).abandon()
        self.run.publish()

    def _workplace(self, stage: Stage, ingredients: Ingredients) -> str:
        """The folder to work in, relative to the run's."""
        folder = self._prepared(stage, ingredients)
        return str(folder.relative_to(self.run.path))

    def _prepared(self, stage: Stage, ingredients: Ingredients) -> Path | epath.Path:
        if stage.top_level:
            return self.run.path
        if not stage.step_setting:
            return self.run.begin(stage.name)
        folder, notes = self._resumable(stage).begin(
            ingredients, any_code=self.any_code, redo=stage.name in self.redo
        )
        for note in notes:
            self.screen.note(f"{stage.name}: {note}")
        return folder

    def _complete(
        self, stage: Stage, ingredients: Ingredients, counts: Counts, seconds: float
    ) -> None:
        """Gives a stage's folder its final name and removes summaries that no longer fit."""
        if stage.top_level:
            self.run.complete_top_level(stage.name, ingredients, stage.top_level, counts, seconds)
            return
        if stage.step_setting:
            self.run.publish()
            self.run.fetch(stage.name)  # the checkpoints that the processes have written there
        self._forget_summaries(stage)
        codes = self._resumable(stage).codes() if stage.step_setting else []
        more = {"codes": codes} if len(codes) > 1 else {}
        self.run.complete(stage.name, ingredients, counts, seconds, stage.unverified, more)
        if stage.step_setting:
            self._resumable(stage).discard_set_aside()

    def _forget_summaries(self, stage: Stage) -> None:
        if stage.name in self.stages:  # and not an extra one
            writers = [other.name for other in self.stages.values() if other.top_level]
            self.run.forget([f"{name}/manifest.json" for name in writers] + self._summaries())

    def _agree(self, decide: Callable[[], T]) -> T:
        """The leader's decision in every process, and the run as the leader then left it."""

        def decide_and_publish() -> T:
            decision = decide()
            self.run.publish()
            return decision

        decision = self.processes.broadcast(decide_and_publish)
        if not self.processes.leader:
            self.run.fetch()
        return decision

    # ---- the stages together --------------------------------------------------------------------

    def _summaries(self) -> list[str]:
        """The files at the top of the run folder that stages write or publish."""
        return [
            name for stage in self.stages.values() for name in (*stage.top_level, *stage.published)
        ]

    def _with_dependencies(self, names: Iterable[str]) -> list[str]:
        needed = set(names)
        for name in reversed(self.stages):
            if name in needed:
                needed |= set(self.stages[name].depends_on)
        return [name for name in self.stages if name in needed]

    def _resumable(self, stage: Stage) -> Resumable:
        return Resumable(self.run, stage.name, stage.step_setting, stage.checkpoints)

    def _record_configuration(self) -> None:
        """Writes `config.gin`, once a stage is complete that used it."""
        paths.write_atomically(self.run.path / "config.gin", self.config.operative)

    def _is_inside(self, path: Path | epath.Path | str) -> bool:
        return not isinstance(path, str) and self.run.path in path.parents


def _first_counts(counts: Counts) -> str:
    numbers = [f"{value:,} {name}" for name, value in counts.items() if isinstance(value, int)]
    return f": {', '.join(numbers[:3])}" if numbers else ""
