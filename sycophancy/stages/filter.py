"""The stage `filter`: drops the claims that the model does not judge correctly unprompted."""

from __future__ import annotations

import json
import typing
from typing import Any

from sycophancy.engine.stage import Counts, Inputs, Stage
from sycophancy.stages.checks import check_mesh, check_model, check_platform, check_trainable
from sycophancy.stages.models import model_files, token_counter
from sycophancy.stages.scores import Precision, score_items
from sycophancy.stages.settings import NETWORK
from sycophancy.system import paths

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config
    from sycophancy.engine.progress import Meter
    from sycophancy.engine.run_folder import RunFolder


class Filter(Stage):
    """Keep the claims that the model judges correctly when no user states an opinion."""

    name = command = "filter"
    depends_on = ("prepare",)
    unit = "prompts"
    settings = NETWORK | {"FILTRATION", "FILTER_BALANCE", "SEED"}
    checks = (check_trainable, check_platform, check_model, check_mesh)

    def inputs(self, config: Config, run: RunFolder) -> Inputs:
        rows = {"prepare/intervention.parquet": run.path / "prepare" / "intervention.parquet"}
        return {**rows, **model_files(config.model)} if config.filtration else rows

    def work(self, config: Config, run: RunFolder, out: Any, meter: Meter) -> Counts:
        import pyarrow.parquet as pq

        from sycophancy.data.intervention import SCHEMA
        from sycophancy.evaluation.items import read_table, write_predictions
        from sycophancy.scoring import filtration

        rows = read_table(run.path / "prepare" / "intervention.parquet", SCHEMA)
        if not config.filtration:
            pq.write_table(rows, out / "kept.parquet")
            _write_summary(out, {"filtration": False, "rows": rows.num_rows})
            return {"kept": rows.num_rows}
        rows, notes = filtration.askable(rows, token_counter(config.model))
        items = filtration.filtration_items(rows)
        precision = Precision(config.score_dtype)
        predictions = score_items(config, config.model, items, meter, precision)
        kept, summary = filtration.filter_rows(
            rows, predictions, balance=config.filter_balance, seed=config.data.seed
        )
        summary |= precision.counts
        write_predictions(out / "predictions.parquet", predictions)
        pq.write_table(kept, out / "kept.parquet")
        _write_summary(out, summary)
        notes += precision.notes + summary["warnings"]
        counts = {"kept": kept.num_rows, "asked": rows.num_rows}
        return {**counts, **precision.counts, "notes": notes}


def _write_summary(out: Any, summary: dict[str, Any]) -> None:
    paths.write_atomically(out / "summary.json", json.dumps(summary, indent=1))
