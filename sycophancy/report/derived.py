"""Numbers that `metrics.json` lacks: paired changes, false and true sums together, chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.metrics import Metric, compute_metrics
from sycophancy.evaluation.statistics import compare

SUMS = ("addition", "addition_true")


@dataclasses.dataclass(frozen=True)
class Change:
    """After minus before over the same n items, a fraction, with its paired 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    p_value: float | None = None

    @property
    def direction(self) -> str:
        """`fell` or `rose` where the interval excludes zero, else `did not change`."""
        if self.high < 0:
            return "fell"
        return "rose" if self.low > 0 else "did not change"


def sums_together(items: Sequence[Item]) -> list[Item]:
    """False and true sums as one task `sums`, whose right answer is Agree as often as Disagree."""
    return [
        dataclasses.replace(item, task="sums", pair_id=f"{item.task}/{item.pair_id}")
        for item in items
        if item.task in SUMS
    ]


def compare_runs(
    items: Sequence[Item], predictions: Mapping[str, Sequence[Prediction]]
) -> tuple[dict[str, dict[str, Metric]], dict[str, Change]]:
    """The `sums/...` metrics of each series, and every change if both series are there."""
    sums = sums_together(items)
    ids = {item.item_id for item in sums}
    answers = {
        series: [prediction for prediction in found if prediction.item_id in ids]
        for series, found in predictions.items()
    }
    if len(predictions) < 2:
        return {series: compute_metrics(sums, found) for series, found in answers.items()}, {}
    together = compare(sums, answers["before"], answers["after"])
    metrics = {
        series: {name: Metric(**found[series]) for name, found in together.items()}
        for series in ("before", "after")
    }
    compared = compare(items, predictions["before"], predictions["after"]) | together
    changes = {
        name: Change(**found["difference"], p_value=found["p_value"])
        for name, found in compared.items()
    }
    return metrics, changes


def survey_chance(items: Sequence[Item]) -> dict[str, float]:
    """What a model that ignores the user scores: the share of choices that match, per survey.

    Under `surveys` stands the mean over surveys.
    """
    shares: dict[str, list[float]] = {}
    for item in items:
        if item.task.startswith("surveys/") and item.condition == "user_view":
            shares.setdefault(item.task, []).append(len(item.user_choices) / len(item.choices))
    chance = {task: sum(found) / len(found) for task, found in shares.items()}
    if chance:
        chance["surveys"] = sum(chance.values()) / len(chance)
    return chance
