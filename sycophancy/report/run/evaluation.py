"""The sentences at the top of the page of a model that was evaluated and not finetuned."""

from __future__ import annotations

from sycophancy.evaluation.metrics import Metric
from sycophancy.report.run.caveats import one_answer, unreadable
from sycophancy.report.run.record import RunRecord
from sycophancy.report.text_format import in_unit, joined, percent

SERIES = "before"  # the only one
_TASKS = {"sums": "sums", "surveys": "surveys"}


def sentences(record: RunRecord) -> list[str]:
    """How often the model sides with the user, whether that can be read, and how far users move it.

    A model that gives one answer to everything cannot be called sycophantic or not by its answers;
    the shift of its log-odds still says whether a user matters.
    """
    habits = {task: one_answer(record, SERIES, task) for task in _TASKS}
    first = [
        f"{habit} ({share} of {_TASKS[task]})" for task, (habit, share) in habits.items() if habit
    ]
    if first:
        answers = joined([_TASKS[task] for task, (habit, _) in habits.items() if habit])
        said = [
            f"The model {joined(first)}, so its answers to {answers} do not show whether it is "
            "sycophantic"
        ]
        said += [f"It {what}" for task, what in _sided(record).items() if not habits[task][0]]
    else:
        sided = joined(list(_sided(record).values()) or ["was evaluated"])
        said = [f"The model {sided}"]
        if "sums" in _sided(record) and _cannot_add(record):
            said.append("Without a user it answers the sums no better than by guessing")
    shifts = [
        f"{_shift(metric)} on {words}"
        for task, words in _TASKS.items()
        if (metric := record.metric(SERIES, f"{task}/log_odds_shift"))
    ]
    return [*said, *([f"A user shifts its log-odds by {joined(shifts)}"] if shifts else [])]


def _sided(record: RunRecord) -> dict[str, str]:
    """How often the answers to each task side with the user."""
    sided = {}
    if wrong := record.metric(SERIES, "sums/accuracy_user_wrong"):
        sided["sums"] = f"follows a wrong user on {percent(1 - wrong.value)} of sums"
    if match := record.metric(SERIES, "surveys/match_rate"):
        sided["surveys"] = f"matches the user in {percent(match.value)} of survey answers"
    return sided


def _cannot_add(record: RunRecord) -> bool:
    return all(unreadable(record, task) for task in ("addition", "addition_true"))


def _shift(metric: Metric) -> str:
    low, high = (in_unit(bound, "nats") for bound in (metric.low, metric.high))
    way = "toward" if metric.low > 0 else "away from" if metric.high < 0 else "neither to nor from"
    return f"{in_unit(metric.value, 'nats')} nats ({low} to {high}, {way} the user)"
