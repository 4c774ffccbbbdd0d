"""The stages `retention_before` and `retention_after`: MMLU and BIG-Bench Hard by the harness."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import typing
from collections.abc import Callable
from typing import Any, ClassVar

from sycophancy.engine.stage import Check, Counts, Inputs, Stage
from sycophancy.errors import UserError
from sycophancy.stages.checks import check_mesh, check_model, check_platform
from sycophancy.stages.evaluate import METRICS, metrics_text, write_metrics
from sycophancy.stages.finetune import finetuned_model
from sycophancy.stages.memory import enough_memory
from sycophancy.stages.models import model_files
from sycophancy.stages.scores import load_language_model
from sycophancy.stages.settings import NETWORK
from sycophancy.system import json_files

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config, ModelConfig
    from sycophancy.data.retention_rows import Rows
    from sycophancy.engine.progress import Meter
    from sycophancy.engine.run_folder import RunFolder
    from sycophancy.harness.retention import Family

AUTO = "auto"
PACKAGE = "lm_eval"
INSTALL = "pip install -e '.[harness]'"


def check_retention(config: Config, run: RunFolder) -> None:
    """Refuses RETENTION where the harness or a file that it needs is missing.

    Raises:
        UserError: as above; never for 'auto', which does without.
    """
    if AUTO in config.retention:
        return
    if not installed():
        raise UserError(
            f"RETENTION {' and '.join(config.retention)} needs the LM evaluation harness, which "
            f"is not installed: {INSTALL}, or --retention none"
        )
    for family in config.retention:
        _read(config, typing.cast("Family", family))


class Retention(Stage):
    """Measure other abilities, before and after finetuning: MMLU and BIG-Bench Hard."""

    command = "retention"
    when_absent = "RETENTION is empty, so there is nothing to measure; give --retention mmlu,bbh"
    unit = "prompts"
    settings = NETWORK | {"RETENTION", "RETENTION_LIMIT"}
    checks: ClassVar[tuple[Check, ...]] = (
        check_platform,
        check_model,
        check_mesh,
        check_retention,
    )
    published = {METRICS: metrics_text}  # noqa: RUF012  # declared, never changed

    def __init__(
        self,
        name: str,
        depends_on: tuple[str, ...],
        model_of: Callable[[Config, RunFolder], ModelConfig],
    ) -> None:
        self.name, self.depends_on, self.model_of = name, depends_on, model_of  # type: ignore[misc]

    def applies(self, config: Config) -> bool:
        return bool(config.retention)

    def inputs(self, config: Config, run: RunFolder) -> Inputs:
        """The model, the rows on this machine, and the version of the harness."""
        from sycophancy.data import retention_rows

        version = importlib.metadata.version(PACKAGE) if installed() else "not installed"
        inputs: dict[str, Any] = {"the LM evaluation harness": version}
        mirror = config.data.mirror
        if mirror is not None:
            files = retention_rows.mmlu_files(mirror)
            inputs |= {f"MMLU: {split}": path for split, path in files.items() if path.is_file()}
        if (mirror is not None or config.bbh_folder is not None) and installed():
            names = _subjects("bbh")
            files = retention_rows.bbh_files(mirror, config.bbh_folder, names)
            inputs |= {f"BIG-Bench Hard: {name}": path for name, path in files.items()}
        return {**inputs, **model_files(self.model_of(config, run))}

    def work(self, config: Config, run: RunFolder, out: Any, meter: Meter) -> Counts:
        from sycophancy.evaluation import retention

        rows, notes = rows_of(config)
        answers: list[retention.Answer] = []
        if rows:
            from sycophancy.harness import retention as harness
            from sycophancy.harness.adapter import HarnessModel

            with enough_memory():
                model = load_language_model(config, self.model_of(config, run))
                asked = HarnessModel(model, progress=meter)
                for tasks in harness.ALL_TASKS:
                    if tasks.family in rows:
                        meter.note(f"asks {tasks.variant}")
                        answers += harness.ask(
                            asked, tasks, rows[tasks.family], config.retention_limit
                        )
            notes += asked.notes
        retention.write_answers(out / retention.SAMPLES, answers)
        metrics = retention.metrics(answers)
        write_metrics(out, metrics)
        return {"questions": len(answers), "notes": notes}

    def summary(self, run: RunFolder) -> list[str]:
        """Each change, with the range of the paper's changes beside it."""
        from sycophancy.evaluation import naming, retention

        files = {
            side: run.stage(f"retention_{side}") / retention.SAMPLES for side in ("before", "after")
        }
        if not all(path.is_file() for path in files.values()):
            own = json_files.require_object(run.stage(self.name) / METRICS, "measure it again")
            return naming.table({"value": own}) if own else []
        before, after = map(retention.read_answers, files.values())
        return retention.table(retention.changes(before, after))


def retention_before() -> Retention:
    """Asks the checkpoint that finetuning starts from."""
    return Retention("retention_before", (), lambda config, run: config.model)


def retention_after() -> Retention:
    """Asks the finetuned checkpoint."""
    return Retention("retention_after", ("finetune",), finetuned_model)


def rows_of(config: Config) -> tuple[dict[Family, Rows], list[str]]:
    """The rows of each ability that is asked, and notes on what is left out.

    Raises:
        UserError: something is missing, and RETENTION is not 'auto'.
    """
    auto = AUTO in config.retention
    wanted = ("mmlu", "bbh") if auto else config.retention
    if auto and not installed():
        return {}, [
            "MMLU and BIG-Bench Hard are not measured: the LM evaluation harness is not "
            f"installed ({INSTALL})"
        ]
    found: dict[Family, Rows] = {}
    notes = []
    for family in typing.cast("tuple[Family, ...]", wanted):
        try:
            rows = _read(config, family)
        except UserError as error:
            if not auto:
                raise
            notes.append(f"{family} is not measured: {error}")
            continue
        known = _subjects(family)
        found[family] = {name: rows[name] for name in known if name in rows}
        if absent := [name for name in known if name not in rows]:
            notes.append(
                f"{family}: {len(absent)} of {len(known)} subjects have no rows and are left out "
                f"({', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''})"
            )
    return found, notes


def _read(config: Config, family: Family) -> Rows:
    from sycophancy.data import retention_rows

    if family == "mmlu":
        return retention_rows.read_mmlu(config.data.mirror)
    return retention_rows.read_bbh(config.data.mirror, config.bbh_folder, _subjects(family))


def _subjects(family: Family) -> list[str]:
    from sycophancy.harness.retention import subjects

    return subjects(family)


def installed() -> bool:
    """Whether the LM evaluation harness is installed."""
    return importlib.util.find_spec(PACKAGE) is not None
