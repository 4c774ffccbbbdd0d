"""A run's items with the metrics and the answers of every model that was asked them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sycophancy.config import macros
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, Prediction, read_items, read_predictions
from sycophancy.evaluation.metric_files import Metrics, read_further, read_series
from sycophancy.report.checkpoints import fetch_to_read
from sycophancy.system import paths

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


def find(run: str, *, finetuned: bool = False) -> RunFolder:
    """The run `runs/RUN`, in the folder RUN itself, or fetched from the address RUN.

    Args:
      run: its name, folder or address.
      finetuned: fetch the finetuned checkpoint, too.

    Raises:
      UserError: there is none, or its bucket cannot be read.
    """
    if paths.is_address(run):
        found = RunFolder(run)
        fetch_to_read(found, finetuned=finetuned)
        return found
    places = [RUNS / run, Path(run)]
    for place in places:
        if (place / "config.gin").is_file():
            return RunFolder(place)
    if any(place.is_dir() for place in places):
        raise UserError(f"{run} is not a run folder: it has no config.gin")
    raise UserError(f"there is no run {run}: neither {places[0]} nor {places[1]} is a folder")


def read_evaluations(run: str) -> Evaluations:
    """Reads every evaluation of a run.

    Args:
      run: its name, folder or address, as `find` takes it.

    Raises:
      UserError: there is no such run, nothing was evaluated, or a file is damaged.
    """
    run_folder = find(run)
    folder = Path(run_folder.path)
    further = {name.removeprefix(_PREFIX): found for name, found in read_further(folder).items()}
    metrics = {**read_series(folder), **further}
    if not metrics:
        raise UserError(
            f"{run_folder.shown(folder)} has no evaluation; run `sycophancy evaluate` first"
        )
    config = macros.read_text(macros.text_of(folder / "config.gin"), str(folder / "config.gin"))
    files = sorted((folder / "prepare" / "evaluation").rglob("*.parquet"))
    answers = {name: folder / f"{_PREFIX}{name}" / "predictions.parquet" for name in metrics}
    return Evaluations(
        name=run_folder.name,
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
