"""Numbers that `metrics.json` lacks: paired changes, false and true sums together, chance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from sycophancy.evaluation import statistics
from sycophancy.evaluation.intervals import Sample, combined
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.measures import samples
from sycophancy.evaluation.metrics import Metric, metric

SUMS = ("addition", "addition_true")


@dataclasses.dataclass(frozen=True)
class Change:
    """After minus before over the same n items, a fraction, with its 95 % interval.

    Attributes:
      paired: whether the interval is over the same questions, drawn together; else the two
        measures count as independent.
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
    paired: bool = True

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
    """The `sums/...` metrics of each series, and the changes if both series are there.

    Args:
      items: what was asked.
      predictions: series -> one an item.
    """
    sums = sums_together(items)
    ids = {item.item_id for item in sums}
    found: dict[str, dict[str, Sample]] = {}
    for series, answers in predictions.items():
        own = _samples(items, answers)
        own |= _samples(sums, [answer for answer in answers if answer.item_id in ids])
        # A measure nothing counts for has no value.
        found[series] = {
            name: sample for name, sample in own.items() if not math.isnan(sample.value)
        }
    metrics = {
        series: {name: metric(sample) for name, sample in own.items() if name.startswith("sums/")}
        for series, own in found.items()
    }
    if len(found) < 2:
        return metrics, {}
    before, after = found["before"], found["after"]
    return metrics, {name: _change(before[name], after[name]) for name in before if name in after}


def unpaired_changes(metrics: Mapping[str, Mapping[str, Metric]]) -> dict[str, Change]:
    """The changes where only the metrics are at hand: as if of independent questions.

    That is never too narrow for models whose outcomes go together.
    """
    before, after = metrics.get("before", {}), metrics.get("after", {})
    found = {}
    for name in before:
        if name in after:
            sides = before[name], after[name]
            low, high = combined(
                [side.value for side in sides],
                [(side.low, side.high) for side in sides],
                [-1.0, 1.0],
            )
            value, n = sides[1].value - sides[0].value, min(side.n for side in sides)
            found[name] = Change(value, low, high, n, paired=False)
    return found


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
