"""What a run does, one stage a file. To add a stage, write its file and add it to `all_stages`."""

from __future__ import annotations

from sycophancy.engine.stage import Stage


def all_stages() -> tuple[Stage, ...]:
    """The stages of a run; each stands behind those that it depends on."""
    from sycophancy.stages.evaluate import evaluate_after, evaluate_before
    from sycophancy.stages.filter import Filter
    from sycophancy.stages.finetune import Finetune
    from sycophancy.stages.prepare import Prepare
    from sycophancy.stages.report import Report

    return (Prepare(), Filter(), Finetune(), evaluate_before(), evaluate_after(), Report())
