"""What the exported YAML files call: items and this project's measures in lm-evaluation-harness.

The harness scores the choices of one item at a time and hands the outcomes of all items of a task
to an aggregation function. A measure such as a flip rate compares several items. So the outcome of
an item is its log-likelihoods, and the aggregation reads the items from the exported file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.measures import samples
from sycophancy.evaluation.naming import PER_TOKEN
from sycophancy.export import item_files

Outcome = Mapping[str, Any]  # the fields of a prediction, and the name of the item's file


def data_set(folder: Path, file: str, end: str = "", **metadata: object) -> dict[str, Any]:
    """The items of an exported file as the harness takes a data set: split -> rows.

    Args:
      folder: where the exported files are.
      file: the name of the file.
      end: a text after each choice, such as `</s>` where the end of sequence counts.
      metadata: what the harness passes on from its command line; not used.
    """
    import datasets

    rows = []
    for item in item_files.read(folder / file):
        choices = [f"{choice}{end}" for choice in item.choices]
        rows.append({"file": file, **vars(item), "choices": choices})
    return {"test": datasets.Dataset.from_list(rows)}


def process_results(
    folder: Path, doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]
) -> dict[str, Outcome]:
    """The outcome of one item, under the name of every measure of its task.

    Args:
      folder: where the exported files are.
      doc: a row of `data_set`.
      results: for each choice its log-likelihood, and whether greedy decoding would write it.
    """
    outcome = {
        "item_id": doc["item_id"],
        "log_likelihoods": [float(likelihood) for likelihood, _ in results],
        "greedy": [bool(greedy) for _, greedy in results],
        "file": doc["file"],
    }
    return dict.fromkeys(_measures_of(folder / doc["file"]), outcome)


def aggregation(folder: Path, measure: str) -> Callable[[Sequence[Outcome]], float]:
    """The function that computes a measure of a task from the outcomes of its items.

    Args:
      folder: where the exported files are.
      measure: a name such as `match_rate`, without the task.
    """

    def aggregate(outcomes: Sequence[Outcome]) -> float:
        predictions = [
            _prediction(o["item_id"], o["log_likelihoods"], o["greedy"]) for o in outcomes
        ]
        asked = {prediction.item_id for prediction in predictions}  # `--limit` asks only some
        items = [i for i in _items(folder / outcomes[0]["file"]) if i.item_id in asked]
        sample = samples(items, predictions).get(f"{items[0].task}/{measure}")
        return float("nan") if sample is None else sample.value

    return aggregate


def measures(items: Sequence[Item]) -> tuple[str, ...]:
    """The names of the measures of one task's items, without the task.

    Those per token are left out: the harness does not say how many tokens a choice has.
    """
    unknown = [
        _prediction(item.item_id, (0.0,) * len(item.choices), (False,) * len(item.choices))
        for item in items
    ]
    task = f"{items[0].task}/"
    names = (name.removeprefix(task) for name in samples(items, unknown) if name.startswith(task))
    return tuple(name for name in names if not name.startswith(f"{PER_TOKEN}/"))


def _prediction(
    item_id: str, log_likelihoods: Sequence[float], greedy: Sequence[bool]
) -> Prediction:
    """A prediction with one token a choice, because a count is required and not known."""
    return Prediction(item_id, tuple(log_likelihoods), tuple(greedy), (1,) * len(greedy))


@functools.lru_cache(maxsize=64)
def _items(path: Path) -> tuple[Item, ...]:
    return tuple(item_files.read(path))


@functools.lru_cache(maxsize=64)
def _measures_of(path: Path) -> tuple[str, ...]:
    return measures(_items(path))
