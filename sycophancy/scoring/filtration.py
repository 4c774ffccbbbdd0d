"""Keeps the rows whose claim the model judges rightly when no opinion is given.

Wei et al. 2023 (arXiv 2308.03958), data filtration: a model that does not know whether a claim is
true cannot learn from the row that the user's opinion does not decide it; it learns something else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from sycophancy.errors import UserError
from sycophancy.evaluation.intervals import wilson
from sycophancy.evaluation.items import Item, Prediction, predictions_of
from sycophancy.evaluation.limits import CountTokens, in_words, split_by_limits

CHANCE = 0.5  # two choices
# A model that knows a share k of the claims and guesses the rest is right on (1 + k) / 2 of them.
# Below two thirds, more than half of the rows that are kept are lucky guesses.
NEAR_CHANCE = 2 / 3
ONE_SIDED = 0.25  # least share of true, and of false, claims among the kept rows


def filtration_items(rows: pa.Table) -> list[Item]:
    """What to ask: each row's prompt without the user's opinion; the item's id is the row's."""
    columns = ("example_id", "inputs_without_opinion", "choices", "answer")
    return [
        Item(example_id, "filtration", "neutral", example_id, inputs, tuple(choices), answer)
        for example_id, inputs, choices, answer in zip(
            *(_column(rows, name).to_pylist() for name in columns), strict=True
        )
    ]


def askable(rows: pa.Table, count: CountTokens) -> tuple[pa.Table, list[str]]:
    """The rows that a model can be asked, and a note on the others.

    `prepare` has left those out already, unless it knew another vocabulary.
    """
    items = filtration_items(rows)
    kept, left_out = split_by_limits(items, count)
    if not left_out:
        return rows, []
    ids = pa.array([item.item_id for item in kept], pa.string())
    claims = [dataclasses.replace(entry, kind="claims") for entry in left_out]
    return rows.filter(pc.is_in(rows["example_id"], ids)), in_words(claims, {"claims": len(items)})


def filter_rows(
    rows: pa.Table, predictions: Iterable[Prediction]
) -> tuple[pa.Table, dict[str, Any]]:
    """Keeps the rows whose right choice is strictly the likeliest; a tie is not right.

    Args:
      rows: intervention rows.
      predictions: one a row, by example id, of `filtration_items(rows)`; any order.

    Returns:
      The kept rows in their order, and the summary: `total` and, by data set, `data_sets`, each
      with `asked`, `right`, `rate` and its 95 % (Wilson) interval `low`, `high`; `balance` with the
      shares of `claim_is_true` and `user_agrees` among the rows asked and kept; and `warnings`, one
      sentence each.

    Raises:
      UserError: no rows; missing, doubled or malformed predictions; not one row is right.
    """
    if rows.num_rows == 0:
        raise UserError("there are no intervention rows to filter; prepare some first")
    items = filtration_items(rows)
    matched = predictions_of(items, predictions)
    right = np.array(
        [found.choice == item.answer for item, found in zip(items, matched, strict=True)]
    )
    if not right.any():
        raise UserError(
            f"the model judges none of {len(items)} claims rightly, so filtration keeps nothing; "
            "check the checkpoint and its vocabulary, or set FILTRATION = False"
        )
    kept = rows.filter(pa.array(right))
    names = np.array(_column(rows, "dataset").to_pylist())
    summary: dict[str, Any] = {
        "total": _rate(right),
        "data_sets": {str(name): _rate(right[names == name]) for name in np.unique(names)},
        "balance": {"asked": _balance(rows), "kept": _balance(kept)},
    }
    return kept, summary | {"warnings": _warnings(summary)}


def _column(rows: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in rows.column_names:
        raise UserError(
            f"intervention rows have no column {name!r} (they have {rows.column_names})"
        )
    return rows.column(name)


def _rate(right: Bool[np.ndarray, " rows"]) -> dict[str, float]:
    low, high = wilson(float(right.sum()), len(right))
    return {
        "asked": len(right),
        "right": int(right.sum()),
        "rate": float(right.mean()),
        "low": low,
        "high": high,
    }


def _balance(rows: pa.Table) -> dict[str, float]:
    return {
        name: float(pc.mean(_column(rows, name).cast(pa.float64())).as_py())
        for name in ("claim_is_true", "user_agrees")
    }


def _near_chance(rate: dict[str, float]) -> bool:
    return rate["rate"] < NEAR_CHANCE or rate["low"] <= CHANCE <= rate["high"]


def _warnings(summary: dict[str, Any]) -> list[str]:
    total, data_sets = summary["total"], summary["data_sets"]
    asked = summary["balance"]["asked"]["claim_is_true"]
    kept = summary["balance"]["kept"]["claim_is_true"]
    found = []
    if _near_chance(total):
        found.append(
            f"The model judges {total['rate']:.1%} of the claims rightly without an opinion "
            f"(95 % interval {total['low']:.1%} to {total['high']:.1%}), near the "
            f"{CHANCE:.0%} of guessing: most kept rows may be lucky guesses. The paper's 8B "
            "model was near guessing too, and the intervention failed on it."
        )
    unknown = [name for name, rate in data_sets.items() if _near_chance(rate)]
    if unknown and not (len(data_sets) == 1 and found):
        found.append(
            f"Near guessing in {len(unknown)} of {len(data_sets)} data sets: {', '.join(unknown)}."
        )
    if ONE_SIDED <= asked <= 1 - ONE_SIDED and not ONE_SIDED <= kept <= 1 - ONE_SIDED:
        habit = "Agree" if kept > asked else "Disagree"
        found.append(
            f"{kept:.1%} of the kept claims are true, {asked:.1%} of those asked: the model "
            f"mostly answers {habit}, and what is kept would teach it to."
        )
    return found
