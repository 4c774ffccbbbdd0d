"""The metrics of a run, read from the JSON files that its evaluations wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sycophancy.errors import UserError
from sycophancy.evaluation.metrics import QUANTILES, Metric
from sycophancy.system import json_files

SERIES = ("before", "after")  # the two sides of finetuning that every change is computed from

Metrics = Mapping[str, Metric]  # the name of a metric -> its value


def read_series(run: Path) -> dict[str, Metrics]:
    """The metrics before and after finetuning; a side that was not evaluated is absent.

    They are in the run's `metrics.json`, or else in the folder of the evaluation.

    Raises:
      UserError: a file is damaged or holds something other than metrics.
    """
    path = run / "metrics.json"
    entries = read_object(path) or {}
    series = {
        side: parse_metrics(entries[side], side, path)
        if side in entries
        else read_evaluation(run / f"evaluate_{side}")
        for side in SERIES
    }
    return {side: metrics for side, metrics in series.items() if metrics}


def read_further(run: Path) -> dict[str, Metrics]:
    """The metrics of other checkpoints that were asked the run's items, by the folder's name.

    Raises:
      UserError: as `read_series`.
    """
    return {
        path.parent.name: read_evaluation(path.parent)
        for path in sorted(run.glob("evaluate_*/metrics.json"))
        if path.parent.name.removeprefix("evaluate_") not in SERIES
    }


def read_evaluation(folder: Path) -> Metrics:
    """The metrics in the folder of one evaluation; empty if it has none.

    Raises:
      UserError: as `read_series`.
    """
    path = folder / "metrics.json"
    return parse_metrics(read_object(path) or {}, folder.name, path)


def parse_metrics(entries: Any, series: str, path: Path) -> Metrics:
    """Metrics from the JSON objects that an evaluation wrote.

    Raises:
      UserError: an entry is no metric, or holds a number that is not finite.
    """
    if not isinstance(entries, dict):
        raise UserError(f"{path}: {series} should hold metrics by name; it is {entries!r:.60}")
    return {name: _metric(value, name, path) for name, value in entries.items()}


def read_object(path: Path) -> dict[str, Any] | None:
    """An object of JSON; None where the file does not exist.

    Raises:
      UserError: it cannot be read.
    """
    return json_files.require_object(path, "run the stage again") if path.exists() else None


def _metric(value: Any, name: str, path: Path) -> Metric:
    try:
        quantiles = value.get("quantiles")
        metric = Metric(
            float(value["value"]),
            float(value["low"]),
            float(value["high"]),
            int(value["n"]),
            None if quantiles is None else tuple(map(float, quantiles)),
        )
        if metric.quantiles is not None and len(metric.quantiles) != len(QUANTILES):
            raise ValueError
    except (AttributeError, TypeError, KeyError, ValueError, OverflowError):
        raise UserError(
            f"{path}: {name} should have value, low, high and n, and quantiles only as a list of "
            f"{len(QUANTILES)}; it is {value!r}"
        ) from None
    numbers = (metric.value, metric.low, metric.high, *(metric.quantiles or ()))
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{path}: {name} holds a number that is not finite: {value!r}")
    return metric
