"""The stages `retention_before` and `retention_after`: MMLU and BIG-Bench Hard by the harness."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, ClassVar

from sycophancy.engine.stage import Check, Counts, Inputs, Stage
from sycophancy.stages.checks import check_mesh, check_model, check_platform
from sycophancy.stages.evaluate import METRICS, metrics_text, write_metrics
from sycophancy.stages.finetune import finetuned_model
from sycophancy.stages.memory import enough_memory
from sycophancy.stages.models import model_files
from sycophancy.stages.retention_rows import RetentionRows, kept_files, kept_rows
from sycophancy.stages.scores import load_language_model
from sycophancy.stages.settings import NETWORK
from sycophancy.system import json_files

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config, ModelConfig
    from sycophancy.engine.progress import Meter
    from sycophancy.engine.run_folder import RunFolder


class Retention(Stage):
    """Measure other abilities, before and after finetuning: MMLU and BIG-Bench Hard."""

    command = "retention"
    when_absent = "RETENTION is empty, so there is nothing to measure; give --retention mmlu,bbh"
    unit = "prompts"
    settings = NETWORK | {"RETENTION_LIMIT"}
    checks: ClassVar[tuple[Check, ...]] = (check_platform, check_model, check_mesh)
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
        """The model, and the rows with the version of the harness that asks them."""
        return {**kept_files(run), **model_files(self.model_of(config, run))}

    def work(self, config: Config, run: RunFolder, out: Any, meter: Meter) -> Counts:
        from sycophancy.evaluation import retention

        rows = kept_rows(run)
        answers: list[retention.Answer] = []
        notes: list[str] = []
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
            notes = asked.notes
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
    return Retention("retention_before", (RetentionRows.name,), lambda config, run: config.model)


def retention_after() -> Retention:
    """Asks the finetuned checkpoint."""
    return Retention("retention_after", (RetentionRows.name, "finetune"), finetuned_model)
