"""The page of a sweep, one html file, and the tables of its numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sycophancy.report import PAGE, pages
from sycophancy.report.study import csv_tables
from sycophancy.report.study.cell_results import (
    CellResult,
    cell_results,
    changed_measures,
    measured,
)
from sycophancy.report.study.origin import (
    instructions_are_generated,
    label_of_cells,
    origin_of_cells,
)
from sycophancy.report.study.overview import MEASURES, overview
from sycophancy.report.study.pictures import SCALE, STEP_SCALE, Dots
from sycophancy.report.study.sections import (
    MARKS,
    Section,
    figures,
    knowledge,
    number_of_tests,
    sections,
)
from sycophancy.report.study.title import is_reproduction, scope, title, verdict_counts
from sycophancy.study.answers import Answers
from sycophancy.study.experiments import experiments
from sycophancy.study.families import FAMILIES, Family, family_of
from sycophancy.study.index import Sweep, read_sweep
from sycophancy.system import lock

MOST_NAMED = 8  # waiting runs; more are counted


def write_report(folder: Path) -> Path:
    """Writes `report.html` into a sweep's folder and returns its path.

    Its numbers are written beside it: `figures.csv`, `claims.csv` and `cells.csv`. Each file is
    written whole or not at all.

    Raises:
      UserError: the folder is no sweep, `sweep.json` is damaged, or a file cannot be written. The
        page names a run that is missing, failed or damaged.
    """
    with lock.hold(folder, wait=True):  # jobs of other cells write the same files
        return _write(folder)


def _write(folder: Path) -> Path:
    sweep = read_sweep(folder)
    family = family_of((cell.model, cell.recipe) for cell in sweep.cells)
    if not instructions_are_generated(sweep.cells):
        family = dataclasses.replace(family, instructions=Family.instructions)
    results = cell_results(sweep)
    table = experiments(family, changed_measures(results))
    sides = [side.measure for experiment in table for side in experiment.sides()]
    answers = Answers(sweep, {*sides, *MEASURES})
    parts = sections(sweep, table, answers)
    top = overview(sweep, family, answers)
    texts = {
        "figures.csv": csv_tables.figures(top, parts),
        "claims.csv": csv_tables.claims(parts),
        "cells.csv": csv_tables.cells(results),
        PAGE: pages.render("study.html.j2", _context(sweep, family, parts, top, results)),
    }
    for name, text in texts.items():
        pages.write(folder / name, text)
    return folder / PAGE


def _context(
    sweep: Sweep,
    family: Family,
    parts: Sequence[Section],
    top: Sequence[Dots],
    results: Sequence[CellResult],
) -> dict[str, object]:
    seconds = [cell.seconds for cell in sweep.cells if cell.seconds is not None]
    usual = FAMILIES.get(family.name)
    shown = [s for s in parts if is_reproduction(sweep, family) or _concerns(s, sweep)]
    return {
        "scale": SCALE,
        "step_scale": STEP_SCALE,
        "marks": MARKS,
        "figures": figures,
        "sweep": sweep,
        "scope": scope(sweep),
        "reproduction": is_reproduction(sweep, family),
        "stands_in": usual.main if usual and usual.main != family.main else "",
        "main_recipe": family.main,
        "knowledge": knowledge(sweep, family),
        "title": title(sweep, family, parts),
        "verdict_counts": verdict_counts(parts),
        "tests": number_of_tests(parts),
        "origin_label": label_of_cells(sweep.cells),
        "origin": origin_of_cells(sweep.cells),
        "overview": top,
        "results": results,
        "measures": measured(results),
        "parts": [
            ("The paper's experiments", [s for s in shown if s.is_papers]),
            ("Beyond the paper", [s for s in shown if not s.is_papers]),
        ],
        "left_out": [s.experiment.title for s in parts if s not in shown],
        "contrary": [
            (section.experiment, decision)
            for section in parts
            for decision in section.outcome.decisions
            if decision.verdict == "disagree" and section.is_papers
        ],
        "unexpected": [s for s in parts if s.outcome.verdict == "disagree" and not s.is_papers],
        "failed": [cell for cell in sweep.cells if cell.state == "failed"],
        "waiting": [cell for cell in sweep.cells if cell.state not in ("done", "failed")],
        "most_named": MOST_NAMED,
        "seconds": sum(seconds),
    }


def _concerns(section: Section, sweep: Sweep) -> bool:
    """Whether a sweep ran an experiment, or would have if no run had failed or was waiting."""
    undone = {(cell.model, cell.recipe) for cell in sweep.cells if cell.state != "done"}
    return section.outcome.verdict != "not run" or bool(undone & set(section.experiment.cells))
