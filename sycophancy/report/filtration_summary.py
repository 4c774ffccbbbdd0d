"""The summary that filtration wrote: how many training claims the model judges correctly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sycophancy.errors import UserError
from sycophancy.evaluation.metrics import Metric

CHANCE = 0.5
# If the interval reaches below this, most kept claims may be lucky guesses. The paper's 8B model
# was in that position, and its run says nothing about the method. `filtration` warns at this share.
READABLE = 2 / 3


@dataclasses.dataclass(frozen=True)
class DataSetRate:
    """The claims of one data set; `near_chance` if the interval of the rate contains 0.5."""

    name: str
    rate: Metric
    right: int
    near_chance: bool


@dataclasses.dataclass(frozen=True)
class Filtration:
    """The claims that the model judged without a user's opinion, in all and by data set.

    Attributes:
      rate: the share judged correctly.
      right: how many that are.
      near_chance: True if the rate does not show that the model can judge these claims.
      data_sets: those with the highest rate first.
      true_asked, true_kept: the shares of true claims; None if not recorded.
      warnings: those of filtration, one sentence each.
      dropped_for_balance: how many right claims FILTER_BALANCE dropped; None if it was off.
    """

    rate: Metric
    right: int
    near_chance: bool
    data_sets: tuple[DataSetRate, ...]
    true_asked: float | None = None
    true_kept: float | None = None
    warnings: tuple[str, ...] = ()
    dropped_for_balance: int | None = None


def read_filtration(summary: Mapping[str, Any] | None) -> Filtration | None:
    """The contents of `filter/summary.json`; None if no claim was asked.

    Raises:
      UserError: it is not what filtration writes.
    """
    if not summary or "total" not in summary:
        return None
    try:
        total = _rate(summary["total"])
        balance, dropped = summary.get("balance", {}), summary.get("dropped_for_balance")
        data_sets = [
            DataSetRate(name, rate := _rate(entry), int(entry["right"]), rate.low <= CHANCE)
            for name, entry in summary["data_sets"].items()
        ]
        return Filtration(
            rate=total,
            right=int(summary["total"]["right"]),
            near_chance=total.low < READABLE,
            data_sets=tuple(sorted(data_sets, key=lambda entry: -entry.rate.value)),
            true_asked=balance.get("asked", {}).get("claim_is_true"),
            true_kept=balance.get("kept", {}).get("claim_is_true"),
            warnings=tuple(summary.get("warnings", ())),
            dropped_for_balance=None if dropped is None else int(dropped),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"filter/summary.json is not what filtration writes ({error!r}); filter again"
        ) from None


def _rate(entry: Mapping[str, Any]) -> Metric:
    return Metric(
        float(entry["rate"]), float(entry["low"]), float(entry["high"]), int(entry["asked"])
    )
