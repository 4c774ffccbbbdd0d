"""The summary of filtration, and whether the model can read the claims at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sycophancy.errors import UserError
from sycophancy.evaluation.metrics import Metric

CHANCE = 0.5
# Where the interval reaches below this, most kept rows may be lucky guesses, which is where the
# paper's 8B stood: then a run says nothing about the method. `filtration` warns at the same share.
READABLE = 2 / 3


@dataclasses.dataclass(frozen=True)
class Filtered:
    """Claims of one data set asked without an opinion; `near_chance` if its interval holds 0.5."""

    name: str
    rate: Metric
    right: int
    near_chance: bool


@dataclasses.dataclass(frozen=True)
class Filtration:
    """Claims asked without an opinion, over all and by data set, best read first.

    Attributes:
      near_chance: the model cannot read these claims, as far as the numbers tell.
      true_asked, true_kept: shares of true claims; None where not recorded.
      warnings: what filtration itself said, one sentence each.
    """

    rate: Metric
    right: int
    near_chance: bool
    data_sets: tuple[Filtered, ...]
    true_asked: float | None = None
    true_kept: float | None = None
    warnings: tuple[str, ...] = ()


def read_filtration(summary: Mapping[str, Any] | None) -> Filtration | None:
    """`filter/summary.json`; None where nothing was asked.

    Raises:
      UserError: it is not what filtration writes.
    """
    if not summary or "total" not in summary:
        return None
    try:
        whole = _rate(summary["total"])
        balance = summary.get("balance", {})
        data_sets = [
            Filtered(name, rate := _rate(entry), int(entry["right"]), rate.low <= CHANCE)
            for name, entry in summary["data_sets"].items()
        ]
        return Filtration(
            rate=whole,
            right=int(summary["total"]["right"]),
            near_chance=whole.low < READABLE,
            data_sets=tuple(sorted(data_sets, key=lambda entry: -entry.rate.value)),
            true_asked=balance.get("asked", {}).get("claim_is_true"),
            true_kept=balance.get("kept", {}).get("claim_is_true"),
            warnings=tuple(summary.get("warnings", ())),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"filter/summary.json is not what filtration writes ({error!r}); filter again"
        ) from None


def _rate(entry: Mapping[str, Any]) -> Metric:
    return Metric(
        float(entry["rate"]), float(entry["low"]), float(entry["high"]), int(entry["asked"])
    )
