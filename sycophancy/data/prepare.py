"""The first stage: every data set, sampled, worded and written as parquet."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sycophancy.config.schema import DataConfig
from sycophancy.data import (
    addition,
    columns,
    instructions,
    intervention,
    normalised,
    probes,
    prompts,
    surveys,
)
from sycophancy.data.bad_rows import BadRows
from sycophancy.data.catalog import FileRows, Source
from sycophancy.data.data_set_file import selected_sources
from sycophancy.data.lengths import Lengths, Limits
from sycophancy.data.sources import Texts, load_source
from sycophancy.data.survey_files import load_surveys
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, write_items
from sycophancy.evaluation.own_sets import read_own_sets

Progress = Callable[[int, int], None]

INTERVENTION = "intervention.parquet"
INTERVENTION_VALIDATION = "intervention_validation.parquet"
INSTRUCTIONS = "instructions.parquet"
INSTRUCTIONS_VALIDATION = "instructions_validation.parquet"
EVALUATION = "evaluation"
SUMMARY = "summary.json"

_UNFINISHED = ".unfinished"


def prepare(
    config: DataConfig,
    out: Path,
    progress: Progress | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Prepares everything a run trains on and is measured with.

    Writes, all or nothing: intervention rows and instruction rows, for training and for
    validation; `evaluation/<task>.parquet` (items; `/` in a task's name becomes `_`);
    `summary.json`. What cannot be scored is left out; what is too long for training is kept,
    since the tasks leave it out by the lengths they are given, and counted.

    Args:
      config: where from, and how many rows.
      out: the folder to write; made if there is none. May be a bucket's (an `etils` path).
      progress: told the intervention rows done and wanted.
      limits: the model's; without, nothing is too long.

    Returns:
      The summary: per data set what was read, dropped and taken; the balance of the rows;
      `too_long` (see `limits.LeftOut`) and `bad_rows` (see `BadRows.summary`); notes in words on
      these, and where there was less than asked for.

    Raises:
      UserError: unusable input, see `sources`, `surveys` and `instructions`; no claim that can be
        scored; or `out` cannot be written. Nothing is left half-written.
    """
    sources = selected_sources(config)
    lengths = Lengths(limits)
    lengths.check_choices(prompts.LETTERS)
    own_sets = read_own_sets(config.evaluations)
    with _whole_or_nothing(out) as folder:
        rows = instructions.load_instructions(config)  # fails early where input is malformed
        bad = [rows.bad]
        questions = load_surveys(config, bad)
        summary, notes = _write_intervention(
            config, sources, folder, progress or (lambda done, total: None), lengths, bad
        )
        lengths.instructions(rows.train)
        asked = lengths.items(list(instructions.build_items(rows.validation)))
        kept = pc.is_in(rows.validation["example_id"], pa.array(_examples_of(asked), pa.string()))
        pq.write_table(rows.train, folder / INSTRUCTIONS)
        pq.write_table(rows.validation.filter(kept), folder / INSTRUCTIONS_VALIDATION)
        summary["instructions"] = rows.counts | {"validation": len(asked)}
        evaluation: dict[str, int] = {"intervention": summary["intervention_validation"]["items"]}
        evaluation["instruction"] = _write_task(folder, "instruction", asked)
        sums = list(addition.build_items(config.seed))
        probed = list(probes.build_items(config.seed))
        for task, items in (
            *((task, sums) for task in ("addition", "addition_true")),
            *((task, probed) for task in probes.TASKS),
        ):
            fitting = lengths.items([item for item in items if item.task == task])
            evaluation[task] = _write_task(folder, task, fitting)
        for survey, survey_questions in questions.items():
            task = f"surveys/{survey}"
            pairs = surveys.build_items(
                survey, survey_questions, config.num_survey_items, config.seed
            )
            notes += _shortage(f"{task} questions", config.num_survey_items, len(pairs) // 2)
            evaluation[task] = _write_task(folder, task, lengths.items(pairs))
        for own_set in own_sets:
            notes += own_set.notes
            fitting = lengths.items(own_set.items)
            evaluation[own_set.name] = _write_task(folder, own_set.name, fitting)
        summary["evaluation"] = evaluation
        summary["too_long"] = [dataclasses.asdict(entry) for entry in lengths.summary()]
        summary["bad_rows"] = [entry for counts in bad for entry in counts.summary()]
        held_out = rows.counts["validation"] + rows.counts["also_in_train"]
        summary["notes"] = [
            *notes,
            *_shortage("instruction rows", config.num_instructions, rows.counts["train"]),
            *_shortage("instruction validation rows", config.num_validation, held_out),
            *lengths.in_words(),
            *filter(None, (counts.note() for counts in bad)),
            *(
                f"{task}: no held-out item is left, so nothing is measured on it"
                for task, count in evaluation.items()
                if not count
            ),
        ]
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
    with columns.readable(path), path.open("rb") as stream, pq.ParquetFile(stream) as file:
        batches = file.iter_batches(batch_size=max(count, 1))
        rows = [row for batch in itertools.islice(batches, 1) for row in batch.to_pylist()][:count]
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
    config: DataConfig,
    sources: Sequence[Source],
    folder: Path,
    progress: Progress,
    lengths: Lengths,
    bad: list[BadRows],
) -> tuple[dict[str, Any], list[str]]:
    """Writes training and held-out claims; returns their part of the summary, and its notes."""
    train = [load_source(source, config, "train") for source in sources]
    validation = [load_source(source, config, "validation") for source in sources]
    bad += [texts.bad for texts in train]
    bad += [texts.bad for texts in validation if not texts.held_out_from_train]
    validation, leaked = _without_train_texts(train, validation)
    chosen = intervention.sample(
        [texts.hashes for texts in train], config.num_examples, config.sampling, config.seed
    )
    batches = intervention.claimed_batches(train, chosen, config.seed, config.claim_mode)
    taken: Counter[str] = Counter()

    def training_rows() -> Iterator[pa.Table]:
        for batch in batches:
            rows = intervention.build_rows(batch, config.seed, opinions=config.opinions)
            rows = lengths.claims(rows)
            taken.update(rows["dataset"].to_pylist())
            yield rows

    balance = _write_rows(folder / INTERVENTION, training_rows(), progress, len(chosen[0]))
    if not balance["rows"] and len(chosen[0]):
        raise UserError(
            f"none of the {len(chosen[0]):,} claims can be scored: {lengths.in_words()[0]}; choose"
            " other data sets"
        )
    # A measure over all data sets should not be mostly the largest: validation is balanced. Its
    # users have opinions, whatever those of the training rows do, so that runs can be compared.
    held_out = intervention.sample(
        [texts.hashes for texts in validation], config.num_validation, "balanced", config.seed
    )
    claimed = list(
        intervention.claimed_batches(validation, held_out, config.seed, config.claim_mode)
    )
    items = [item for batch in claimed for item in intervention.build_items(batch, config.seed)]
    asked = lengths.items(items)
    kept = pa.array(_examples_of(asked), pa.string())
    measured: Counter[str] = Counter()

    def validation_rows() -> Iterator[pa.Table]:
        for batch in claimed:
            rows = intervention.build_rows(batch, config.seed)
            rows = rows.filter(pc.is_in(rows["example_id"], kept))
            measured.update(rows["dataset"].to_pylist())
            yield rows

    validation_balance = _write_rows(
        folder / INTERVENTION_VALIDATION, validation_rows(), lambda done, total: None, 0
    )
    validation_balance["items"] = _write_task(folder, "intervention", asked)
    notes = [
        *_shortage("intervention rows", config.num_examples, len(chosen[0])),
        *_shortage("intervention validation rows", config.num_validation, len(held_out[0])),
    ]
    for texts in train:
        if texts.source.described_in is not None:  # the miniature's vocabulary reads the 17
            notes += lengths.spelling(texts)
    data_sets = {}
    for index, source in enumerate(sources):
        name = source.name
        own_split = not train[index].held_out_from_train
        data_sets[name] = {
            "train": train[index].counts | {"taken": taken[name]},
            "validation": validation[index].counts
            | {"also_in_train": leaked[index], "taken": measured[name]},
            "validation_split": _validation_split(source) if own_split else "held out from train",
        }
        if not own_split:
            notes.append(f"{name}: no validation split here; one train text in 20 is held out")
        if not len(validation[index]):
            notes.append(
                f"{name}: no held-out row is left, since all {leaked[index]:,} occur in train too;"
                " so no claim on it is measured"
            )
    summary = {
        "data_sets": data_sets,
        "intervention": balance,
        "intervention_validation": validation_balance,
    }
    return summary, notes


def _validation_split(source: Source) -> str | None:
    """The split, or the files, that held-out rows come from."""
    rows = source.rows
    if isinstance(rows, FileRows):
        return ", ".join(path.name for path in rows.validation)
    return rows.validation


def _examples_of(items: Iterable[Item]) -> list[str]:
    """The ids of the rows that items ask about, which end their pairs' ids."""
    return list(dict.fromkeys(item.pair_id.rpartition("/")[2] for item in items))


def _without_train_texts(
    train: list[Texts], validation: list[Texts]
) -> tuple[list[Texts], list[int]]:
    """Drops held-out rows whose texts occur in the train split of any data set.

    Texts that differ in case, spacing or punctuation alone are the same text here.

    Returns:
      The data sets' remaining rows, and how many rows each lost.
    """
    joined = [normalised.keys(texts.columns) for texts in validation]
    held_out = pa.concat_arrays(joined)
    seen = [
        pc.filter(rows, pc.is_in(rows, held_out))
        for rows in (normalised.keys(texts.columns) for texts in train)
    ]
    known = pa.concat_arrays(seen)
    rest, leaked = [], []
    for texts, contents in zip(validation, joined, strict=True):
        fresh = pc.invert(pc.is_in(contents, known)).to_numpy(zero_copy_only=False)
        rest.append(texts.select(np.flatnonzero(fresh)))
        leaked.append(int((~fresh).sum()))
    return rest, leaked


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


def _write_task(folder: Path, task: str, items: Sequence[Item]) -> int:
    write_items(evaluation_file(folder, task), items)
    return len(items)


def _shortage(what: str, asked: int, there: int) -> list[str]:
    """A note where there was less than asked for."""
    if there >= asked:
        return []
    return [f"{what}: {asked:,} asked for, all {there:,} that there are were taken"]


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
