"""The stages in order, and what each needs; a stage runs when what it is made of has changed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sycophancy import errors
from sycophancy.config import macros
from sycophancy.config.load import macro_values
from sycophancy.config.schema import Config
from sycophancy.engine import distributed, fingerprint
from sycophancy.engine.distributed import Processes
from sycophancy.engine.fingerprint import Ingredients
from sycophancy.engine.progress import Meter, Screen, Silence
from sycophancy.engine.resumable import Resumable
from sycophancy.engine.run_folder import NOT_DONE, RunFolder
from sycophancy.stages import preflight, work
from sycophancy.system import json_files, paths
from sycophancy.training.t5x import requirements

if typing.TYPE_CHECKING:
    from etils import epath

Files = Callable[[Config, RunFolder], Mapping[str, Any]]
Work = Callable[[Config, RunFolder, Any, Meter], Mapping[str, Any]]

# Macros of training that decide how it goes about, not what comes out.
_IDLE = ("MESH", "LOG_PERIOD", "SAVE_PERIOD", "SAVE_MINUTES", "KEEP_CHECKPOINTS", "KEEP_PERIOD")
STAGES_FILE = "sycophancy/stages/work.py"
_UNKNOWN = Ingredients({}, {}, {})  # to all but the process that keeps the run folder
_CANNOT_WRITE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.EIO,
    errno.EFBIG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """One arrow of the picture in docs/architecture.md.

    Attributes:
        name: also the name of its folder.
        after: the stages whose files it reads.
        unit: what it counts while it runs.
        settings: the macros that decide its result.
        files: name -> path of what it reads.
        modules: the modules that do the work; everything they import counts as their code.
        work: writes into the folder it is given and returns counts for the manifest.
        on_devices: whether all processes of a run do it together; else the first does it alone.
        grows: the setting that counts its steps, for a stage that can be continued when it was
            interrupted or when that setting has grown.
        states: regular expressions of what such a stage saves in its folder.
        unverified: names in its folder that nothing of the run reads, and that get no digest.
    """

    name: str
    after: tuple[str, ...]
    unit: str
    settings: frozenset[str]
    files: Files
    modules: Callable[[Config], tuple[str, ...]]
    work: Work
    on_devices: bool = True
    grows: str = ""
    states: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()

    def code(self, config: Config) -> Mapping[str, str]:
        """The digests of the code that does the work, this project's own, by file."""
        return fingerprint.of_code(*self.modules(config), patterns=(STAGES_FILE,))


def _macros_of(owner: str, *without: str) -> frozenset[str]:
    return frozenset(
        field.macro for field in macros.bindings() if field.owner == owner
    ) - frozenset(without)


def all_stages() -> dict[str, Stage]:
    """The stages of a run, in order."""
    network = _macros_of("NetworkConfig", "DROPOUT_RATE", "DTYPE", "REMAT_POLICY")
    evaluation = ("sycophancy.evaluation.metrics", "sycophancy.scoring.score")
    return {
        stage.name: stage
        for stage in (
            Stage(
                name="prepare",
                after=(),
                unit="rows",
                settings=_macros_of("DataConfig", "DATA_MIRROR", "SURVEYS", "INSTRUCTIONS")
                | {"TASK_FEATURE_LENGTHS"},
                files=work.data_files,
                modules=lambda config: ("sycophancy.data.prepare",),
                work=work.prepare,
                on_devices=False,
            ),
            Stage(
                name="filter",
                after=("prepare",),
                unit="prompts",
                settings=network | {"FILTRATION"},
                files=work.filter_files,
                modules=lambda config: (
                    "sycophancy.data.intervention",
                    "sycophancy.scoring.filtration",
                    "sycophancy.scoring.score",
                ),
                work=work.filter_rows,
            ),
            Stage(
                name="finetune",
                after=("prepare", "filter"),
                unit="steps",
                settings=network | {"DTYPE", "TRAINER"} | _macros_of("TrainingConfig", *_IDLE),
                files=work.finetune_files,
                modules=work.finetune_modules,
                work=work.finetune,
                grows="FINETUNE_STEPS",
                states=(r"checkpoints/\d+", r"checkpoint_\d+"),
                unverified=("tensorboard", "train", "t5x.log", "damaged"),
            ),
            Stage(
                name="evaluate_before",
                after=("prepare",),
                unit="prompts",
                settings=network,
                files=work.before_files,
                modules=lambda config: evaluation,
                work=work.evaluate_before,
            ),
            Stage(
                name="evaluate_after",
                after=("prepare", "finetune"),
                unit="prompts",
                settings=network,
                files=work.after_files,
                modules=lambda config: evaluation,
                work=work.evaluate_after,
            ),
        )
    }


class Pipeline:
    """A configuration, the folder of its run, and the stages between them.

    Args:
        config: the run's configuration.
        run: its folder.
        screen: where to say what is going on.
        any_code: accept complete stages that other code made.
        redo: stages that may replace what they have saved; it is kept until the new is complete.
        processes: the processes that do the run; by default this one alone.
        shelf: other runs, whose complete stages are taken over where they are what this run needs.
    """

    def __init__(
        self,
        config: Config,
        run: RunFolder,
        screen: Screen | Silence,
        *,
        any_code: bool = False,
        redo: Iterable[str] = (),
        processes: Processes | None = None,
        shelf: Sequence[RunFolder] = (),
    ) -> None:
        self.config, self.run, self.screen, self.any_code = config, run, screen, any_code
        self.redo = frozenset(redo)
        self.shelf = tuple(shelf)
        self.processes = processes or Processes()
        self.stages = all_stages()

    def until(self, *names: str) -> None:
        """Brings stages and everything they are made of up to date.

        Raises:
            UserError: bad input, or a place that cannot be written to.
        """
        needed = self._needed(names)
        with self._disk_faults_in_one_line():
            self.processes.broadcast(lambda: self._preflight(needed))
            for name in needed:
                self._bring_up_to_date(self.stages[name])
                self.processes.broadcast(self._record)
            self.processes.broadcast(self.write_metrics)

    def _preflight(self, needed: Sequence[str]) -> None:
        """Refuses at once what would be refused after hours of preparing and filtering."""
        self.run.check_layout([*self.stages, "report"])
        if unknown := sorted(self.redo - {s.name for s in self.stages.values() if s.grows}):
            known = ", ".join(stage.name for stage in self.stages.values() if stage.grows)
            raise errors.UserError(
                f"--redo {unknown[0]}: expected {known}; every other stage is done again by itself "
                "when something that it is made of has changed"
            )
        for name in needed:
            if self.stages[name].grows and name not in self.redo:
                self._protect(self.stages[name])
        if "finetune" in needed:
            work.check_finetuning(self.config, self.run)
        undone = [name for name in needed if not self.is_current(name)]
        if self.config.trainer == "t5x" and "finetune" in undone:
            requirements.check_installed()
        if any(self.stages[name].on_devices for name in undone):
            distributed.check_platform()
            work.check_model(self.config.model)
            preflight.check(self.config, undone)

    def _protect(self, stage: Stage) -> None:
        """Refuses, before anything is written, what would replace what a stage has saved.

        What earlier stages will write is not known yet, but their settings, the files that they are
        given and their code are.

        Raises:
            UserError: the difference, and the ways out.
        """
        resumable = self._resumable(stage)
        if not resumable.saved():
            return
        reasons = resumable.differences(
            self.ingredients(stage, given_alone=True), any_code=self.any_code, own_files_alone=True
        )
        for name in self._needed([stage.name])[:-1]:
            earlier, manifest = self.stages[name], self.run.manifest(name)
            if manifest is not None:
                made_of = self.ingredients(earlier, given_alone=True)
                reasons += made_of.differences(
                    manifest["ingredients"], code=not self.any_code, own_files_alone=True
                )
        damage = resumable.lasting_damage()
        if reasons or damage:
            raise errors.UserError(resumable.refusal(list(dict.fromkeys(reasons)), damage))

    def _resumable(self, stage: Stage) -> Resumable:
        return Resumable(self.run, stage.name, stage.grows, stage.states)

    @contextlib.contextmanager
    def _disk_faults_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _CANNOT_WRITE:
                raise
            raise errors.UserError(
                f"cannot write to {self.run.path}: {error.strerror}"
                f"{f' ({error.filename})' if error.filename else ''}; what was complete is kept, "
                "so the same command continues once there is room"
            ) from error

    def _record(self) -> None:
        """Writes `config.gin`, once there is something that was made by it."""
        paths.write_atomically(self.run.path / "config.gin", self.config.operative)

    def _needed(self, names: Iterable[str]) -> list[str]:
        needed = set(names)
        for name in reversed(self.stages):
            if name in needed:
                needed |= set(self.stages[name].after)
        return [name for name in self.stages if name in needed]

    def ingredients(self, stage: Stage, *, given_alone: bool = False) -> Ingredients:
        """What the stage would be made of now.

        Args:
            stage: one of this run.
            given_alone: leave out the files of the run itself, which earlier stages write.
        """
        values = macro_values(self.config)
        return Ingredients(
            settings={name: values[name] for name in values if name in stage.settings},
            files={
                name: path if isinstance(path, str) else self.run.digests.of(path)
                for name, path in stage.files(self.config, self.run).items()
                if not (given_alone and self._is_own(path))
            },
            code=stage.code(self.config),
        )

    def _is_own(self, path: Any) -> bool:
        return not isinstance(path, str) and self.run.path in path.parents

    def _bring_up_to_date(self, stage: Stage) -> None:
        ingredients = self.ingredients(stage) if self.processes.leader else _UNKNOWN
        if self.processes.broadcast(lambda: self._is_up_to_date(stage, ingredients)):
            return
        start = time.monotonic()
        counts = self._work(stage, ingredients)
        seconds = time.monotonic() - start
        self.processes.broadcast(lambda: self._complete(stage, ingredients, counts, seconds))
        self.screen.note(f"{stage.name}: done in {seconds:,.1f} s{_in_words(counts)}")
        for note in counts.get("notes", ()):
            self.screen.note(f"{stage.name}: note: {note}")

    def _complete(
        self, stage: Stage, ingredients: Ingredients, counts: Mapping[str, Any], seconds: float
    ) -> None:
        """Puts a stage's result in its place; what sums up the run no longer fits it."""
        self._forget_results(stage)
        codes = self._resumable(stage).codes() if stage.grows else []
        more = {"codes": codes} if len(codes) > 1 else {}
        self.run.complete(stage.name, ingredients, counts, seconds, stage.unverified, more)
        if stage.grows:
            self._resumable(stage).discard_set_aside()

    def _forget_results(self, stage: Stage) -> None:
        if stage.name in self.stages:  # and not another checkpoint's evaluation
            self.run.forget_results()

    def _is_up_to_date(self, stage: Stage, ingredients: Ingredients) -> bool:
        """True if the stage is current or could be linked from another run; else says why not."""
        reasons = self.run.stale(stage.name, ingredients, any_code=self.any_code)
        if not reasons:
            self.screen.note(f"{stage.name}: up to date")
            if stage.grows:
                self._resumable(stage).discard_set_aside()
            return True
        if reasons != [NOT_DONE]:
            self.screen.note(f"{stage.name}: again, because {fingerprint.shortened(reasons)}")
        return self._take_over(stage, ingredients)

    def _take_over(self, stage: Stage, ingredients: Ingredients) -> bool:
        """Whether another run on the shelf had the stage ready.

        A stage that saves as it goes is not shared: it writes into its files when it goes on.
        """
        if stage.grows:
            return False
        for other in self.shelf:
            stale = other.stale(stage.name, ingredients, any_code=self.any_code)
            if not stale and self.run.take_over(stage.name, other):
                self._forget_results(stage)
                self.screen.note(f"{stage.name}: taken over from {other.path}")
                return True
        return False

    def _work(self, stage: Stage, ingredients: Ingredients) -> Mapping[str, Any]:
        total = macro_values(self.config).get(stage.grows)
        try:
            shared = self.processes.broadcast(lambda: str(self._workplace(stage, ingredients)))
            if not (stage.on_devices or self.processes.leader):
                return {}
            out = self.processes.workplace(shared, together=bool(stage.grows))
            with self.screen.meter(stage.name, stage.unit, total) as meter:
                return stage.work(self.config, self.run, out, meter)
        except BaseException as error:
            if self.processes.leader and stage.grows:
                self._resumable(stage).abandon()
            elif self.processes.leader:
                self.run.abandon(stage.name)
            if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
                raise errors.UserError(
                    f"{stage.name}: cannot write to {self.run.path}: {error.strerror}; what was "
                    "complete is kept, so the same command continues once there is room"
                ) from error
            raise

    def _workplace(self, stage: Stage, ingredients: Ingredients) -> Path | epath.Path:
        if not stage.grows:
            return self.run.begin(stage.name)
        folder, notes = self._resumable(stage).begin(
            ingredients, any_code=self.any_code, redo=stage.name in self.redo
        )
        for note in notes:
            self.screen.note(f"{stage.name}: {note}")
        return folder

    def is_current(self, name: str) -> bool:
        """Whether a stage is complete and made of what it would be made of now."""
        stage = self.stages[name]
        if self.run.manifest(name) is None or not all(map(self.is_current, stage.after)):
            return False
        return not self.run.stale(name, self.ingredients(stage), any_code=self.any_code)

    def write_metrics(self) -> None:
        """Puts the metrics of the current evaluations into the run's `metrics.json`."""
        found = {
            series: json_files.require_object(
                self.run.stage(f"evaluate_{series}") / "metrics.json", "evaluate again"
            )
            for series in ("before", "after")
            if self.is_current(f"evaluate_{series}")
        }
        if found:
            text = json.dumps(found, indent=1)
            paths.write_atomically(self.run.path / "metrics.json", text)

    def report(self) -> Path | epath.Path:
        """Writes `report.html` of what the run has, and says what of it is out of date."""
        with self._disk_faults_in_one_line():
            return paths.open_path(self.processes.broadcast(lambda: str(self._report())))

    def _report(self) -> Path | epath.Path:
        self.run.check_layout([*self.stages, "report"])
        if any(self.run.manifest(name) is not None for name in self.stages):
            self._record()
        self._refuse_damage()
        for name in self.stages:
            if self.run.manifest(name) is not None and not self.is_current(name):
                self.screen.note(f"report: {name} is out of date; `sycophancy run` does it again")
        self.write_metrics()
        parts = [
            *(self.run.stage(name) / "manifest.json" for name in self.stages),
            *(self.run.path / name for name in ("config.gin", "metrics.json")),
        ]
        ingredients = Ingredients(
            settings={},
            files={
                str(path.relative_to(self.run.path)): self.run.digests.of(path)
                for path in parts
                if path.exists()
            },
            code=fingerprint.of_code(
                "sycophancy.report.page", patterns=("sycophancy/report/templates/*", STAGES_FILE)
            ),
        )
        report = self.run.path / "report.html"
        if not self.run.stale("report", ingredients):
            self.screen.note("report: up to date")
            return report
        start = time.monotonic()
        work.write_report(self.run)
        seconds = time.monotonic() - start
        self.run.complete_results("report", ingredients, ["report.html"], seconds)
        self.screen.note(f"report: done in {seconds:,.1f} s")
        return report

    def _refuse_damage(self) -> None:
        """Refuses to report on damaged files; saved states, which may be pruned, are not read.

        Raises:
            UserError: naming the first of them and the way out.
        """
        for stage in self.stages.values():
            saved = self._resumable(stage).saved_outputs() if stage.grows else frozenset()
            for name, words in self.run.damage(stage.name).items():
                if name not in saved:
                    raise errors.UserError(f"report: {words}; `sycophancy run` does it again")

    def evaluate_checkpoint(self, checkpoint: str) -> Path | epath.Path:
        """Asks another checkpoint of the same shape what is held out; returns its metrics' file."""
        model = dataclasses.replace(self.config.model, checkpoint=checkpoint)
        digest = hashlib.blake2b(checkpoint.encode(), digest_size=3).hexdigest()
        stage = dataclasses.replace(
            self.stages["evaluate_before"],
            name=f"evaluate_{Path(checkpoint).name[:50]}_{digest}",
            files=lambda _, run: {**work.evaluation_files(run), **work.model_files(model)},
            work=lambda config, run, out, meter: work.evaluate(config, model, run, out, meter),
        )

        def check() -> None:
            if self.run.manifest(stage.name) is None:
                distributed.check_platform()
                preflight.check(self.config, [stage.name])

        self.processes.broadcast(check)
        self.until(*stage.after)
        with self._disk_faults_in_one_line():
            self._bring_up_to_date(stage)
        return self.run.stage(stage.name) / "metrics.json"


def _in_words(counts: Mapping[str, Any]) -> str:
    numbers = [f"{value:,} {name}" for name, value in counts.items() if isinstance(value, int)]
    return f": {', '.join(numbers[:3])}" if numbers else ""
