"""What each stage reads and does. JAX, TensorFlow and Arrow are imported inside the functions."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sycophancy import macros, runfolder
from sycophancy.config import Config, ModelConfig
from sycophancy.errors import UserError
from sycophancy.progress import Meter
from sycophancy.runfolder import RunFolder

if TYPE_CHECKING:
    from sycophancy.evaluation.items import Item, Prediction


def data_files(config: Config, run: RunFolder) -> Mapping[str, Any]:
    data = config.data
    given = {
        "the data mirror": data.mirror if data.origin == "mirror" else None,
        "the surveys": data.surveys,
        "the instructions": data.instructions,
    }
    return {name: _existing(path, name) for name, path in given.items() if path is not None}


def prepare(config: Config, run: RunFolder, out: Any, meter: Meter) -> Mapping[str, Any]:
    from sycophancy.data import prepare as data

    summary = data.prepare(config.data, out, progress=meter)
    return {
        "claims": summary["intervention"]["rows"],
        "instructions": summary["instructions"]["train"],
        "held-out items": sum(summary["evaluation"].values()),
        "notes": summary["notes"],
    }


def filter_files(config: Config, run: RunFolder) -> Mapping[str, Any]:
    rows = {"prepare/intervention.parquet": run.path / "prepare" / "intervention.parquet"}
    return {**rows, **model_files(config.model)} if config.filtration else rows


def filter_rows(config: Config, run: RunFolder, out: Any, meter: Meter) -> Mapping[str, Any]:
    import pyarrow.parquet as pq

    rows = pq.read_table(run.path / "prepare" / "intervention.parquet")
    if not config.filtration:
        pq.write_table(rows, out / "kept.parquet")
        _write_json(out / "summary.json", {"filtration": False, "rows": rows.num_rows})
        return {"kept": rows.num_rows}

    from sycophancy import filtration
    from sycophancy.evaluation.items import write_predictions

    predictions = _score(config, config.model, filtration.filtration_items(rows), meter)
    kept, summary = filtration.filter_rows(rows, predictions)
    write_predictions(out / "predictions.parquet", predictions)
    pq.write_table(kept, out / "kept.parquet")
    _write_json(out / "summary.json", summary)
    return {"kept": kept.num_rows, "asked": rows.num_rows, "notes": summary["warnings"]}


def finetune_files(config: Config, run: RunFolder) -> Mapping[str, Any]:
    names = ("filter/kept.parquet", "prepare/instructions.parquet")
    found = {name: run.path / name for name in names}
    if config.trainer == "t5x":
        files = ("trainers/t5x.gin", "trainers/t5x_model.gin")
        found |= {name: macros.root() / name for name in files}
    return {**found, **model_files(config.model)}


def finetune(config: Config, run: RunFolder, out: Any, meter: Meter) -> Mapping[str, Any]:
    if config.trainer == "t5x":
        from sycophancy.training import t5x_command

        last = t5x_command.finetune(config, run.path, out, report=meter.report)
    else:
        with unheard():
            from sycophancy.training import trainer

        last = trainer.finetune(config, run.path, out, report=meter.report)
    checkpoint = last.relative_to(out.resolve())
    return {"steps": config.training.finetune_steps, "checkpoint": str(checkpoint)}


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Hides what TensorFlow's C++ prints while it is imported, past its own log level."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def evaluation_files(run: RunFolder) -> Mapping[str, Any]:
    return {"prepare/evaluation": run.path / "prepare" / "evaluation"}


def before_files(config: Config, run: RunFolder) -> Mapping[str, Any]:
    return {**evaluation_files(run), **model_files(config.model)}


def evaluate_before(config: Config, run: RunFolder, out: Any, meter: Meter) -> Mapping[str, Any]:
    return evaluate(config, config.model, run, out, meter)


def after_files(config: Config, run: RunFolder) -> Mapping[str, Any]:
    return {**evaluation_files(run), **model_files(finetuned(config, run))}


def evaluate_after(config: Config, run: RunFolder, out: Any, meter: Meter) -> Mapping[str, Any]:
    return evaluate(config, finetuned(config, run), run, out, meter)


def finetuned(config: Config, run: RunFolder) -> ModelConfig:
    """The model with the checkpoint that finetuning left."""
    manifest = run.manifest("finetune")
    if manifest is None:
        raise UserError(f"{run.path} has no finetuned checkpoint; run `sycophancy finetune` first")
    checkpoint = run.stage("finetune") / manifest["counts"]["checkpoint"]
    return dataclasses.replace(config.model, checkpoint=str(checkpoint))


def model_files(model: ModelConfig) -> Mapping[str, Any]:
    """The checkpoint and the vocabulary: paths where they are local, else their names."""
    named = {"the checkpoint": model.checkpoint, "the vocabulary": model.vocabulary}
    found: dict[str, Any] = {}
    for name, value in named.items():
        path = runfolder.open_path(value)
        local = "://" not in value and path.exists()
        found[name] = path if local else value
    return found


def check_model(model: ModelConfig) -> None:
    """Opens the vocabulary and the checkpoint, without reading its arrays.

    Raises:
        UserError: one is missing, damaged or another model's.
    """
    from sycophancy.model.checkpoints import open_checkpoint
    from sycophancy.model.vocabulary import Vocabulary

    Vocabulary(model.vocabulary)
    open_checkpoint(model.checkpoint).check(model.network)


def evaluate(
    config: Config, model: ModelConfig, run: RunFolder, out: Any, meter: Meter
) -> Mapping[str, Any]:
    """Asks a checkpoint every held-out item; writes predictions and metrics."""
    from sycophancy.evaluation.items import read_items, write_predictions
    from sycophancy.evaluation.metrics import compute_metrics

    folder = run.path / "prepare" / "evaluation"
    items = [item for path in sorted(folder.rglob("*.parquet")) for item in read_items(path)]
    items, notes = _comparable(items, model)
    predictions = _score(config, model, items, meter)
    write_predictions(out / "predictions.parquet", predictions)
    metrics = compute_metrics(items, predictions)
    _write_json(
        out / "metrics.json",
        {name: dataclasses.asdict(metric) for name, metric in metrics.items()},
    )
    return {"items": len(items), "notes": notes}


def _comparable(items: Sequence[Item], model: ModelConfig) -> tuple[list[Item], list[str]]:
    """The items without formats of choices that this vocabulary splits unequally; why they go."""
    from sycophancy.evaluation.measures import is_format
    from sycophancy.model.vocabulary import Vocabulary

    vocabulary = Vocabulary(model.vocabulary)
    offered = {item.task: item.choices for item in items if is_format(item.task)}
    uneven = {
        task: choices
        for task, choices in offered.items()
        if len(set(map(len, vocabulary.encode_batch(list(choices))))) > 1
    }
    notes = [
        f"{task} is left out: {' and '.join(choices)} have unequal token counts here."
        for task, choices in uneven.items()
    ]
    return [item for item in items if item.task not in uneven], notes


def write_report(run: RunFolder) -> None:
    from sycophancy.report import page

    page.write_report(run.path)


def headline(run: RunFolder) -> str:
    """The sentences at the top of a run's report, for a terminal."""
    from sycophancy.report.headline import headline as found
    from sycophancy.report.reading import read_run

    plain = str.maketrans({"“": '"', "”": '"'})
    return f"{found(read_run(run.path)).translate(plain)}."


def _score(
    config: Config, model: ModelConfig, items: Sequence[Item], meter: Meter
) -> list[Prediction]:
    from sycophancy.model.checkpoints import load_checkpoint
    from sycophancy.model.vocabulary import Vocabulary
    from sycophancy.scoring import score
    from sycophancy.training import sharding

    vocabulary = Vocabulary(model.vocabulary)
    params = load_checkpoint(model)
    mesh = sharding.make_mesh(sharding.resolve(config.training.mesh, model.network))
    return score(params, model.network, vocabulary, items, mesh=mesh, progress=meter)


def _write_json(path: Any, value: Any) -> None:
    runfolder.write_atomically(path, json.dumps(value, indent=1))


def _existing(path: str, name: str) -> Any:
    found = runfolder.open_path(path)
    if not found.exists():
        raise UserError(f"{name}: {path} does not exist")
    return found


def read_json(path: Any) -> dict[str, Any]:
    """A JSON file of a run."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def examples(run: RunFolder, count: int) -> list[str]:
    """Prepared rows as a person would read them."""
    from sycophancy.data.prepare import render_examples

    return render_examples(run.stage("prepare"), count)
