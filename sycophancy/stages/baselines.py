"""The stages `evaluate_baseline_...`: prompting instead of finetuning, with the model as it is."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from sycophancy.engine.stage import Counts
from sycophancy.stages.evaluate import (
    METRICS,
    Evaluate,
    comparable,
    held_out_files,
    write_evaluation,
)
from sycophancy.stages.memory import enough_memory
from sycophancy.stages.scores import Precision, load_language_model
from sycophancy.system import json_files

if typing.TYPE_CHECKING:
    from etils import epath

    from sycophancy.config.schema import Baseline, Config
    from sycophancy.engine.progress import Meter
    from sycophancy.engine.run_folder import RunFolder


class EvaluateBaseline(Evaluate):
    """Ask the model before finetuning with prompts that may stop sycophancy."""

    command = "baselines"
    when_absent = (
        "BASELINES is empty, so there is nothing to ask; "
        "give --set \"BASELINES=('truthful', 'rewrite')\""
    )
    settings = Evaluate.settings | {"NUM_BASELINE_ITEMS", "SEED"}

    def __init__(self, kind: Baseline) -> None:
        super().__init__(
            f"evaluate_baseline_{kind}", ("prepare",), lambda config, run: config.model
        )
        self.kind = kind

    def applies(self, config: Config) -> bool:
        return self.kind in config.baselines

    def work(self, config: Config, run: RunFolder, out: Any, meter: Meter) -> Counts:
        """Also writes the items as they were asked, so that rewritten prompts can be read."""
        from sycophancy.data.question_draws import draw_questions
        from sycophancy.evaluation import baselines
        from sycophancy.evaluation.items import read_items, write_items

        items = [item for path in held_out_files(run).values() for item in read_items(Path(path))]
        items, notes = comparable(items, config.model)
        items = draw_questions(items, config.num_baseline_items, config.data.seed, "baseline")
        precision = Precision(config.score_dtype)
        with enough_memory():
            model = load_language_model(config, config.model, precision)
            if self.kind == "truthful":
                items = baselines.truthful(items)
            else:
                items, left_out = baselines.rewrite(
                    items,
                    lambda prompts: model.generate(
                        prompts, max_new_tokens=baselines.REWRITTEN_TOKENS, progress=meter
                    ),
                )
                if left_out:
                    notes.append(f"{left_out:,} items with several turns are not rewritten")
            items, longer = comparable(items, config.model)
            predictions = model.score(items, progress=meter)
        write_items(out / "items.parquet", items)
        write_evaluation(out, items, predictions)
        notes += longer + precision.notes
        return {"items": len(items), **precision.counts, "notes": notes}

    def result(self, run: RunFolder) -> Path | epath.Path:
        return run.stage(self.name) / METRICS

    def summary(self, run: RunFolder) -> list[str]:
        """The table of the model's metrics, as it is and with every baseline's prompts."""
        from sycophancy.evaluation import naming

        series = {}
        for name in ("evaluate_before", *(stage.name for stage in evaluate_baselines())):
            path = run.stage(name) / METRICS
            if path.is_file():
                label = name.removeprefix("evaluate_").removeprefix("baseline_")
                series[label] = json_files.require_object(path, "evaluate again")
        return naming.table(series)


def evaluate_baselines() -> tuple[EvaluateBaseline, ...]:
    """One stage for each baseline."""
    return EvaluateBaseline("truthful"), EvaluateBaseline("rewrite")
