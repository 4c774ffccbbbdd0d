"""Everything that a run's folder holds for its report, read once into frozen data.

A stage that was not run leaves a gap, which `RunRecord.missing` names; a damaged file is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sycophancy.config import macros
from sycophancy.errors import UserError
from sycophancy.evaluation import retention
from sycophancy.evaluation.baselines import SERIES_WORDS
from sycophancy.evaluation.comparison import Change, unpaired_changes
from sycophancy.evaluation.guessing import Guessing, guessing
from sycophancy.evaluation.items import Item, Prediction, read_items, read_predictions
from sycophancy.evaluation.metric_files import (
    SERIES,
    Metrics,
    read_further,
    read_object,
    read_series,
)
from sycophancy.evaluation.metrics import Metric
from sycophancy.report.filtration_summary import Filtration, read_filtration
from sycophancy.report.run.family import corrected
from sycophancy.report.run.losses import Losses, read_losses
from sycophancy.report.run.sums import all_changes, sums_metrics

OWN_STAGE = "report"  # its manifest is about the page before this one


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """The manifest of a complete stage: its seconds, and the versions that it ran with."""

    name: str
    seconds: float | None
    versions: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """Everything a report is made of.

    Attributes:
      config: the text of `config.gin`.
      macros: its values by name.
      metrics: `before` and `after` -> name -> metric: those of `metrics.json`, and `sums/...` over
        false and true sums together, computed from the predictions.
      further: the folder of another evaluated checkpoint -> name -> metric.
      changes: name -> after minus before, paired if both models' predictions exist; the p-values
        of the page's tests are adjusted (`family`).
      guessing: what a model scores that ignores question and user.
      prepared: `prepare/summary.json`.
      stages: the complete stages, see `read_run`.
      missing: what a complete run has and this one lacks, each a sentence.
    """

    run: Path
    config: str
    macros: Mapping[str, Any]
    metrics: Mapping[str, Metrics]
    changes: Mapping[str, Change]
    items: Sequence[Item] = ()
    predictions: Mapping[str, Mapping[str, Prediction]] = dataclasses.field(default_factory=dict)
    further: Mapping[str, Metrics] = dataclasses.field(default_factory=dict)
    guessing: Guessing = dataclasses.field(default_factory=Guessing)
    filtration: Filtration | None = None
    losses: Losses = dataclasses.field(default_factory=Losses)
    prepared: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stages: Sequence[StageRecord] = ()
    missing: Sequence[str] = ()

    def metric(self, series: str, name: str) -> Metric | None:
        """One number, or None if it was not measured."""
        return self.metrics.get(series, {}).get(name)

    @property
    def only_evaluated(self) -> bool:
        """Whether this is an evaluation of a model, not a part of a finetuning run."""
        begun = ("filter", "finetune")
        return self.metrics.keys() == {"before"} and not any(
            (self.run / name).exists() for name in begun
        )

    def label(self, series: str) -> str:
        """What a page calls a series: `before`, or the model where nothing was finetuned."""
        name = str(self.macros.get("MODEL_NAME", "the model"))
        if self.only_evaluated and series == "before":
            return name
        return SERIES_WORDS.get(series, series)

    @property
    def evaluations(self) -> Mapping[str, Metrics]:
        """Every evaluation: before, after, and further checkpoints."""
        return {**self.metrics, **self.further}

    @property
    def names(self) -> set[str]:
        """The names of all metrics before or after finetuning."""
        return {name for metrics in self.metrics.values() for name in metrics}


def read_run(run: Path, order: Sequence[str] = ()) -> RunRecord:
    """Reads a run folder.

    Args:
      run: the folder.
      order: names of stages in the order in which the page lists them; others follow in the order
        in which they finished.

    Raises:
      UserError: there is no such run, nothing was evaluated, or a file is damaged; the message
        names the file and the stage to run.
    """
    if not (run / "config.gin").is_file():
        raise UserError(f"{run} is not a run folder: it has no config.gin")
    config = macros.text_of(run / "config.gin")
    entries = macros.read_text(config, "config.gin")
    settings = {name: entry.value for name, entry in entries.items()}
    metrics = read_series(run)
    if not metrics:
        raise UserError(f"{run} has nothing to report: neither model was evaluated; evaluate first")
    items = [item for path in _item_files(run) for item in read_items(path)]
    predictions = {}
    for series in metrics:
        path = run / f"evaluate_{series}" / "predictions.parquet"
        if path.is_file():
            predictions[series] = read_predictions(path)
    filtration = read_filtration(read_object(run / "filter" / "summary.json"))
    losses = read_losses(run / "finetune" / "metrics.jsonl")
    sums = sums_metrics(items, predictions) if items else {}
    changes = unpaired_changes(*(metrics.get(series, {}) for series in SERIES))
    if items and predictions.keys() == set(SERIES):
        changes |= all_changes(items, *(predictions[series] for series in SERIES))
    changes |= _changes_of_abilities(run)
    gaps = {
        **{
            f"There is no evaluation {series} finetuning.": series not in metrics
            for series in SERIES
        },
        "Items or predictions are absent: changes are computed as if the two models had been asked "
        "independent questions, and no examples are shown.": not items
        or predictions.keys() != metrics.keys(),
        "Filtration left no summary: it is unknown which claims the model already judges "
        "correctly.": filtration is None and settings.get("FILTRATION", True),
        "Finetuning left no metrics.jsonl: there is no loss curve.": not losses.training,
    }
    record = RunRecord(
        run=run,
        config=config,
        macros=settings,
        metrics={series: {**own, **sums.get(series, {})} for series, own in metrics.items()},
        further=read_further(run),
        changes=corrected(changes),
        items=items,
        predictions={
            series: {prediction.item_id: prediction for prediction in answers}
            for series, answers in predictions.items()
        },
        guessing=guessing(items),
        filtration=filtration,
        losses=losses,
        prepared=_prepared(run / "prepare" / "summary.json"),
        stages=_stages(run, order),
        missing=[sentence for sentence, is_missing in gaps.items() if is_missing],
    )
    return dataclasses.replace(record, missing=()) if record.only_evaluated and items else record


def _changes_of_abilities(run: Path) -> dict[str, Change]:
    """Paired changes of MMLU and BIG-Bench Hard, if both models were asked."""
    files = [run / f"retention_{side}" / retention.SAMPLES for side in SERIES]
    if not all(path.is_file() for path in files):
        return {}
    return retention.changes(*map(retention.read_answers, files))


def _item_files(run: Path) -> list[Path]:
    return sorted((run / "prepare" / "evaluation").rglob("*.parquet"))


def _prepared(path: Path) -> dict[str, Any]:
    summary = read_object(path) or {}
    for part in ("notes", "too_long", "bad_rows"):
        if not isinstance(summary.get(part, []), list):
            raise UserError(f"{path}: {part} should be a list; prepare again")
    return summary


def _stages(run: Path, order: Sequence[str]) -> list[StageRecord]:
    """Every stage whose manifest lies in the run, whatever its name."""
    places = {name: number for number, name in enumerate(order)}
    stages: dict[tuple[int, str, str], StageRecord] = {}
    for path in sorted(run.glob("*/manifest.json")):
        name = path.parent.name
        if name == OWN_STAGE or name.startswith("."):  # set aside, or unfinished
            continue
        manifest = read_object(path) or {}
        seconds, versions = manifest.get("seconds"), manifest.get("versions")
        place = places.get(name, len(places))
        finished = "" if name in places else str(manifest.get("finished", ""))
        stages[place, finished, name] = StageRecord(
            name,
            float(seconds) if isinstance(seconds, int | float) else None,
            versions if isinstance(versions, dict) else {},
        )
    return [stages[key] for key in sorted(stages)]
