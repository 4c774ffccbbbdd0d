"""The metrics of a run, read from the JSON files that its evaluations wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sycophancy.errors import UserError
from sycophancy.evaluation.metrics import Metric
from sycophancy.system import json_files

SERIES = ("before", "after")  # the two sides of finetuning that every change is computed from

Metrics = Mapping[str, Metric]  # the name of a metric -> its value


def read_series(run: Path) -> dict[str, Metrics]:
    """The metrics before and after finetuning; a side that was not evaluated is absent.

    They stand in the run's `metrics.json`, or in the folder of the evaluation.

    Raises:
      UserError: a file is damaged or holds something other than metrics.
    """
    whole = run / "metrics.json"
    series = read_object(whole) or {}
    for side in SERIES:
        if side not in series and (own := read_object(run / f"evaluate_{side}" / "metrics.json")):
            series[side] = own
    return {side: parse_metrics(series[side], side, whole) for side in SERIES if series.get(side)}


def read_further(run: Path) -> dict[str, Metrics]:
    """The metrics of other checkpoints that were asked the run's items, by the folder's name.

    Raises:
      UserError: as `read_series`.
    """
    further = {}
    for path in sorted(run.glob("evaluate_*/metrics.json")):
        if path.parent.name.removeprefix("evaluate_") not in SERIES:
            entries = read_object(path) or {}
            further[path.parent.name] = parse_metrics(entries, path.parent.name, path)
    return further


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
        metric = Metric(
            float(value["value"]), float(value["low"]), float(value["high"]), int(value["n"])
        )
    except (TypeError, KeyError, ValueError, OverflowError):
        raise UserError(
            f"{path}: {name} should have value, low, high and n; it is {value!r}"
        ) from None
    if not all(math.isfinite(x) for x in (metric.value, metric.low, metric.high)):
        raise UserError(f"{path}: {name} holds a number that is not finite: {value!r}")
    return metric
