"""The figures of a report as data: panels of rows of bars, each bar one number of `metrics.json`.

A panel carries everything its picture, its table and its accessible description need, so the two
cannot disagree. Templates draw it; nothing here knows of pixels or colours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sycophancy.evaluation import naming
from sycophancy.evaluation.metrics import Metric
from sycophancy.report.derived import Change
from sycophancy.report.reading import Reading
from sycophancy.report.wording import bounds

SURVEYS = {
    "surveys/nlp": "NLP research",
    "surveys/phil": "Philosophy",
    "surveys/poli": "Politics",
}

ELSEWHERE = ("addition", "addition_true", "sums", "intervention")  # have panels of their own


@dataclasses.dataclass(frozen=True)
class Bar:
    """One measured number: its series (`before` or `after`), its name and its value."""

    series: str
    name: str
    metric: Metric


@dataclasses.dataclass(frozen=True)
class Row:
    """The bars of one question, with what a blameless model would score."""

    label: str
    bars: tuple[Bar, ...]
    change: Change | None = None
    reference: float | None = None
    muted: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    """One picture: rows under a title, on a scale from 0 to 100 %."""

    key: str
    title: str
    subtitle: str
    rows: tuple[Row, ...]
    reference_name: str = ""

    @property
    def description(self) -> str:
        """The picture in words, for those who do not see it."""
        return " ".join(f"{row.label}: {_spoken(row)}." for row in self.rows)


def survey_panels(reading: Reading) -> list[Panel]:
    """How often answers match the user, per survey and over all, as in the paper's main figure."""
    rows = [_row(reading, "All three surveys", "surveys/match_rate", reading.chance.get("surveys"))]
    rows += [
        _row(reading, label, f"{task}/match_rate", reading.chance.get(task))
        for task, label in SURVEYS.items()
    ]
    return _panels(
        "surveys",
        "Answers that match the user",
        "after a biography that gives the view away; lower is less sycophantic",
        rows,
        "no sycophancy",
    )


def neutral_survey_panels(reading: Reading) -> list[Panel]:
    """The same questions without a biography: did the model's own answers move (App. A.4)?"""
    everything = "All three surveys"
    rows = [_row(reading, everything, "surveys/neutral_match_rate", reading.chance.get("surveys"))]
    rows += [
        _row(reading, label, f"{task}/neutral_match_rate", reading.chance.get(task))
        for task, label in SURVEYS.items()
    ]
    return _panels(
        "surveys-neutral",
        "The same survey questions without a user",
        "share that would match the user of the paired question; should not move",
        rows,
        "no sycophancy",
    )


def addition_panels(reading: Reading) -> list[Panel]:
    """Right answers on false and on true sums, by what the user says."""
    false = _panels(
        "addition",
        "False sums: right answers",
        "the right answer is always Disagree; higher is better",
        [
            _row(reading, "No opinion", "addition/accuracy_neutral", 0.5),
            _row(reading, "User agrees: wrong", "addition/accuracy_user_wrong", 0.5),
            _row(reading, "User disagrees: right", "addition/accuracy_user_right", 0.5),
        ],
        "chance",
    )
    true = _panels(
        "addition-true",
        "True sums: right answers",
        "the right answer is always Agree; higher is better",
        [
            _row(reading, "No opinion", "addition_true/accuracy_neutral", 0.5),
            _row(reading, "User disagrees: wrong", "addition_true/accuracy_user_wrong", 0.5),
            _row(reading, "User agrees: right", "addition_true/accuracy_user_right", 0.5),
        ],
        "chance",
    )
    return false + true


def probe_panels(reading: Reading) -> list[Panel]:
    """Right answers on every further task with wrong and right users: one panel for each."""
    names = {name for metrics in reading.metrics.values() for name in metrics}
    conditions = (
        ("No opinion", "accuracy_neutral"),
        ("Wrong user", "accuracy_user_wrong"),
        ("Right user", "accuracy_user_right"),
    )
    found: list[Panel] = []
    for task, group in naming.grouped(names):
        if task in ELSEWHERE or not any(f"{task}/{measure}" in group for _, measure in conditions):
            continue
        words = naming.task_words(task)
        found += _panels(
            f"probe-{len(found)}",
            f"{words[:1].upper()}{words[1:]}: right answers",
            "as right with a user as without one; higher is better",
            [_row(reading, label, f"{task}/{measure}", 0.5) for label, measure in conditions],
            "chance",
        )
    return found


def skill_panels(reading: Reading) -> list[Panel]:
    """What the finetuning trained on, and what it should leave alone."""
    return _panels(
        "skills",
        "Claims and instructions: right answers",
        "the kind of task that was trained, on unseen texts; higher is better",
        [
            _row(reading, "Claims, no opinion", "intervention/accuracy_neutral", 0.5),
            _row(reading, "Claims, wrong user", "intervention/accuracy_user_wrong", 0.5),
            _row(reading, "Claims, right user", "intervention/accuracy_user_right", 0.5),
            _row(reading, "Claims, both users", "intervention/accuracy", 0.5),
            _row(reading, "Other instructions", "instruction/accuracy"),
        ],
        "chance",
    )


def bias_panels(reading: Reading) -> list[Panel]:
    """Does the model just say Agree, or always pick one letter? Flips on sums, too."""
    biases = _panels(
        "bias",
        "Habits that ignore the sum",
        "false and true sums together, all conditions: half is unbiased",
        [
            _row(reading, "Says “Agree”", "sums/agree_share", 0.5),
            _row(reading, "Picks the first choice", "sums/first_choice_share", 0.5),
        ],
        "unbiased",
    )
    flips = _panels(
        "flips",
        "Changes of mind under pressure",
        "of the answers given without a user, the share that change once a user speaks",
        [
            _row(reading, "Sums: right to wrong", "sums/flip_to_wrong"),
            _row(reading, "Sums: wrong to right", "sums/flip_to_right"),
            _row(reading, "Surveys: to the user", "surveys/flip_to_user"),
        ],
    )
    return biases + flips


def filtration_panels(reading: Reading) -> list[Panel]:
    """How many claims of each data set the model gets right when no user gives an opinion."""
    if reading.filtration is None:
        return []
    rows = [
        Row(
            entry.name,
            (Bar("before", f"filter/{entry.name}", entry.rate),),
            reference=0.5,
            muted=entry.near_chance,
        )
        for entry in reading.filtration.data_sets
    ]
    half = len(rows) if len(rows) <= 6 else (len(rows) + 1) // 2
    title = "Claims answered right without an opinion"
    subtitle = "only these are trained on; paler where no better than chance"
    return _panels("filtration", title, subtitle, rows[:half], "chance") + _panels(
        "filtration-more", f"{title}, continued", subtitle, rows[half:], "chance"
    )


def everything(reading: Reading) -> list[tuple[str, list[Row]]]:
    """Task by task, every number that was measured: nothing is chosen here."""
    names = {name for metrics in reading.metrics.values() for name in metrics}
    return [
        (
            naming.task_words(task),
            [row for name in group if (row := _row(reading, naming.measure_words(name), name))],
        )
        for task, group in naming.grouped(names)
    ]


def _panels(
    key: str, title: str, subtitle: str, rows: Sequence[Row | None], reference_name: str = ""
) -> list[Panel]:
    present = tuple(row for row in rows if row)
    return [Panel(key, title, subtitle, present, reference_name)] if present else []


def _row(reading: Reading, label: str, name: str, reference: float | None = None) -> Row | None:
    bars = tuple(
        Bar(series, name, metrics[name])
        for series, metrics in reading.metrics.items()
        if name in metrics
    )
    return Row(label, bars, reading.changes.get(name), reference) if bars else None


def _spoken(row: Row) -> str:
    return ", ".join(f"{bar.series} {bounds(bar.metric)}" for bar in row.bars)
