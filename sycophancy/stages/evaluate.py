"""The stages `evaluate_before` and `evaluate_after`: score the held-out items and measure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from sycophancy.engine.stage import Check, Counts, Inputs, Stage
from sycophancy.stages.checks import check_mesh, check_model, check_platform
from sycophancy.stages.finetune import finetuned_model
from sycophancy.stages.models import model_files, token_counter
from sycophancy.stages.scores import Precision, score_items
from sycophancy.stages.settings import NETWORK
from sycophancy.system import json_files, paths

if typing.TYPE_CHECKING:
    from etils import epath

    from sycophancy.config.schema import Config, ModelConfig
    from sycophancy.engine.progress import Meter
    from sycophancy.engine.run_folder import RunFolder
    from sycophancy.evaluation.items import Item, Prediction
    from sycophancy.evaluation.metrics import Metric

METRICS = "metrics.json"


def metrics_text(run: RunFolder, current: Collection[str]) -> str | None:
    """`metrics.json` of a run: series -> metric -> value, of the evaluations that are current.

    Each series has the metrics of its held-out items and those of its other abilities.
    """
    from sycophancy.evaluation.metric_files import SERIES

    series: dict[str, dict[str, Any]] = {}
    for side in SERIES:
        for stage in (f"evaluate_{side}", f"retention_{side}"):
            if stage in current:
                path = run.stage(stage) / METRICS
                own = json_files.require_object(path, "run the stage again")
                series[side] = {**series.get(side, {}), **own}
    return json.dumps(series, indent=1) if series else None


def evaluations(run: RunFolder) -> tuple[str, ...]:
    """The stages that evaluate what a run has: the model, and the finetuned one if there is one."""
    finetuned = run.manifest("finetune") is not None
    return ("evaluate_before", "evaluate_after") if finetuned else ("evaluate_before",)


class Evaluate(Stage):
    """Score the held-out items, before and after finetuning."""

    command = "evaluate"
    unit = "prompts"
    settings = NETWORK | {"PRECISION", "SCORE_DTYPE"}
    checks: ClassVar[tuple[Check, ...]] = (check_platform, check_model, check_mesh)
    published = {METRICS: metrics_text}  # noqa: RUF012  # declared, never changed

    def __init__(
        self,
        name: str,
        depends_on: tuple[str, ...],
        model_of: Callable[[Config, RunFolder], ModelConfig],
    ) -> None:
        self.name, self.depends_on, self.model_of = name, depends_on, model_of  # type: ignore[misc]

    def inputs(self, config: Config, run: RunFolder) -> Inputs:
        return {**held_out_files(run), **model_files(self.model_of(config, run))}

    def work(self, config: Config, run: RunFolder, out: Any, meter: Meter) -> Counts:
        from sycophancy.evaluation.items import read_items

        model = self.model_of(config, run)
        sets = {Path(name).stem: read_items(path) for name, path in held_out_files(run).items()}
        items, notes = comparable([item for items in sets.values() for item in items], model)
        notes += [f"{name}: no held-out item, so no measure" for name in sets if not sets[name]]
        precision = Precision(config.score_dtype)
        predictions = score_items(config, model, items, meter, precision)
        write_evaluation(out, items, predictions)
        return {"items": len(items), **precision.counts, "notes": notes + precision.notes}

    def result(self, run: RunFolder) -> Path | epath.Path:
        return run.path / METRICS

    def summary(self, run: RunFolder) -> list[str]:
        """The table of metrics, before and after finetuning if the run is finetuned."""
        from sycophancy.evaluation import naming

        series = json_files.require_object(run.path / METRICS, "evaluate again")
        if len(evaluations(run)) == 1:
            series = {"value": series["before"]}
        return naming.table(series)


def write_evaluation(out: Any, items: Sequence[Item], predictions: Sequence[Prediction]) -> None:
    """Writes predictions, and the metrics that follow from them, into a stage's folder."""
    from sycophancy.evaluation.items import write_predictions
    from sycophancy.evaluation.metrics import compute_metrics

    write_predictions(out / "predictions.parquet", predictions)
    write_metrics(out, compute_metrics(items, predictions))


def write_metrics(out: Any, metrics: Mapping[str, Metric]) -> None:
    """Writes metrics by name into a stage's folder."""
    paths.write_atomically(
        out / METRICS, json.dumps({name: m.as_json() for name, m in metrics.items()}, indent=1)
    )


def evaluate_before() -> Evaluate:
    """Asks the checkpoint that finetuning starts from."""
    return Evaluate("evaluate_before", ("prepare",), lambda config, run: config.model)


def evaluate_after() -> Evaluate:
    """Asks the finetuned checkpoint."""
    return Evaluate("evaluate_after", ("prepare", "finetune"), finetuned_model)


class EvaluateCheckpoint(Evaluate):
    """Score the held-out items with another checkpoint of the model's shape.

    The stage's name tells checkpoints of the same name apart by where they are; one of the run's
    own by where it is in the run, which may have moved or lie on another host.
    """

    def __init__(self, checkpoint: str, run: RunFolder) -> None:
        place = checkpoint
        if not paths.is_address(checkpoint):
            checkpoint = str(Path(checkpoint).resolve())
            place = checkpoint.removeprefix(f"{Path(run.path).resolve()}/")
        digest = hashlib.blake2b(place.encode(), digest_size=3).hexdigest()
        super().__init__(
            f"evaluate_{Path(checkpoint).name[:50]}_{digest}",
            ("prepare",),
            lambda config, run: dataclasses.replace(config.model, checkpoint=checkpoint),
        )

    checks = (check_platform, check_mesh)

    def result(self, run: RunFolder) -> Path | epath.Path:
        return run.stage(self.name) / METRICS

    def summary(self, run: RunFolder) -> list[str]:
        """The table of this checkpoint's metrics."""
        from sycophancy.evaluation import naming

        return naming.table(
            {"value": json_files.require_object(self.result(run), "evaluate again")}
        )


def held_out_files(run: RunFolder) -> dict[str, Path | epath.Path]:
    """The held-out sets that `prepare` wrote, without other files beside them."""
    names = (name for name in run.outputs("prepare") if name.startswith("prepare/evaluation/"))
    return {name: run.path / name for name in sorted(names) if name.endswith(".parquet")}


def comparable(items: Sequence[Item], model: ModelConfig) -> tuple[list[Item], list[str]]:
    """The items that this model can score, and notes on those that it cannot.

    Formats whose choices the vocabulary splits into unequal numbers of tokens are left out, and so
    are items that are too long. `prepare` left out the latter, unless its vocabulary was another.
    """
    from sycophancy.evaluation import limits
    from sycophancy.evaluation.measures import is_format

    count = token_counter(model)
    formats = {item.task: item.choices for item in items if is_format(item.task)}
    uneven = {
        task: choices for task, choices in formats.items() if len(set(count(choices).tolist())) > 1
    }
    notes = [
        f"{task} is left out: {' and '.join(choices)} have unequal token counts here."
        for task, choices in uneven.items()
    ]
    totals = {"held-out items": len(items)}
    items = [item for item in items if item.task not in uneven]
    kept, left_out = limits.split_by_limits(items, count)
    return kept, notes + limits.in_words(left_out, totals)
