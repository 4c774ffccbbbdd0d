"""One run as one page of HTML that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from sycophancy.errors import UserError
from sycophancy.report import figures, wording
from sycophancy.report.cards import cards
from sycophancy.report.curve import loss_curve
from sycophancy.report.examples import examples
from sycophancy.report.findings import findings
from sycophancy.report.headline import contradictions, sentences
from sycophancy.report.origin import origin
from sycophancy.report.provenance import bad_rows, balance, command, data_sets, too_long, versions
from sycophancy.report.reading import Reading, read_run
from sycophancy.system import paths

PAGE = "report.html"


def write_report(run: Path) -> Path:
    """Writes `report.html` into a run folder, whole or not at all, and returns its path.

    Raises:
      UserError: the folder is no run, nothing was evaluated, a file is damaged, or the page cannot
        be written.
    """
    text = render(read_run(run))
    path = run / PAGE
    try:
        paths.write_atomically(path, text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    return path


def render(reading: Reading) -> str:
    """The page as text; every word that comes from the run is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sycophancy.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=wording.percent,
        points=wording.points,
        duration=wording.duration,
        p_value=wording.p_value,
    )
    return environment.get_template("page.html.j2").render(_context(reading)) + "\n"


def _context(reading: Reading) -> dict[str, Any]:
    found = findings(reading)
    return {
        "reading": reading,
        "headline": sentences(reading),
        "origin": origin(reading.macros),
        "cards": cards(reading),
        "findings": found,
        "contradictions": contradictions(found),
        "probes": figures.probe_panels(reading),
        "everything": figures.everything(reading),
        "surveys": figures.survey_panels(reading),
        "sums": figures.addition_panels(reading),
        "biases": figures.bias_panels(reading),
        "skills": figures.skill_panels(reading),
        "neutral_surveys": figures.neutral_survey_panels(reading),
        "filtration": figures.filtration_panels(reading),
        "curve": loss_curve(reading.losses),
        "examples": examples(reading),
        "versions": versions(reading),
        "data_sets": data_sets(reading),
        "balance": balance(reading),
        "too_long": too_long(reading),
        "bad_rows": bad_rows(reading),
        "command": command(reading),
    }
