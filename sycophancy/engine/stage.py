"""The declaration of a stage: its dependencies, settings, inputs, checks, work and summary."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from sycophancy.engine import fingerprint

if typing.TYPE_CHECKING:
    from etils import epath

    from sycophancy.config.schema import Config
    from sycophancy.engine.progress import Meter
    from sycophancy.engine.run_folder import RunFolder

Counts = Mapping[str, Any]  # what a manifest's "counts" holds: numbers, names and "notes"
Inputs = Mapping[str, "Path | epath.Path | str"]
Check = Callable[["Config", "RunFolder"], None]
Publisher = Callable[["RunFolder", Collection[str]], "str | None"]


class Stage:
    """One step of a run. A subclass declares it whole; `engine.pipeline` runs it.

    The stage is done again when a setting, an input or the code it consists of has changed. Its
    code is its module and every module of this project that its module imports.

    Attributes:
        name: also the name of its folder in the run.
        command: the subcommand that runs it; several stages may share one.
        depends_on: the names of the stages whose files it reads.
        unit: what its progress counts.
        settings: the macros that decide its result.
        checks: raise UserError for what would stop the stage. All checks of a run are made before
            its first stage starts; a check that several stages share is made once.
        on_devices: True if all processes of a run work together; else the first works alone.
        step_setting: the macro that counts its steps, for a stage that saves checkpoints as it
            goes and resumes when it was interrupted or when that macro has been raised.
        checkpoints: regular expressions of what such a stage saves in its folder.
        unverified: patterns of names in its folder that no stage reads; they get no digest.
        top_level: the files that it writes at the top of the run folder instead of its own folder.
        published: files at the top of the run folder that summarise several stages: name -> a
            function of the run and the names of the stages that are up to date, which returns the
            text, or None if there is nothing to publish.
        code_patterns: glob patterns of further files that count as its code, such as templates.
        measured_only: prefixes of the names of inputs that no checkpoint depends on: the user may
            change such files without losing what was trained.
        when_absent: what its command says of a run that lacks the stage; see `applies`.
        keeps_other_code: True if `--any-code` keeps what other code made.
    """

    name: str
    command: str
    depends_on: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "rows"
    settings: ClassVar[frozenset[str]] = frozenset()
    checks: ClassVar[tuple[Check, ...]] = ()
    on_devices: ClassVar[bool] = True
    step_setting: ClassVar[str] = ""
    checkpoints: ClassVar[tuple[str, ...]] = ()
    unverified: ClassVar[tuple[str, ...]] = ()
    top_level: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[Mapping[str, Publisher]] = {}
    code_patterns: ClassVar[tuple[str, ...]] = ()
    measured_only: ClassVar[tuple[str, ...]] = ()
    when_absent: ClassVar[str] = ""
    keeps_other_code: ClassVar[bool] = True

    def applies(self, config: Config) -> bool:
        """Whether a run with this configuration has the stage at all."""
        return True

    def inputs(self, config: Config, run: RunFolder) -> Inputs:
        """Name -> path of each file or folder that the stage reads, or an address that counts as
        it is written.
        """
        raise NotImplementedError

    def work(self, config: Config, run: RunFolder, out: Any, meter: Meter) -> Counts:
        """Does the work: writes into the folder `out` and returns counts for the manifest."""
        raise NotImplementedError

    def result(self, run: RunFolder) -> Path | epath.Path:
        """The path that the stage's command prints last."""
        return run.stage(self.name)

    def summary(self, run: RunFolder) -> list[str]:
        """Lines that the stage's command prints before that path."""
        return []

    def modules(self, config: Config) -> tuple[str, ...]:
        """The modules that do the work; everything they import counts as their code."""
        return (type(self).__module__,)

    def code(self, config: Config) -> Mapping[str, str]:
        """The digests of this project's files that do the work, by file."""
        return fingerprint.of_code(*self.modules(config), patterns=self.code_patterns)
