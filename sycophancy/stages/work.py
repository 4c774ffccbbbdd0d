"""What each stage reads and does. JAX, TensorFlow and Arrow are imported inside the functions."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sycophancy.config import macros
from sycophancy.config.schema import Config, ModelConfig
from sycophancy.engine.progress import Meter
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.stages import preflight
from sycophancy.system import paths
from sycophancy.system.terminal import unheard

if TYPE_CHECKING:
    from sycophancy.evaluation.items import Item, Prediction


def data_files(config: Config, run: RunFolder) -> Mapping[str, Any]:
    """What `prepare` reads: the files of the rows, and the vocabulary that measures them."""
    from sycophancy.data.local_files import local_files

    found = {"the vocabulary": model_files(config.model)["the vocabulary"]}
    return found | local_files(config.data)


def prepare(config: Config, run: RunFolder, out: Any, meter: Meter) -> Mapping[str, Any]:
    from sycophancy.data import prepare as data
    from sycophancy.data.lengths import Limits

    training = config.training
    limits = Limits(token_counter(config.model), training.input_length, training.target_length)
    summary = data.prepare(config.data, out, progress=meter, limits=limits)
    _check_trainable(config, summary)
    return {
        "claims": summary["intervention"]["rows"],
        "instructions": summary["instructions"]["train"],
        "held-out items": sum(summary["evaluation"].values()),
        "notes": summary["notes"],
    }


def _check_trainable(config: Config, summary: Mapping[str, Any]) -> None:
    """Refuses rows of which training would leave out all, before they are filtered for hours."""
    training = config.training
    if training.mixture_or_task_name != "sycophancy_mix":
        return
    rows = (summary["intervention"]["rows"], summary["instructions"]["train"])
    for kind, ratio, there in zip(
        ("claims", "instructions"), training.mixture_ratio, rows, strict=True
    ):
        too_long = sum(
            entry["dropped"]
            for entry in summary["too_long"]
            if (entry["stage"], entry["kind"]) == ("training", kind)
        )
        if ratio > 0 and 0 < there <= too_long:
            raise UserError(
                f"all {there:,} {kind} are longer than TASK_FEATURE_LENGTHS (inputs "
                f"{training.input_length}, targets {training.target_length} tokens), so training "
                "would leave them out; set TASK_FEATURE_LENGTHS to more, or their share of "
                "MIXTURE_RATIO to 0"
            )


def token_counter(model: ModelConfig) -> Callable[[Sequence[str]], Any]:
    """Counts the tokens of texts by a model's vocabulary, end of sequence included."""
    import numpy as np

    from sycophancy.model.vocabulary import Vocabulary

    vocabulary = Vocabulary(model.vocabulary)
    return lambda texts: np.array([len(ids) + 1 for ids in vocabulary.encode_batch(texts)], int)


def filter_files(config: Config, run: RunFolder) -> Mapping[str, Any]:
    rows = {"prepare/intervention.parquet": run.path / "prepare" / "intervention.parquet"}
    return {**rows, **model_files(config.model)} if config.filtration else rows


def filter_rows(config: Config, run: RunFolder, out: Any, meter: Meter) -> Mapping[str, Any]:
    import pyarrow.parquet as pq

    from sycophancy.data.intervention import SCHEMA
    from sycophancy.evaluation.items import read_table, write_predictions

    rows = read_table(run.path / "prepare" / "intervention.parquet", SCHEMA)
    if not config.filtration:
        pq.write_table(rows, out / "kept.parquet")
        _write_json(out / "summary.json", {"filtration": False, "rows": rows.num_rows})
        return {"kept": rows.num_rows}

    from sycophancy.scoring import filtration

    rows, notes = filtration.askable(rows, token_counter(config.model))
    predictions = _score(config, config.model, filtration.filtration_items(rows), meter)
    kept, summary = filtration.filter_rows(rows, predictions)
    write_predictions(out / "predictions.parquet", predictions)
    pq.write_table(kept, out / "kept.parquet")
    _write_json(out / "summary.json", summary)
    return {"kept": kept.num_rows, "asked": rows.num_rows, "notes": notes + summary["warnings"]}


def finetune_files(config: Config, run: RunFolder) -> Mapping[str, Any]:
    names = ("filter/kept.parquet", "prepare/instructions.parquet")
    found = {name: run.path / name for name in names}
    if config.trainer == "t5x":
        files = ("trainers/t5x.gin", "trainers/t5x_model.gin")
        found |= {name: macros.root() / name for name in files}
    return {**found, **model_files(config.model)}


def finetune_modules(config: Config) -> tuple[str, ...]:
    """The modules that finetune, by the trainer."""
    if config.trainer == "t5x":
        t5x = ("recipe", "batches", "command", "watch")
        return ("tasks", *(f"sycophancy.training.t5x.{name}" for name in t5x))
    return ("tasks", "sycophancy.training.trainer")


def finetune(config: Config, run: RunFolder, out: Any, meter: Meter) -> Mapping[str, Any]:
    notes: list[str] = []
    if config.trainer == "t5x":
        from sycophancy.training.t5x import command

        last = command.finetune(config, run.path, out, report=meter.report)
    else:
        with unheard():
            from sycophancy.training import trainer

        with preflight.enough_memory():
            last = trainer.finetune(
                config,
                run.path,
                out,
                report=meter.report,
                note=meter.note,
                conclude=notes.append,
            )
    checkpoint = last.relative_to(out.resolve())
    return {
        "steps": config.training.finetune_steps,
        "checkpoint": str(checkpoint),
        "notes": notes,
    }


def evaluation_files(run: RunFolder) -> Mapping[str, Any]:
    """The held-out items that `prepare` wrote, and nothing that lies beside them."""
    names = (name for name in run.outputs("prepare") if name.startswith("prepare/evaluation/"))
    return {name: run.path / name for name in sorted(names) if name.endswith(".parquet")}


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
    """The checkpoint's files and the vocabulary: paths where they are local, else their names.

    Raises:
        UserError: the local folder holds no checkpoint.
    """
    from sycophancy.model.checkpoints import folders

    named = {"the checkpoint": model.checkpoint, "the vocabulary": model.vocabulary}
    found: dict[str, Any] = {}
    for name, value in named.items():
        path = paths.open_path(value)
        local = "://" not in value and path.exists()
        if local and name == "the checkpoint":
            found |= {f"{name}: {part.name}": part for part in folders.parts(path)}
        else:
            found[name] = path if local else value
    return found


def check_finetuning(config: Config, run: RunFolder) -> None:
    """Refuses a run's folder in which the trainer could not write, and a network it does not know.

    Raises:
        UserError: says what is wrong.
    """
    from sycophancy.model import locations

    place = os.path.abspath(run.path) if isinstance(run.path, Path) else str(run.path)  # noqa: PTH100
    locations.check_name(place)
    if config.trainer != "t5x":
        return
    if any(sign in place for sign in "*?["):
        raise UserError(
            f"{place}: T5X takes *, ? and [ in a folder's name for a pattern and would write "
            "checkpoints without arrays; name another folder, or use --trainer jax"
        )
    if "gelu_exact" in config.model.network.mlp_activations:
        raise UserError("MLP_ACTIVATIONS: T5X has no gelu_exact; use --trainer jax")


def check_model(model: ModelConfig) -> None:
    """Opens the vocabulary and the checkpoint, without reading its arrays.

    Raises:
        UserError: one is missing, damaged or another model's.
    """
    from sycophancy.model.checkpoints import open_checkpoint
    from sycophancy.model.vocabulary import Vocabulary

    pieces, rows = Vocabulary(model.vocabulary).size, model.network.vocab_size
    if pieces > rows:
        raise UserError(
            f"vocabulary {model.vocabulary} has {pieces:,} pieces, the network {rows:,} rows; "
            "set VOCABULARY to the one the checkpoint was trained with"
        )
    open_checkpoint(model.checkpoint).check(model.network)


def evaluate(
    config: Config, model: ModelConfig, run: RunFolder, out: Any, meter: Meter
) -> Mapping[str, Any]:
    """Asks a checkpoint every held-out item; writes predictions and metrics."""
    from sycophancy.evaluation.items import read_items, write_predictions
    from sycophancy.evaluation.metrics import compute_metrics

    found = {path.stem: read_items(path) for path in evaluation_files(run).values()}
    items, notes = _comparable([item for task in found.values() for item in task], model)
    notes += [f"{name}: no held-out item, so no measure" for name in found if not found[name]]
    predictions = _score(config, model, items, meter)
    write_predictions(out / "predictions.parquet", predictions)
    metrics = compute_metrics(items, predictions)
    _write_json(
        out / "metrics.json",
        {name: dataclasses.asdict(metric) for name, metric in metrics.items()},
    )
    return {"items": len(items), "notes": notes}


def _comparable(items: Sequence[Item], model: ModelConfig) -> tuple[list[Item], list[str]]:
    """The items that this model can be asked; a note on those left out.

    Out go formats of choices that the vocabulary splits unequally, and items that are too long.
    `prepare` has left the latter out already, unless it knew another vocabulary.
    """
    from sycophancy.evaluation import limits
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
    totals = {"held-out items": len(items)}
    items = [item for item in items if item.task not in uneven]
    kept, left_out = limits.split_by_limits(items, token_counter(model))
    return kept, notes + limits.in_words(left_out, totals)


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
    from sycophancy.model import sharding
    from sycophancy.model.checkpoints import load_checkpoint
    from sycophancy.model.vocabulary import Vocabulary
    from sycophancy.scoring.score import score

    vocabulary = Vocabulary(model.vocabulary)
    params = load_checkpoint(model)
    mesh = sharding.make_mesh(sharding.resolve(config.training.mesh, model.network))
    with preflight.enough_memory():
        return score(params, model.network, vocabulary, items, mesh=mesh, progress=meter)


def _write_json(path: Any, value: Any) -> None:
    paths.write_atomically(path, json.dumps(value, indent=1))


def examples(run: RunFolder, count: int) -> list[str]:
    """Prepared rows as a person would read them."""
    from sycophancy.data.prepare import render_examples

    return render_examples(run.stage("prepare"), count)
