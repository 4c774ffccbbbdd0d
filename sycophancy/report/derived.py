"""Numbers that `metrics.json` lacks: paired changes, false and true sums together, chance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container, Mapping, Sequence

from sycophancy.evaluation import statistics
from sycophancy.evaluation.intervals import Sample
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.measures import samples
from sycophancy.evaluation.metrics import Metric, metric

SUMS = ("addition", "addition_true")


@dataclasses.dataclass(frozen=True)
class Change:
    """After minus before over the same n items, a fraction, with its paired 95 % interval.

    Attributes:
      rose, fell: questions whose outcome rose or fell; None where the two models are not asked
        the same ones (flips).
      p_value: McNemar's exact test on them; None likewise.
    """

    value: float
    low: float
    high: float
    n: int
    rose: int | None = None
    fell: int | None = None
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
    items: Sequence[Item], predictions: Mapping[str, Sequence[Prediction]], names: Container[str]
) -> tuple[dict[str, dict[str, Metric]], dict[str, Change]]:
    """The `sums/...` metrics of each series, and the changes if both series are there.

    Args:
      items: what was asked.
      predictions: series -> one an item.
      names: the measures to compute; a bootstrap takes a moment, so no others are.
    """
    sums = sums_together(items)
    ids = {item.item_id for item in sums}
    found: dict[str, dict[str, Sample]] = {}
    for series, answers in predictions.items():
        own = _samples(items, answers)
        own |= _samples(sums, [answer for answer in answers if answer.item_id in ids])
        # A measure nothing counts for has no value.
        found[series] = {
            name: sample
            for name, sample in own.items()
            if name in names and not math.isnan(sample.value)
        }
    metrics = {
        series: {name: metric(sample) for name, sample in own.items() if name.startswith("sums/")}
        for series, own in found.items()
    }
    if len(found) < 2:
        return metrics, {}
    before, after = found["before"], found["after"]
    return metrics, {name: _change(before[name], after[name]) for name in before if name in after}


def _samples(items: Sequence[Item], answers: Sequence[Prediction]) -> dict[str, Sample]:
    return samples(items, answers) if items else {}


def _change(before: Sample, after: Sample) -> Change:
    moved = dataclasses.asdict(statistics.difference(before, after))
    if (before.weights == 1).all() and (after.weights == 1).all():
        rose, fell = statistics.changes(before, after)
        return Change(**moved, rose=rose, fell=fell, p_value=statistics.mcnemar(rose, fell))
    return Change(**moved)


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
