"""The page of one run: one html file that loads nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sycophancy.report import PAGE, pages
from sycophancy.report.origin import origin
from sycophancy.report.run import panels, provenance
from sycophancy.report.run.examples import examples
from sycophancy.report.run.family import explanation
from sycophancy.report.run.findings import findings
from sycophancy.report.run.headline import contradictions, sentences
from sycophancy.report.run.held_out_panels import held_out_panels
from sycophancy.report.run.key_numbers import key_numbers
from sycophancy.report.run.loss_figure import loss_figure
from sycophancy.report.run.other_abilities import abilities
from sycophancy.report.run.prompting import prompting
from sycophancy.report.run.record import RunRecord, read_run
from sycophancy.report.run.training_example import training_example


def write_report(run: Path, order: Sequence[str] = ()) -> Path:
    """Writes `report.html` into a run folder, whole or not at all, and returns its path.

    Args:
      run: the run folder.
      order: the order of stages on the page, see `record.read_run`.

    Raises:
      UserError: the folder is no run, nothing was evaluated, a file is damaged, or the page cannot
        be written.
    """
    return write(read_run(run, order))


def write(record: RunRecord) -> Path:
    """Writes `report.html` into the run folder of a record, whole or not at all.

    Raises:
      UserError: the page cannot be written.
    """
    page = record.run / PAGE
    pages.write(page, render(record))
    return page


def render(record: RunRecord) -> str:
    """The page as text."""
    return pages.render("run.html.j2", _context(record))


def _context(record: RunRecord) -> dict[str, object]:
    aims = [] if record.only_evaluated else findings(record)
    return {
        "record": record,
        "headline": sentences(record),
        "tests": explanation(record.changes),
        "origin": origin(record.macros),
        "key_numbers": key_numbers(record),
        "prompting": prompting(record),
        "protocol_findings": [finding for finding in aims if finding.protocol],
        "other_findings": [finding for finding in aims if not finding.protocol],
        "contradictions": contradictions(aims),
        "surveys": panels.survey_panels(record) + panels.neutral_survey_panels(record),
        "sums": panels.addition_panels(record) + panels.bias_panels(record),
        "further": panels.further_panels(record),
        "held_out": held_out_panels(record),
        "own_sets": panels.own_sets(record),
        "likelihoods": panels.likelihood_panels(record),
        "skills": panels.skill_panels(record),
        "abilities": abilities(record),
        "filtration": panels.filtration_panels(record),
        "everything": panels.everything(record),
        "losses": loss_figure(record.losses),
        "examples": examples(record),
        "versions": provenance.versions(record),
        "data_sets": provenance.data_sets(record),
        "training_example": training_example(record),
        "balance": provenance.balance(record),
        "too_long": provenance.too_long(record),
        "bad_rows": provenance.bad_rows(record),
        "command": provenance.command(record),
    }
