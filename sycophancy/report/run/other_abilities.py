"""Other abilities: how MMLU and BIG-Bench Hard change, beside the paper's own range."""

from __future__ import annotations

import dataclasses

from sycophancy.evaluation.comparison import Change
from sycophancy.evaluation.metrics import Metric
from sycophancy.evaluation.retention import VARIANTS, Variant
from sycophancy.report.run.record import RunRecord


@dataclasses.dataclass(frozen=True)
class Ability:
    """One row of the table: a variant before and after finetuning.

    Attributes:
      change: None if only one model was asked.
      place: where the change lies, as `within the range`; empty without a change.
    """

    variant: Variant
    before: Metric | None
    after: Metric | None
    change: Change | None
    place: str


def abilities(record: RunRecord) -> list[Ability]:
    """The variants that were asked, in their order."""
    return [
        Ability(
            variant,
            record.metric("before", variant.metric),
            record.metric("after", variant.metric),
            change := record.changes.get(variant.metric),
            _place(variant, change) if change else "",
        )
        for variant in VARIANTS
        if variant.metric in record.names
    ]


def _place(variant: Variant, change: Change) -> str:
    """Where the interval of a change lies.

    >>> _place(VARIANTS[0], Change(0.0, -0.01, 0.005, 500, p_value=1.0))
    'within the range'
    """
    if variant.low <= change.low and change.high <= variant.high:
        return "within the range"
    if change.high < variant.low:
        return "below the range"
    if change.low > variant.high:
        return "above the range"
    return "the interval reaches beyond the range"
