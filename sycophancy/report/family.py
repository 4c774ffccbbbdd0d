"""A sweep as one page: does this family of models agree with the paper?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from sycophancy.errors import UserError
from sycophancy.evaluation.metrics import Metric
from sycophancy.report import family_tables, wording
from sycophancy.report.family_pictures import SPAN, START, Curves, Dots, drawn
from sycophancy.report.filtered import read_filtration
from sycophancy.report.origin import instructions_are_generated, origin_of_cells
from sycophancy.report.wording import joined, percent, points
from sycophancy.study.answers import Answers
from sycophancy.study.beyond import BEYOND
from sycophancy.study.claims import Claim
from sycophancy.study.experiments import experiments
from sycophancy.study.families import FAMILIES, Family, family_of
from sycophancy.study.index import Sweep, read_sweep
from sycophancy.study.verdicts import Contrast, Decision, Outcome, Verdict, outcome
from sycophancy.system import json_files, paths

PAGE = "report.html"
MARKS: dict[Verdict, str] = {
    "agree": "✓ agrees",
    "disagree": "✗ disagrees",
    "undecided": "? undecided",
    "not run": "· not run",
}
COUNTED: dict[Verdict, tuple[str, str]] = {
    "agree": ("agrees", "agree"),
    "disagree": ("disagrees", "disagree"),
    "undecided": ("is undecided", "are undecided"),
    "not run": ("was not run", "were not run"),
}


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """How many claims a model judges rightly before anyone gives an opinion."""

    label: str
    rate: Metric
    near_chance: bool


@dataclasses.dataclass(frozen=True)
class Section:
    """One experiment on the page."""

    outcome: Outcome
    pictures: tuple[Dots | Curves, ...]

    @property
    def ran(self) -> tuple[Decision, ...]:
        """The claims that were decided."""
        return tuple(d for d in self.outcome.decisions if d.contrast is not None)

    @property
    def rules(self) -> tuple[str, ...]:
        """How its claims are decided, each rule once."""
        return tuple(dict.fromkeys(decision.claim.rule for decision in self.ran))

    @property
    def absent(self) -> dict[str, int]:
        """Why claims were not run, and how many for each reason."""
        reasons = [d.reason for d in self.outcome.decisions if d.contrast is None]
        return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}

    @property
    def summary(self) -> str:
        """What the run found, in a few words."""
        return summary(self.outcome)


def write_report(folder: Path) -> Path:
    """Writes `report.html` into a sweep's folder and returns its path.

    Beside it lie its numbers, `figures.csv` and `claims.csv`. Each file is written whole or not at
    all.

    Raises:
      UserError: the folder is no sweep, `sweep.json` is damaged, or a file cannot be written. A run
        that is missing, failed or damaged is told on the page.
    """
    sweep = read_sweep(folder)
    family = family_of((cell.model, cell.recipe) for cell in sweep.cells)
    if not instructions_are_generated(sweep.cells):
        family = dataclasses.replace(family, instructions=Family.instructions)
    found = sections(sweep, family)
    texts = {
        "figures.csv": family_tables.figures(found),
        "claims.csv": family_tables.claims(found),
        PAGE: _page(sweep, family, found),
    }
    for name, text in texts.items():
        try:
            paths.write_atomically(folder / name, text)
        except OSError as error:
            raise UserError(f"cannot write {folder / name}: {error}") from error
    return folder / PAGE


def _page(sweep: Sweep, family: Family, found: Sequence[Section]) -> str:
    """The page as text; every word that comes from the sweep is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sycophancy.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, points=points, duration=wording.duration, figures=figures, mark=MARKS.get
    )
    return environment.get_template("family.html.j2").render(_context(sweep, family, found)) + "\n"


def sections(sweep: Sweep, family: Family) -> list[Section]:
    """Every experiment with its decisions and pictures, in order."""
    table = experiments(family)
    measures = {side.measure for experiment in table for side in experiment.sides()}
    answers = Answers(sweep, measures)
    return [
        Section(
            outcome(experiment, answers),
            tuple(
                made
                for index, picture in enumerate(experiment.pictures)
                if (made := drawn(picture, f"{experiment.key}-{index}", answers))
            ),
        )
        for experiment in table
    ]


def knowledge(sweep: Sweep, family: Family) -> list[Knowledge]:
    """What filtration found in the main runs, by size; one run of each is told."""
    found = []
    for size in family.sizes:
        for cell in sweep.cells:
            if (cell.model, cell.recipe, cell.state) == (size.model, family.main, "done"):
                summary, _ = json_files.read_object(cell.folder / "filter" / "summary.json")
                try:
                    filtered = None if summary is None else read_filtration(summary)
                except UserError:
                    continue
                if filtered:
                    found.append(Knowledge(size.label, filtered.rate, filtered.near_chance))
                    break
    return found


def headline(family: Family, outcomes: Sequence[Outcome]) -> str:
    """One sentence: how many experiments came out as the paper or, beyond it, as expected."""
    parts = []
    for beyond, which in ((False, "experiments of the paper"), (True, "beyond it")):
        run = [
            found
            for found in outcomes
            if (found.experiment.source == BEYOND) == beyond and found.verdict != "not run"
        ]
        if run:
            counts = {name: sum(found.verdict == name for found in run) for name in COUNTED}
            said = [f"{n} {COUNTED[name][n != 1]}" for name, n in counts.items() if n]
            parts.append(f"of {len(run)} {which}, {joined(said)}")
        elif not beyond:
            parts.append("none of the paper's experiments was run")
    return f"{family.name}: {'; '.join(parts)}"


def summary(found: Outcome) -> str:
    """How many claims came out how, and the span of the contrasts where they are of one kind."""
    run = [d for d in found.decisions if d.contrast is not None]
    if not run:
        return "not run"
    counts = {verdict: count for verdict, count in found.counts.items() if verdict != "not run"}
    if len(counts) == 1 and len(run) > 1:
        words = f"all {len(run)} {COUNTED[run[0].verdict][1]}"
    else:
        said = [f"{count} {COUNTED[verdict][count != 1]}" for verdict, count in counts.items()]
        words = joined(said)
    if len(run) < len(found.decisions):
        words += f" ({len(run)} of {len(found.decisions)} claims run)"
    values = [d.contrast.value for d in run if d.contrast]
    kinds = {(d.claim.expected, tuple(side.measure for _, side in d.claim.terms)) for d in run}
    if len(kinds) == 1:
        if run[0].claim.is_difference:
            low, high = points(min(values)), points(max(values))
            span = low if low == high else f"{low} to {high}"
            words += f"; {span} points"
        else:
            low, high = percent(min(values)), percent(max(values))
            words += f"; {low if low == high else f'{low} to {high}'}"
    return words


def figures(decision: Decision) -> str:
    """A contrast in words: value, interval, n."""
    found = decision.contrast
    return "" if found is None else _figures(decision.claim, found)


def _figures(claim: Claim, found: Contrast) -> str:
    show = points if claim.is_difference else percent
    unit = " points" if claim.is_difference else ""
    seeds = f", {found.seeds} seeds" if found.seeds > 1 else ""
    return (
        f"{show(found.value)}{unit} ({show(found.low)} to {show(found.high)}, "
        f"n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{found.n:,}{seeds})"
    )


def _context(sweep: Sweep, family: Family, found: Sequence[Section]) -> dict[str, Any]:
    outcomes = [section.outcome for section in found]
    seconds = [cell.seconds for cell in sweep.cells if cell.seconds is not None]
    seeds = sorted({cell.seed for cell in sweep.cells})
    usual = FAMILIES.get(family.name)
    return {
        "scale": (START, SPAN),
        "sweep": sweep,
        "family": family,
        "stands_in": usual.main if usual and usual.main != family.main else "",
        "knowledge": knowledge(sweep, family),
        "headline": headline(family, outcomes),
        "origin": origin_of_cells(sweep.cells),
        "parts": [
            (
                "The paper's experiments",
                [s for s in found if s.outcome.experiment.source != BEYOND],
            ),
            ("Beyond the paper", [s for s in found if s.outcome.experiment.source == BEYOND]),
        ],
        "contrary": [
            (section.outcome.experiment, decision)
            for section in found
            for decision in section.outcome.decisions
            if decision.verdict == "disagree" and section.outcome.experiment.source != BEYOND
        ],
        "unexpected": [
            section
            for section in found
            if section.outcome.verdict == "disagree" and section.outcome.experiment.source == BEYOND
        ],
        "failed": [cell for cell in sweep.cells if cell.state == "failed"],
        "waiting": [cell for cell in sweep.cells if cell.state not in ("done", "failed")],
        "seconds": sum(seconds),
        "seeds": seeds,
    }
