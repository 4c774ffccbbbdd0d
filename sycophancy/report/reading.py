"""What a run folder says, read once into frozen data; absent stages are named, never fatal."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sycophancy.config import macros
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, Prediction, read_items, read_predictions
from sycophancy.evaluation.metrics import Metric
from sycophancy.report import derived
from sycophancy.report.derived import Change
from sycophancy.report.filtered import Filtration, read_filtration
from sycophancy.system import json_files

SERIES = ("before", "after")
STAGES = ("prepare", "filter", "finetune", "evaluate_before", "evaluate_after")


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage's manifest tells: how long it took and with which versions."""

    name: str
    seconds: float | None
    versions: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Reading:
    """Everything a report is made of.

    Attributes:
      config: the text of `config.gin`.
      macros: its values by name.
      metrics: series -> name -> metric: `metrics.json`, and `sums/...` over false and true sums
        together, derived from the predictions.
      changes: name -> after minus before, paired where both models' predictions are there.
      chance: survey task, or `surveys` for their mean -> share of matching answers of a model
        that ignores the user.
      losses: (step, loss) pairs in order of steps.
      prepared: `prepare/summary.json`.
      missing: what a complete run has and this one lacks, each a sentence.
    """

    run: Path
    config: str
    macros: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Metric]]
    changes: Mapping[str, Change]
    items: Sequence[Item]
    predictions: Mapping[str, Mapping[str, Prediction]]
    chance: Mapping[str, float]
    filtration: Filtration | None
    losses: Sequence[tuple[int, float]]
    prepared: Mapping[str, Any]
    stages: Sequence[Stage]
    missing: Sequence[str]

    def metric(self, series: str, name: str) -> Metric | None:
        """One number, or None where it was not measured."""
        return self.metrics.get(series, {}).get(name)


def read_run(run: Path) -> Reading:
    """Reads a run folder.

    Raises:
      UserError: there is no such run, nothing was evaluated, or a file is damaged; the message
        names the file and the stage to run.
    """
    if not (run / "config.gin").is_file():
        raise UserError(f"{run} is not a run folder: it has no config.gin")
    config = _text(run / "config.gin")
    settings = {key: said.value for key, said in macros.read_text(config, "config.gin").items()}
    missing: list[str] = []
    metrics = _metrics(run)
    for series in SERIES:
        if series not in metrics:
            missing.append(f"evaluate_{series} is not done: no model {series} finetuning.")
    items = [item for path in _parquets(run) for item in read_items(path)]
    predictions = {}
    for series in metrics:
        path = run / f"evaluate_{series}" / "predictions.parquet"
        if path.is_file():
            predictions[series] = read_predictions(path)
    if not items or predictions.keys() != metrics.keys():
        missing.append(
            "Items or predictions are absent: changes are as of independent questions, and no "
            "examples are shown."
        )
    filtration = read_filtration(_json(run / "filter" / "summary.json"))
    if filtration is None and settings.get("FILTRATION", True):
        missing.append("Filtration left no summary: what the model can read is unknown.")
    losses = _losses(run / "finetune" / "metrics.jsonl")
    if not losses:
        missing.append("Finetuning left no metrics.jsonl: there is no loss curve.")
    sums, changes = derived.compare_runs(items, predictions if items else {})
    return Reading(
        run=run,
        config=config,
        macros=settings,
        metrics={series: {**found, **sums.get(series, {})} for series, found in metrics.items()},
        changes=derived.unpaired_changes(metrics) | changes,
        items=items,
        predictions={
            series: {prediction.item_id: prediction for prediction in found}
            for series, found in predictions.items()
        },
        chance=derived.survey_chance(items),
        filtration=filtration,
        losses=losses,
        prepared=_prepared(run / "prepare" / "summary.json"),
        stages=[stage for name in STAGES if (stage := _stage(run, name))],
        missing=missing,
    )


def _parquets(run: Path) -> list[Path]:
    return sorted((run / "prepare" / "evaluation").rglob("*.parquet"))


def _metrics(run: Path) -> dict[str, dict[str, Metric]]:
    whole = run / "metrics.json"
    found = _json(whole) or {}
    for series in SERIES:
        if series not in found and (alone := _json(run / f"evaluate_{series}" / "metrics.json")):
            found[series] = alone
    metrics = {}
    for series in SERIES:
        if not isinstance(own := found.get(series, {}), dict):
            raise UserError(f"{whole}: {series} should hold metrics by name; it is {own!r:.60}")
        if own:
            metrics[series] = {name: _metric(value, name, whole) for name, value in own.items()}
    if not metrics:
        raise UserError(f"{run} has nothing to report: neither model was evaluated; evaluate first")
    return metrics


def _metric(value: Any, name: str, path: Path) -> Metric:
    try:
        read = Metric(
            float(value["value"]), float(value["low"]), float(value["high"]), int(value["n"])
        )
    except (TypeError, KeyError, ValueError, OverflowError):
        raise UserError(
            f"{path}: {name} should have value, low, high and n; it is {value!r}"
        ) from None
    if not all(math.isfinite(x) for x in (read.value, read.low, read.high)):
        raise UserError(f"{path}: {name} holds a number that is not finite: {value!r}")
    return read


def _prepared(path: Path) -> dict[str, Any]:
    found = _json(path) or {}
    for part in ("notes", "too_long", "bad_rows"):
        if not isinstance(found.get(part, []), list):
            raise UserError(f"{path}: {part} should be a list; prepare again")
    return found


def _losses(path: Path) -> list[tuple[int, float]]:
    if not path.is_file():
        return []
    found: dict[int, float] = {}
    lines = _text(path).splitlines()
    for number, line in enumerate(lines, 1):
        try:
            record = _parsed(line, f"{path}:{number}")
        except UserError:
            if number == len(lines):  # a kill cut it short
                continue
            raise
        try:
            step, loss = int(record["step"]), float(record["loss"])
        except KeyError:  # a line about something else
            continue
        except (TypeError, ValueError):
            raise UserError(f"{path}:{number}: step and loss should be numbers: {line}") from None
        if math.isfinite(loss):
            found[step] = loss
    return sorted(found.items())


def _stage(run: Path, name: str) -> Stage | None:
    manifest = _json(run / name / "manifest.json")
    if manifest is None:
        return None
    seconds, versions = manifest.get("seconds"), manifest.get("versions")
    return Stage(
        name,
        float(seconds) if isinstance(seconds, int | float) else None,
        versions if isinstance(versions, dict) else {},
    )


def _json(path: Path) -> dict[str, Any] | None:
    """An object of JSON; None where there is no file."""
    return json_files.require_object(path, "run the stage again") if path.exists() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{source} should hold an object of JSON; it holds {found!r:.60}")
    return found
