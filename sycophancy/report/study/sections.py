"""The experiments of a sweep's page: their decisions, their pictures and their summaries."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from sycophancy.errors import UserError
from sycophancy.evaluation.metrics import Metric
from sycophancy.report.filtration_summary import read_filtration
from sycophancy.report.study.pictures import Curves, Dots, drawn
from sycophancy.report.text_format import joined, p_value, percent, points, with_interval
from sycophancy.study.answers import Answers
from sycophancy.study.beyond import BEYOND
from sycophancy.study.claims import Experiment
from sycophancy.study.families import Family
from sycophancy.study.index import Sweep
from sycophancy.study.verdicts import Decision, Outcome, Verdict, outcomes
from sycophancy.system import json_files

MARKS: dict[Verdict, str] = {
    "agree": "✓ agrees",
    "disagree": "✗ disagrees",
    "undecided": "? undecided",
    "by construction": "= by construction",
    "not run": "· not run",
}
COUNTED: dict[Verdict, tuple[str, str]] = {
    "agree": ("agrees", "agree"),
    "disagree": ("disagrees", "disagree"),
    "undecided": ("is undecided", "are undecided"),
    "by construction": ("holds or fails by construction", "hold or fail by construction"),
    "not run": ("was not run", "were not run"),
}


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """The share of the training claims that a model judges correctly without an opinion.

    Attributes:
      label: the model's size.
      rates: by seed.
      near_chance: the seeds whose filtration warned of guessing.
    """

    label: str
    rates: Mapping[int, Metric]
    near_chance: tuple[int, ...]

    @property
    def words(self) -> str:
        """The size and its rate with the interval; of several seeds the lowest and the highest."""
        seeds = f", {len(self.rates)} seeds" if len(self.rates) > 1 else ""
        return f"{self.label} {_range(self.rates.values())}{seeds}"

    @property
    def warning(self) -> str:
        """That some seeds are near chance."""
        rates = _range([self.rates[seed] for seed in self.near_chance])
        noun = "seed" if len(self.near_chance) == 1 else "seeds"
        seeds = f" with {noun} {joined(list(map(str, self.near_chance)))}"
        return (
            f"{self.label} judges {rates} of the claims correctly without an opinion"
            f"{seeds if len(self.rates) > 1 else ''}"
        )


@dataclasses.dataclass(frozen=True)
class Section:
    """One experiment on the page."""

    outcome: Outcome
    pictures: tuple[Dots | Curves, ...]

    @property
    def experiment(self) -> Experiment:
        """What was compared, and what the paper has on it."""
        return self.outcome.experiment

    @property
    def is_papers(self) -> bool:
        """Whether the paper has this experiment."""
        return self.experiment.source != BEYOND

    @property
    def decided(self) -> tuple[Decision, ...]:
        """The claims that were run."""
        return tuple(d for d in self.outcome.decisions if d.contrast is not None)

    @property
    def rules(self) -> tuple[str, ...]:
        """How its claims are decided, each rule once."""
        return tuple(dict.fromkeys(decision.claim.rule for decision in self.decided))

    @property
    def absent(self) -> dict[str, int]:
        """Reasons why claims were not run -> how many claims."""
        reasons = [d.reason for d in self.outcome.decisions if d.contrast is None]
        return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}

    @property
    def summary(self) -> str:
        """The verdicts in a few words, and the range of the contrasts if they are of one kind."""
        if not self.decided:
            return "not run"
        words = self._verdicts()
        if len(self.decided) < len(self.outcome.decisions):
            words += f" ({len(self.decided)} of {len(self.outcome.decisions)} claims run)"
        span = self._range()
        return f"{words}; {span}" if span else words

    def _verdicts(self) -> str:
        counts = self.outcome.counts
        counts.pop("not run", None)
        if len(counts) == 1 and len(self.decided) > 1:
            return f"all {len(self.decided)} {COUNTED[self.decided[0].verdict][1]}"
        return counted(counts)

    def _range(self) -> str:
        claims = [d.claim for d in self.decided]
        kinds = {(c.expected, tuple(side.measure for _, side in c.terms)) for c in claims}
        if len(kinds) > 1:
            return ""
        values = [d.contrast.value for d in self.decided if d.contrast]
        show, unit = (points, " points") if claims[0].is_difference else (percent, "")
        low, high = show(min(values)), show(max(values))
        return f"{low if low == high else f'{low} to {high}'}{unit}"


def sections(sweep: Sweep, experiments: Sequence[Experiment], answers: Answers) -> list[Section]:
    """Every experiment with its decisions and pictures, in order."""
    return [
        Section(
            outcome,
            tuple(
                picture
                for index, plan in enumerate(outcome.experiment.pictures)
                if (picture := drawn(plan, f"{outcome.experiment.key}-{index}", answers))
            ),
        )
        for outcome in outcomes(experiments, answers)
    ]


def number_of_tests(sections: Sequence[Section]) -> int:
    """The number of tests that the page's verdicts follow from and are corrected for."""
    return sum(len(decision.tests) for section in sections for decision in section.decided)


def counted(counts: Mapping[Verdict, int]) -> str:
    """Numbers of verdicts in words.

    >>> counted({"agree": 3, "disagree": 1, "undecided": 0})
    '3 agree and 1 disagrees'
    """
    return joined([f"{n} {COUNTED[name][n != 1]}" for name, n in counts.items() if n])


def knowledge(sweep: Sweep, family: Family) -> list[Knowledge]:
    """What filtration measured in the main runs, by size and seed."""
    found = []
    for size in family.sizes:
        rates, near_chance = {}, []
        for cell in sweep.cells:
            if (cell.model, cell.recipe, cell.state) != (size.model, family.main, "done"):
                continue
            summary, _ = json_files.read_object(cell.folder / "filter" / "summary.json")
            try:
                filtration = read_filtration(summary)
            except UserError:
                continue
            if filtration:
                rates[cell.seed] = filtration.rate
                near_chance += [cell.seed] if filtration.near_chance else []
        if rates:
            found.append(Knowledge(size.label, rates, tuple(near_chance)))
    return found


def figures(decision: Decision) -> str:
    """A contrast in words: value, interval, questions and adjusted p-value; empty if not run."""
    contrast = decision.contrast
    if contrast is None:
        return ""
    show, unit = (points, " points") if decision.claim.is_difference else (percent, "")
    seeds = f", {contrast.seeds} seeds" if contrast.seeds > 1 else ""
    test = decision.closest
    tested = f"; adjusted {p_value(test.adjusted)}" if test else ""
    return (
        f"{show(contrast.value)}{unit} ({show(contrast.low)} to {show(contrast.high)}, "
        f"n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{contrast.n:,}{seeds}{tested})"
    )


def _range(rates: Collection[Metric]) -> str:
    """One rate with its interval, or the lowest and the highest of several."""
    low, high = (end(rates, key=lambda rate: rate.value) for end in (min, max))
    return (
        with_interval(low) if len(rates) == 1 else f"{percent(low.value)} to {percent(high.value)}"
    )
