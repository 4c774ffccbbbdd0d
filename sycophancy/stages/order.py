"""The stages of a run, in order: to add one, write its file and add it here."""

from __future__ import annotations

from sycophancy.engine.stage import Stage
from sycophancy.stages.baselines import evaluate_baselines
from sycophancy.stages.evaluate import evaluate_after, evaluate_before
from sycophancy.stages.filter import Filter
from sycophancy.stages.finetune import Finetune
from sycophancy.stages.prepare import Prepare
from sycophancy.stages.report import Report
from sycophancy.stages.retention import retention_after, retention_before
from sycophancy.stages.retention_rows import RetentionRows


def all_stages() -> tuple[Stage, ...]:
    """The stages of a run; each stands behind those that it depends on."""
    stages = (
        Prepare(),
        RetentionRows(),
        Filter(),
        Finetune(),
        evaluate_before(),
        evaluate_after(),
        *evaluate_baselines(),
        retention_before(),
        retention_after(),
    )
    return (*stages, Report(tuple(stage.name for stage in stages)))


def by_command() -> dict[str, list[Stage]]:
    """The stages of each command, in order."""
    commands: dict[str, list[Stage]] = {}
    for stage in all_stages():
        commands.setdefault(stage.command, []).append(stage)
    return commands
