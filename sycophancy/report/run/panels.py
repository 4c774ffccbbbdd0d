"""The bar figures of a run as data: panels of rows of bars, each bar one metric.

A panel holds everything that its picture, its table and its description in words need, so the three
cannot disagree. Templates draw it; nothing here knows of pixels or colours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from sycophancy.evaluation import naming
from sycophancy.evaluation.comparison import Change
from sycophancy.evaluation.measures import is_survey
from sycophancy.evaluation.metric_files import Metrics
from sycophancy.evaluation.metrics import Metric
from sycophancy.evaluation.retention import VARIANTS
from sycophancy.evaluation.units import Unit, unit_of
from sycophancy.report.run.record import RunRecord
from sycophancy.report.run.scale import SHARES, Scale, scale_around_zero
from sycophancy.report.text_format import capitalised, with_interval

SURVEYS = "surveys"
# Short enough for a row on a phone; other surveys have their name of `naming`.
SURVEY_LABELS = {
    SURVEYS: "All surveys",
    "surveys/nlp": "NLP research",
    "surveys/phil": "Philosophy",
    "surveys/poli": "Politics",
}
RIGHT_ANSWERS = (
    ("No opinion", "accuracy_neutral"),
    ("Wrong user", "accuracy_user_wrong"),
    ("Right user", "accuracy_user_right"),
    ("User's view shown", "accuracy_user_view"),
    ("Right", "accuracy"),
)
MATCHES = (("User's view shown", "match_rate"), ("View hidden", "neutral_match_rate"))
# Tasks whose measures other panels show.
SUM_TASKS = ("addition", "addition_true", "sums")
TRAINED_TASKS = ("intervention", "instruction")
ABILITIES = tuple(naming.split(variant.metric)[0] for variant in VARIANTS)  # have a table


@dataclasses.dataclass(frozen=True)
class Bar:
    """One metric: its series (`before` or `after`), its name and its value."""

    series: str
    name: str
    metric: Metric


@dataclasses.dataclass(frozen=True)
class Row:
    """The bars of one measure.

    Attributes:
      reference: the score of guessing, or of a model that ignores the user; None to mark nothing.
      muted: draw the bars paler.
    """

    label: str
    bars: tuple[Bar, ...]
    change: Change | None = None
    reference: float | None = None
    muted: bool = False

    @property
    def unit(self) -> Unit:
        """The unit of its bars."""
        return unit_of(self.bars[0].name)


@dataclasses.dataclass(frozen=True)
class Panel:
    """One figure: rows under a title, on a scale."""

    key: str
    title: str
    subtitle: str
    rows: tuple[Row, ...]
    reference_name: str = ""
    scale: Scale = SHARES

    @property
    def description(self) -> str:
        """The figure in words, for screen readers."""
        return " ".join(f"{row.label}: {_spoken(row)}." for row in self.rows)


def survey_panels(record: RunRecord) -> list[Panel]:
    """How often answers match the user, per survey and over all, as in the paper's main figure."""
    return _survey_panel(
        record,
        "surveys",
        "Answers that match the user",
        "after a biography that gives the user's view away; lower is less sycophantic",
        "match_rate",
    )


def neutral_survey_panels(record: RunRecord) -> list[Panel]:
    """The same questions without a biography: did the model's own answers move (App. A.4)?"""
    return _survey_panel(
        record,
        "surveys-neutral",
        "The same survey questions without a user",
        "share that would match the user of the paired question; should not move",
        "neutral_match_rate",
    )


def _survey_panel(
    record: RunRecord, key: str, title: str, subtitle: str, measure: str
) -> list[Panel]:
    tasks = [task for task, _ in naming.grouped(record.names) if is_survey(task)]
    rows = [
        row_of(
            record,
            SURVEY_LABELS.get(task, capitalised(naming.task_words(task))),
            f"{task}/{measure}",
            record.guessing.match.get(task),
        )
        for task in tasks
    ]
    return panels_of(key, title, subtitle, rows, "no sycophancy")


def addition_panels(record: RunRecord) -> list[Panel]:
    """Right answers on false and on true sums, by what the user says."""
    wrong, right = "accuracy_user_wrong", "accuracy_user_right"
    return [
        *_sum_panel(
            record, "addition", "False sums", "Disagree",
            (wrong, "User agrees: wrong"), (right, "User disagrees: right"),
        ),
        *_sum_panel(
            record, "addition_true", "True sums", "Agree",
            (wrong, "User disagrees: wrong"), (right, "User agrees: right"),
        ),
    ]  # fmt: skip


def _sum_panel(
    record: RunRecord, task: str, title: str, answer: str, *users: tuple[str, str]
) -> list[Panel]:
    measures = (("accuracy_neutral", "No opinion"), *users)
    chance = record.guessing.right_or_half(task)
    return panels_of(
        task.replace("_", "-"),
        f"{title}: right answers",
        f"the right answer is always {answer}; higher is better",
        [row_of(record, label, f"{task}/{measure}", chance) for measure, label in measures],
        "guessing",
    )


def further_panels(record: RunRecord) -> list[Panel]:
    """Every task that no other panel shows, and every measure without words of its own.

    Args:
      record: its tasks may have any names, such as those of a user's own evaluation sets.
    """
    panels: list[Panel] = []
    shown = (*SUM_TASKS, *TRAINED_TASKS, *naming.HELD_OUT, *ABILITIES)
    for task, group in naming.grouped(record.names):
        words = capitalised(naming.task_words(task)) or "Without a task"
        right, match = record.guessing.right.get(task), record.guessing.match.get(task)
        unknown = [name for name in group if naming.kind(name) not in naming.MEASURES]
        key = f"task-{len(panels)}"
        if task not in shown:
            panels += panels_of(
                f"{key}-right",
                f"{words}: right answers",
                "a user should make no difference; higher is better",
                [
                    row_of(record, label, f"{task}/{measure}", right)
                    for label, measure in RIGHT_ANSWERS
                ],
                "guessing",
            )
        if task not in shown and not is_survey(task):
            panels += panels_of(
                f"{key}-match",
                f"{words}: answers that match the user",
                "with the view hidden, the same user's view; lower is less sycophantic",
                [row_of(record, label, f"{task}/{measure}", match) for label, measure in MATCHES],
                "no sycophancy",
            )
        panels += panels_of(
            f"{key}-other",
            f"{words}: other measures",
            "no aim is set for these",
            [row_of(record, naming.measure_words(name), name) for name in unknown],
        )
    return panels


def own_sets(record: RunRecord) -> list[str]:
    """The tasks that are not this project's own: a user's evaluation sets."""
    tasks = dict.fromkeys(naming.whole_task(task) for task, _ in naming.grouped(record.names))
    return [task for task in tasks if task and task not in naming.TASKS and not is_survey(task)]


def skill_panels(record: RunRecord) -> list[Panel]:
    """The kind of task that finetuning trains, and the skills that it should not change."""
    return panels_of(
        "skills",
        "Claims and instructions: right answers",
        "the kind of task that was trained, on unseen texts; higher is better",
        [
            row_of(record, "Claims, no opinion", "intervention/accuracy_neutral", 0.5),
            row_of(record, "Claims, wrong user", "intervention/accuracy_user_wrong", 0.5),
            row_of(record, "Claims, right user", "intervention/accuracy_user_right", 0.5),
            row_of(record, "Claims, both users", "intervention/accuracy", 0.5),
            row_of(record, "Other instructions", "instruction/accuracy"),
        ],
        "guessing",
    )


def bias_panels(record: RunRecord) -> list[Panel]:
    """Habits that ignore the question, and answers that a user changes."""
    biases = panels_of(
        "bias",
        "Habits that ignore the sum",
        "false and true sums together, all conditions: half is unbiased",
        [
            row_of(record, "Says “Agree”", "sums/agree_share", 0.5),
            row_of(record, "Picks the first choice", "sums/first_choice_share", 0.5),
        ],
        "unbiased",
    )
    flips = panels_of(
        "flips",
        "Changes of mind under pressure",
        "of the answers given without a user, the share that change once a user speaks",
        [
            row_of(record, "Sums: right to wrong", "sums/flip_to_wrong"),
            row_of(record, "Sums: wrong to right", "sums/flip_to_right"),
            row_of(record, "Surveys: to the user", "surveys/flip_to_user"),
        ],
    )
    return biases + flips


def likelihood_panels(record: RunRecord) -> list[Panel]:
    """How far users move the likelihoods of choices, by task: where no answer changes, too."""
    return _nats_panel(
        record,
        "shift",
        "Shift of log-odds toward the user",
        "with a user minus without, of the choices that the user holds right; 0: no sycophancy",
        "log_odds_shift",
    ) + _nats_panel(
        record,
        "margin",
        "Margin of the truth with a wrong user",
        "log-likelihood of the right choice minus that of the best wrong one; above 0: right",
        "truth_margin_user_wrong",
    )


def _nats_panel(
    record: RunRecord, key: str, title: str, subtitle: str, measure: str
) -> list[Panel]:
    rows = [
        row_of(record, capitalised(naming.task_words(task)), f"{task}/{measure}")
        for task, _ in naming.grouped(record.names)
        if task not in (SURVEYS, "sums")  # whose parts are shown
    ]
    metrics = [bar.metric for row in rows if row for bar in row.bars]
    reached = [x for m in metrics for x in (m.value, m.low, m.high, *(m.quantiles or ()))]
    return panels_of(key, title, subtitle, rows, scale=scale_around_zero(reached, "nats"))


def filtration_panels(record: RunRecord) -> list[Panel]:
    """The share of each data set's claims that the model judges correctly without a user."""
    if record.filtration is None:
        return []
    rows = [
        Row(
            entry.name,
            (Bar("before", f"filter/{entry.name}", entry.rate),),
            reference=0.5,
            muted=entry.near_chance,
        )
        for entry in record.filtration.data_sets
    ]
    half = len(rows) if len(rows) <= 6 else (len(rows) + 1) // 2
    title = "Claims judged correctly without an opinion"
    trained_on = "only these are trained on"
    if record.filtration.dropped_for_balance is not None:
        trained_on = "of these, as many true as false ones are trained on"
    subtitle = f"{trained_on}; paler if no better than guessing"
    return panels_of("filtration", title, subtitle, rows[:half], "guessing") + panels_of(
        "filtration-more", f"{title}, continued", subtitle, rows[half:], "guessing"
    )


def everything(record: RunRecord) -> list[tuple[str, list[Row]]]:
    """Every metric of every evaluation, task by task; nothing is selected."""
    names = {name for metrics in record.evaluations.values() for name in metrics}
    return [
        (
            naming.task_words(task) or "without a task",
            [
                Row(
                    naming.measure_words(name),
                    _bars(record.evaluations, name),
                    record.changes.get(name),
                )
                for name in group
            ],
        )
        for task, group in naming.grouped(names)
    ]


def panels_of(
    key: str,
    title: str,
    subtitle: str,
    rows: Iterable[Row | None],
    reference_name: str = "",
    scale: Scale = SHARES,
) -> list[Panel]:
    """One panel of the rows that were measured; none if no row was."""
    present = tuple(row for row in rows if row)
    return [Panel(key, title, subtitle, present, reference_name, scale)] if present else []


def row_of(record: RunRecord, label: str, name: str, reference: float | None = None) -> Row | None:
    """The bars of one metric, before and after; None if it was not measured."""
    bars = _bars(record.metrics, name)
    return Row(label, bars, record.changes.get(name), reference) if bars else None


def _bars(evaluations: Mapping[str, Metrics], name: str) -> tuple[Bar, ...]:
    return tuple(
        Bar(series, name, metrics[name])
        for series, metrics in evaluations.items()
        if name in metrics
    )


def _spoken(row: Row) -> str:
    return ", ".join(f"{bar.series} {with_interval(bar.metric, row.unit)}" for bar in row.bars)
