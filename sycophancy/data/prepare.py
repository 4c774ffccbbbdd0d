"""The first stage: every data set, sampled, worded and written as parquet."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sycophancy.config import DataConfig
from sycophancy.data import addition, instructions, intervention, probes, surveys
from sycophancy.data.sources import Texts, load_source, selected_names
from sycophancy.data.survey_files import load_surveys
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, write_items

Progress = Callable[[int, int], None]

INTERVENTION = "intervention.parquet"
INTERVENTION_VALIDATION = "intervention_validation.parquet"
INSTRUCTIONS = "instructions.parquet"
INSTRUCTIONS_VALIDATION = "instructions_validation.parquet"
EVALUATION = "evaluation"
SUMMARY = "summary.json"

_UNFINISHED = ".unfinished"


def prepare(config: DataConfig, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Prepares everything a run trains on and is measured with.

    Writes, all or nothing: intervention rows and instruction rows, for training and for
    validation; `evaluation/<task>.parquet` (items; `/` in a task's name becomes `_`);
    `summary.json`.

    Args:
      config: where from, and how many rows.
      out: the folder to write; made if there is none. May be a bucket's (an `etils` path).
      progress: told the intervention rows done and wanted.

    Returns:
      The summary: per data set what was read, dropped and taken; the balance of the rows; notes in
      words where there was less than asked for.

    Raises:
      UserError: unusable input, see `sources`, `surveys` and `instructions`; or `out` cannot be
        written. Nothing is left half-written.
    """
    names = selected_names(config.data_sets)
    with _whole_or_nothing(out) as folder:
        rows = instructions.load_instructions(config)  # fails early where input is malformed
        questions = load_surveys(config)
        summary = _write_intervention(config, names, folder, progress or (lambda done, total: None))
        pq.write_table(rows.train, folder / INSTRUCTIONS)
        pq.write_table(rows.validation, folder / INSTRUCTIONS_VALIDATION)
        summary["instructions"] = rows.counts
        evaluation: dict[str, int] = {"intervention": summary["intervention_validation"]["items"]}
        evaluation["instruction"] = _write_task(
            folder, "instruction", instructions.build_items(rows.validation)
        )
        sums = list(addition.build_items(config.seed))
        for task in ("addition", "addition_true"):
            evaluation[task] = _write_task(folder, task, (i for i in sums if i.task == task))
        probed = list(probes.build_items(config.seed))
        for task in probes.TASKS:
            evaluation[task] = _write_task(folder, task, (i for i in probed if i.task == task))
        for survey, asked in questions.items():
            items = surveys.build_items(survey, asked, config.num_survey_items, config.seed)
            evaluation[f"surveys/{survey}"] = _write_task(folder, f"surveys/{survey}", items)
        summary["evaluation"] = evaluation
        summary["notes"] = _notes(config, summary)
        (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def evaluation_file(folder: Path, task: str) -> Path:
    """Where the items of a task are: `surveys/nlp` is in `evaluation/surveys_nlp.parquet`."""
    return folder / EVALUATION / f"{task.replace('/', '_')}.parquet"


def render_examples(out: Path, count: int) -> list[str]:
    """Renders the first prepared rows as a person would read them.

    Args:
      out: a folder that `prepare` wrote.
      count: how many, at most.
    """
    path = out / INTERVENTION
    if not path.is_file():
        raise UserError(f"{path} does not exist; run `sycophancy prepare` first")
    with path.open("rb") as stream, pq.ParquetFile(stream) as file:
        rows = next(file.iter_batches(batch_size=max(count, 1))).to_pylist()[:count]
    return [
        f"{row['dataset']} · the claim is {'true' if row['claim_is_true'] else 'false'} · "
        f"{_opinion(row)} · {row['example_id']}\n\n{row['inputs']} → {row['targets']}"
        for row in rows
    ]


def _opinion(row: dict[str, Any]) -> str:
    if row["inputs"] == row["inputs_without_opinion"]:
        return "no opinion"
    return "the user agrees" if row["user_agrees"] else "the user disagrees"


def _write_intervention(
    config: DataConfig, names: tuple[str, ...], folder: Path, progress: Progress
) -> dict[str, Any]:
    train = [load_source(name, config, "train") for name in names]
    validation = [load_source(name, config, "validation") for name in names]
    validation, leaked = _without_train_texts(train, validation)
    chosen = intervention.sample(
        [texts.hashes for texts in train], config.num_examples, config.sampling, config.seed
    )
    batches = intervention.claimed_batches(train, chosen, config.seed, config.claim_mode)
    balance = _write_rows(
        folder / INTERVENTION,
        (
            intervention.build_rows(batch, config.seed, opinions=config.opinions)
            for batch in batches
        ),
        progress,
        len(chosen[0]),
    )
    # A measure over all data sets should not be mostly the largest: validation is balanced. Its
    # users have opinions, whatever those of the training rows do, so that runs can be compared.
    held_out = intervention.sample(
        [texts.hashes for texts in validation], config.num_validation, "balanced", config.seed
    )
    claimed = list(
        intervention.claimed_batches(validation, held_out, config.seed, config.claim_mode)
    )
    validation_balance = _write_rows(
        folder / INTERVENTION_VALIDATION,
        (intervention.build_rows(batch, config.seed) for batch in claimed),
        lambda done, total: None,
        len(held_out[0]),
    )
    items = (item for batch in claimed for item in intervention.build_items(batch, config.seed))
    validation_balance["items"] = _write_task(folder, "intervention", items)
    data_sets = {}
    for index, name in enumerate(names):
        data_sets[name] = {
            "train": train[index].counts | {"taken": int((chosen[0] == index).sum())},
            "validation": validation[index].counts
            | {"also_in_train": leaked[index], "taken": int((held_out[0] == index).sum())},
            "validation_split": (
                "held out from train"
                if train[index].held_out_from_train
                else train[index].source.validation
            ),
        }
    return {
        "data_sets": data_sets,
        "intervention": balance,
        "intervention_validation": validation_balance,
    }


def _without_train_texts(
    train: list[Texts], validation: list[Texts]
) -> tuple[list[Texts], list[int]]:
    """Drops held-out rows whose texts occur in the train split of any data set.

    Returns:
      The data sets' remaining rows, and how many rows each lost.
    """
    joined = [_joined(texts) for texts in validation]
    held_out = pa.concat_arrays(joined)
    seen = [pc.filter(rows, pc.is_in(rows, held_out)) for rows in map(_joined, train)]
    known = pa.concat_arrays(seen)
    rest, leaked = [], []
    for texts, contents in zip(validation, joined, strict=True):
        fresh = pc.invert(pc.is_in(contents, known)).to_numpy(zero_copy_only=False)
        rest.append(texts.select(np.flatnonzero(fresh)))
        leaked.append(int((~fresh).sum()))
    return rest, leaked


def _joined(texts: Texts) -> pa.Array:
    return pc.binary_join_element_wise(*texts.columns, "\x1f")


def _write_rows(
    path: Path, tables: Iterator[pa.Table], progress: Progress, total: int
) -> dict[str, Any]:
    """Streams rows to parquet, a row group a table, and counts their balance."""
    rows = 0
    cells: Counter[tuple[bool, bool, str]] = Counter()
    with pq.ParquetWriter(path, intervention.SCHEMA) as writer:
        for table in tables:
            writer.write_table(table)
            rows += len(table)
            names = ("claim_is_true", "user_agrees", "targets")
            cells.update(zip(*(table[name].to_pylist() for name in names), strict=True))
            progress(rows, total)

    def count(position: int, value: bool | str) -> int:
        return sum(number for cell, number in cells.items() if cell[position] == value)

    return {
        "rows": rows,
        "claim_is_true": count(0, True),
        "claim_is_false": count(0, False),
        "user_agrees": count(1, True),
        "user_disagrees": count(1, False),
        "user_is_right": sum(n for (true, agrees, _), n in cells.items() if true == agrees),
        "answer_is_A": count(2, "(A)"),
        "answer_is_B": count(2, "(B)"),
        "agree_is_first": sum(
            n for (true, _, answer), n in cells.items() if true == (answer == "(A)")
        ),
    }


def _write_task(folder: Path, task: str, items: Any) -> int:
    written: list[Item] = list(items)
    write_items(evaluation_file(folder, task), written)
    return len(written)


def _notes(config: DataConfig, summary: dict[str, Any]) -> list[str]:
    """What fell short of what was asked for, in words."""
    notes = []
    shortages = [
        ("intervention rows", config.num_examples, summary["intervention"]["rows"]),
        (
            "intervention validation rows",
            config.num_validation,
            summary["intervention_validation"]["rows"],
        ),
        ("instruction rows", config.num_instructions, summary["instructions"]["train"]),
        (
            "instruction validation rows",
            config.num_validation,
            summary["instructions"]["validation"],
        ),
    ]
    for task, items in summary["evaluation"].items():
        if task.startswith("surveys/"):
            shortages.append((f"{task} questions", config.num_survey_items, items // 2))
    for what, asked, got in shortages:
        if got < asked:
            notes.append(f"{what}: {asked:,} asked for, all {got:,} that there are were taken")
    for name, counts in summary["data_sets"].items():
        if counts["validation_split"] == "held out from train":
            notes.append(f"{name}: no validation split here; one train text in 20 is held out")
    return notes


@contextmanager
def _whole_or_nothing(out: Path) -> Iterator[Path]:
    """Gives a local folder whose contents move to `out`, perhaps a bucket, if all goes well."""
    existed = out.exists()
    unfinished = Path(tempfile.mkdtemp()) if _is_bucket(out) else out / _UNFINISHED
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / EVALUATION).mkdir(parents=True)
        yield unfinished
        (out / EVALUATION).mkdir(parents=True, exist_ok=True)
        for path in sorted(unfinished.rglob("*")):
            target = out / path.relative_to(unfinished)
            if path.is_file() and _is_bucket(out):
                target.write_bytes(path.read_bytes())
            elif path.is_file():
                path.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not existed and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _is_bucket(path: Path) -> bool:
    return "://" in os.fspath(path)
