"""Filtration: keeps the claims that the model already judges correctly without a user's opinion.

Wei et al. 2023 (arXiv 2308.03958), data filtration: a training row teaches that the user's opinion
does not decide whether a claim is true; only a model that knows which claims are true can learn it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from sycophancy.data import draws
from sycophancy.errors import UserError
from sycophancy.evaluation.intervals import wilson
from sycophancy.evaluation.items import Item, Prediction, predictions_of
from sycophancy.evaluation.limits import CountTokens, in_words, split_by_limits

CHANCE = 0.5  # two choices
# A model that knows a share k of the claims and guesses the rest is right on (1 + k) / 2 of them.
# Below two thirds, more than half of the rows that are kept are lucky guesses.
NEAR_CHANCE = 2 / 3
ONE_SIDED = 0.25  # a smaller share of true, or of false, claims among the kept rows is warned of


def filtration_items(rows: pa.Table) -> list[Item]:
    """The item of each row: the prompt without the user's opinion; its id is the row's."""
    columns = ("example_id", "inputs_without_opinion", "choices", "answer")
    return [
        Item(example_id, "filtration", "neutral", example_id, inputs, tuple(choices), answer)
        for example_id, inputs, choices, answer in zip(
            *(_column(rows, name).to_pylist() for name in columns), strict=True
        )
    ]


def askable(rows: pa.Table, count: CountTokens) -> tuple[pa.Table, list[str]]:
    """The rows that can be scored, and a note on the others.

    `prepare` leaves out the others already, unless it was given another vocabulary.
    """
    items = filtration_items(rows)
    kept, left_out = split_by_limits(items, count)
    if not left_out:
        return rows, []
    ids = pa.array([item.item_id for item in kept], pa.string())
    claims = [dataclasses.replace(entry, kind="claims") for entry in left_out]
    return rows.filter(pc.is_in(rows["example_id"], ids)), in_words(claims, {"claims": len(items)})


def filter_rows(
    rows: pa.Table, predictions: Iterable[Prediction], *, balance: bool = False, seed: int = 0
) -> tuple[pa.Table, dict[str, Any]]:
    """The rows whose right choice the model finds likeliest; a tie does not count as right.

    Args:
      rows: intervention rows.
      predictions: the prediction of each item of `filtration_items(rows)`, in any order.
      balance: whether to keep, of these, equally many true and false claims of each data set. A
        model that mostly agrees is right about most true claims and few false ones, and what it
        keeps would teach it to agree.
      seed: decides which of the more frequent kind are kept.

    Returns:
      The kept rows in their order, and the summary: `total` and `data_sets` (by name), each with
      `asked`, `right`, `rate` and the bounds `low` and `high` of its 95 % interval (Wilson's);
      `balance`, the shares of `claim_is_true` and `user_agrees` among the rows asked and kept;
      `dropped_for_balance`, a number of rows, if `balance`; and `warnings`, one sentence each.

    Raises:
      UserError: no rows; missing, doubled or malformed predictions; no claim is judged correctly;
        no data set has a true and a false one that is.
    """
    if rows.num_rows == 0:
        raise UserError("there are no intervention rows to filter; prepare some first")
    items = filtration_items(rows)
    matched = predictions_of(items, predictions)
    right = np.array(
        [prediction.choice == item.answer for item, prediction in zip(items, matched, strict=True)]
    )
    if not right.any():
        raise UserError(
            f"the model judges none of {len(items)} claims correctly, so filtration keeps nothing; "
            "check the checkpoint and its vocabulary, or set FILTRATION = False"
        )
    names = np.array(_column(rows, "dataset").to_pylist())
    used = _as_many_of_each(rows, names, right, seed) if balance else right
    kept = rows.filter(pa.array(used))
    summary: dict[str, Any] = {
        "total": _rate(right),
        "data_sets": {str(name): _rate(right[names == name]) for name in np.unique(names)},
        "balance": {"asked": _balance(rows), "kept": _balance(kept)},
    }
    if balance:
        summary["dropped_for_balance"] = int(right.sum() - used.sum())
    warnings = _warnings(summary)
    if lost := sorted(set(names[right]) - set(names[used])):
        warnings.append(
            f"No claim is kept of {', '.join(lost)}: all that the model judges correctly are true, "
            "or all are false, and FILTER_BALANCE keeps equally many."
        )
    return kept, summary | {"warnings": warnings}


def _as_many_of_each(
    rows: pa.Table, names: np.ndarray, right: Bool[np.ndarray, " rows"], seed: int
) -> Bool[np.ndarray, " rows"]:
    """Of the rows marked `right`, equally many true and false claims of each data set."""
    true = np.array(_column(rows, "claim_is_true").to_pylist(), bool)
    hashes = draws.content_hashes(_column(rows, "example_id").to_pylist())
    order = np.argsort(draws.words(hashes, seed, "balance"), kind="stable")
    used = np.zeros(len(right), bool)
    for name in np.unique(names):
        kinds = [order[(right & (names == name) & (true == kind))[order]] for kind in (True, False)]
        few = min(map(len, kinds))
        for kind in kinds:
            used[kind[:few]] = True
    if not used.any():
        raise UserError(
            f"of the {right.sum()} claims that the model judges correctly, each data set has only "
            "true ones or only false ones, so FILTER_BALANCE keeps nothing; set it to False, or "
            "ask more claims (NUM_EXAMPLES)"
        )
    return used


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
    warnings = []
    if _near_chance(total):
        warnings.append(
            f"The model judges {total['rate']:.1%} of the claims correctly without an opinion "
            f"(95 % interval {total['low']:.1%} to {total['high']:.1%}), near the "
            f"{CHANCE:.0%} of guessing: most kept rows may be lucky guesses. The paper's 8B "
            "model was near guessing too, and the intervention failed on it."
        )
    unknown = [name for name, rate in data_sets.items() if _near_chance(rate)]
    if unknown and not (len(data_sets) == 1 and warnings):
        warnings.append(
            f"Near guessing in {len(unknown)} of {len(data_sets)} data sets: {', '.join(unknown)}."
        )
    if ONE_SIDED <= asked <= 1 - ONE_SIDED and not ONE_SIDED <= kept <= 1 - ONE_SIDED:
        habit = "Agree" if kept > asked else "Disagree"
        warnings.append(
            f"{kept:.1%} of the kept claims are true, but {asked:.1%} of those asked: the model "
            f"mostly answers {habit}, and the kept claims would reinforce this habit."
        )
    return warnings
