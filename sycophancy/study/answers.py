"""The measures of a sweep's runs, by seed, with the samples behind them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int

from sycophancy.errors import UserError
from sycophancy.evaluation import retention
from sycophancy.evaluation.guessing import guessing
from sycophancy.evaluation.intervals import Sample
from sycophancy.evaluation.items import Item, read_items, read_predictions
from sycophancy.evaluation.measures import samples
from sycophancy.evaluation.measures.answer_table import SURVEYS, tasks_of
from sycophancy.evaluation.metric_files import SERIES, read_evaluation, read_series
from sycophancy.evaluation.metrics import Metric
from sycophancy.study.claims import Side
from sycophancy.study.index import Cell, Sweep

PAPER_STEPS = 1000  # what a cell's settings leave out: they hold what differs from the paper


@dataclasses.dataclass(frozen=True)
class Measured:
    """One measure of one cell.

    Attributes:
      metric: as the run wrote it, or computed from the sample.
      sample: the outcomes, ordered by stratum and cluster; None if there are no predictions.
      questions: equal for samples of the same questions.
    """

    metric: Metric
    sample: Sample | None = None
    questions: str = ""


class Answers:
    """The measures of a sweep; files are read when they are first needed, and kept."""

    def __init__(self, sweep: Sweep, measures: Collection[str]) -> None:
        """
        Args:
          sweep: the sweep.
          measures: the names of the measures that will be read; others are not kept.
        """
        self._sweep = sweep
        self._measures = frozenset(measures)
        self._read: dict[tuple[Path, str], dict[str, Measured] | str] = {}
        self._files: dict[str, list[Item]] = {}
        self._samples: dict[tuple[str, ...], dict[str, tuple[Sample, str]]] = {}
        self._numbers: dict[str, int] = {}  # questions and sets, the same in all samples

    def of(self, side: Side) -> dict[int, Measured]:
        """The measure by seed; empty if there is none (see `why_not`)."""
        measured = {}
        for seed, cell in self._cells(side).items():
            read = self._evaluation(cell, side.when)
            if not isinstance(read, str) and side.measure in read:
                measured[seed] = read[side.measure]
        return measured

    def why_not(self, side: Side) -> str:
        """Why `of` is empty, in words."""
        if side.model is None:
            return "this family has no pretrained models"
        if side.recipe is None:
            return "this family has no recipe for it"
        name = f"{side.model}, {side.recipe}"
        known = [c for c in self._sweep.cells if (c.model, c.recipe) == (side.model, side.recipe)]
        if not known:
            return f"{name}: not in this sweep"
        done = [cell for cell in known if cell.state == "done"]
        if not done:
            return f"{name}: {known[0].reason}"
        read = self._evaluation(done[0], side.when)
        if isinstance(read, str):
            return f"{name}: {read}"
        return f"{name}: {side.measure} was not measured {_when(side.when)}"

    def chance(self, side: Side) -> float | None:
        """The survey score of a model that ignores the user, for this side's cells."""
        for cell in self._cells(side).values():
            try:
                return guessing(self._items(cell.folder)[1]).match.get(SURVEYS)
            except UserError:
                continue
        return None

    def _cells(self, side: Side) -> dict[int, Cell]:
        """The cells of a side, by seed; before finetuning, a model is the same in every recipe."""
        done = [c for c in self._sweep.cells if c.state == "done" and c.model == side.model]
        own = {cell.seed: cell for cell in done if cell.recipe == side.recipe}
        if side.when != "before":
            return own
        return {cell.seed: cell for cell in reversed(done)} | own

    def _evaluation(self, cell: Cell, when: str) -> dict[str, Measured] | str:
        key = cell.folder, when
        if key not in self._read:
            try:
                self._read[key] = self._measure(cell, when)
            except UserError as error:
                self._read[key] = f"cannot be read: {error}"
        return self._read[key]

    def _measure(self, cell: Cell, when: str) -> dict[str, Measured] | str:
        series, folder = when, cell.folder / f"evaluate_{when}"
        if when.startswith("step "):
            series, step = "", when.removeprefix("step ")
            if step in cell.steps:
                folder = cell.steps[step]
            elif str(cell.settings.get("FINETUNE_STEPS", PAPER_STEPS)) == step:
                series, folder = "after", cell.folder / "evaluate_after"
            else:
                return f"step {step} was not evaluated"
        metrics = read_series(cell.folder).get(series) if series else read_evaluation(folder)
        measured = {
            name: Measured(metric)
            for name, metric in (metrics or {}).items()
            if name in self._measures
        }
        found: dict[str, tuple[Sample, str]] = {}
        if (folder / "predictions.parquet").is_file():
            found |= self._outcomes(cell.folder, folder)
        if series in SERIES:
            found |= self._of_abilities(cell.folder / f"retention_{series}" / retention.SAMPLES)
        for name, (sample, questions) in found.items():
            if name in measured:
                measured[name] = Measured(measured[name].metric, sample, questions)
        return measured or f"not evaluated {_when(when)}"

    def _outcomes(self, run: Path, evaluation: Path) -> dict[str, tuple[Sample, str]]:
        """The samples of an evaluation; many cells of a sweep share them."""
        path = evaluation / "predictions.parquet"
        files, items = self._items(run)
        key = (*files, _digest(path))
        if key not in self._samples:
            outcomes = samples(items, read_predictions(path)) if items else {}
            self._samples[key] = {
                name: self._aligned(sample)
                for name, sample in outcomes.items()
                if name in self._measures
            }
        return self._samples[key]

    def _of_abilities(self, path: Path) -> dict[str, tuple[Sample, str]]:
        """The samples of MMLU and BIG-Bench Hard; empty if they are not read or were not asked."""
        read = {variant.metric for variant in retention.VARIANTS} & self._measures
        if not read or not path.is_file():
            return {}
        key = (_digest(path),)
        if key not in self._samples:
            outcomes = retention.samples(retention.read_answers(path))
            self._samples[key] = {
                name: self._aligned(outcomes[name]) for name in read & {*outcomes}
            }
        return self._samples[key]

    def _items(self, run: Path) -> tuple[tuple[str, ...], list[Item]]:
        """The digests of a run's item files, and the items that the measures need."""
        paths = sorted((run / "prepare" / "evaluation").rglob("*.parquet"))
        files = tuple(map(_digest, paths))
        for path, file in zip(paths, files, strict=True):
            if file not in self._files:
                self._files[file] = [
                    self._slim(item) for item in read_items(path) if self._is_read(item)
                ]
        return files, [item for file in files for item in self._files[file]]

    def _is_read(self, item: Item) -> bool:
        surveys = item.task.startswith(f"{SURVEYS}/")
        read = {name.rpartition("/")[0] for name in self._measures}
        return surveys or not read.isdisjoint(tasks_of(item))

    def _slim(self, item: Item) -> Item:
        """The item without its prompt, unless a measure finds the choice that says Agree there."""
        if f"{item.task}/agree_share" in self._measures:
            return item
        return dataclasses.replace(item, inputs="")

    def _aligned(self, sample: Sample) -> tuple[Sample, str]:
        """The sample in a canonical order, and a digest of its questions.

        Questions and sets become numbers that are the same in all samples.
        """
        clusters, strata = sample.clusters, sample.strata
        if sample.names:
            clusters, strata = sample.names[0][clusters], sample.names[1][strata]
        order = np.lexsort((clusters, strata))
        clusters, strata = clusters[order], strata[order]
        names = "\n".join(f"{a}\t{b}" for a, b in zip(strata, clusters, strict=True))
        questions = hashlib.blake2b(names.encode(), digest_size=16).hexdigest()
        return Sample(
            sample.values[order],
            sample.weights[order],
            self._numbered(clusters),
            self._numbered(strata),
            sample.bounds,
        ), questions

    def _numbered(self, names: Iterable[str]) -> Int[np.ndarray, " items"]:
        return np.array([self._numbers.setdefault(name, len(self._numbers)) for name in names], int)


def _when(when: str) -> str:
    return f"at {when}" if when.startswith("step ") else f"{when} finetuning"


def _digest(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
