"""A run's items with the metrics and the answers of every model that was asked them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sycophancy.config import macros
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, Prediction, read_items, read_predictions
from sycophancy.evaluation.metric_files import Metrics, read_further, read_series

RUNS = Path("runs")
_PREFIX = "evaluate_"


@dataclasses.dataclass(frozen=True)
class Evaluations:
    """What a run was asked, and what each evaluation of it found.

    Attributes:
      name: what pages call the run.
      macros: the values of its `config.gin` by name.
      items: what `prepare` wrote; an evaluation may have left some of them out.
      metrics: the name of an evaluation (`before`, `after` or `x` of a folder `evaluate_x`) -> the
        name of a metric -> its value.
      predictions: the name of an evaluation -> the id of an item -> the model's answer. An
        evaluation whose predictions are gone is absent.
    """

    name: str
    folder: Path
    macros: Mapping[str, Any]
    items: Sequence[Item]
    metrics: Mapping[str, Metrics]
    predictions: Mapping[str, Mapping[str, Prediction]]


def find(run: str) -> Path:
    """The folder of a run: `runs/RUN`, or the folder RUN itself.

    Raises:
      UserError: neither is a run folder.
    """
    places = [RUNS / run, Path(run)]
    for place in places:
        if (place / "config.gin").is_file():
            return place
    if any(place.is_dir() for place in places):
        raise UserError(f"{run} is not a run folder: it has no config.gin")
    raise UserError(f"there is no run {run}: neither {places[0]} nor {places[1]} is a folder")


def read_evaluations(run: str) -> Evaluations:
    """Reads every evaluation of a run.

    Args:
      run: its name or folder, as `find` takes it.

    Raises:
      UserError: there is no such run, nothing was evaluated, or a file is damaged.
    """
    folder = find(run)
    further = {name.removeprefix(_PREFIX): found for name, found in read_further(folder).items()}
    metrics = {**read_series(folder), **further}
    if not metrics:
        raise UserError(f"{folder} has no evaluation; run `sycophancy evaluate` first")
    config = macros.read_text(macros.text_of(folder / "config.gin"), str(folder / "config.gin"))
    files = sorted((folder / "prepare" / "evaluation").rglob("*.parquet"))
    answers = {name: folder / f"{_PREFIX}{name}" / "predictions.parquet" for name in metrics}
    return Evaluations(
        name=folder.resolve().name,
        folder=folder,
        macros={name: setting.value for name, setting in config.items()},
        items=[item for path in files for item in read_items(path)],
        metrics=metrics,
        predictions={
            name: {prediction.item_id: prediction for prediction in read_predictions(path)}
            for name, path in answers.items()
            if path.is_file()
        },
    )
