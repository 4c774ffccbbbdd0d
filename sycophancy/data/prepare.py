"""Prepares the data of a run: claims, instructions and held-out items, as parquet files."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sycophancy.config.schema import DataConfig
from sycophancy.data import (
    addition,
    held_out,
    instructions,
    intervention_files,
    probes,
    prompts,
    surveys,
)
from sycophancy.data.data_set_file import needs_claims, selected_sources
from sycophancy.data.intervention_files import Progress, examples_of, shortage
from sycophancy.data.lengths import Lengths, Limits
from sycophancy.data.public_sets.load import load_public_sets
from sycophancy.data.question_draws import draw_questions
from sycophancy.data.survey_files import load_surveys
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, write_items
from sycophancy.evaluation.own_sets import read_own_sets
from sycophancy.system.paths import is_address

INTERVENTION = intervention_files.TRAIN
INTERVENTION_VALIDATION = intervention_files.VALIDATION
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
    """Writes everything that a run trains on and is measured with, or nothing if a fault occurs.

    The files are intervention rows and instruction rows, for training and for validation;
    `evaluation/<task>.parquet` (items; `/` in a task's name becomes `_`); and `summary.json`. Rows
    that cannot be scored are left out. Rows that are too long for training are written and
    counted, because the SeqIO tasks leave them out.

    Args:
      config: where the data come from, and how many rows to write.
      out: the folder to write; made if it does not exist. May be a bucket's (an `etils` path).
      progress: called with the claims written so far and in all.
      limits: what the model can take; if None, nothing is too long.

    Returns:
      The summary: per data set the rows read, left out and taken; the balance of the claims; of a
      decoder-only model, `training_example`, the first claim with its tokens and what CHAT was;
      `too_long` (see `lengths.LeftOut`) and `bad_rows` (see `BadRows.summary`); and notes, which
      are sentences on these and on shortages.

    Raises:
      UserError: the input cannot be used (see `sources`, `surveys` and `instructions`), no claim
        can be scored, or `out` cannot be written.
    """
    sources = selected_sources(config) if needs_claims(config) else ()
    lengths = Lengths(limits)
    lengths.check_choices(prompts.LETTERS)
    own_sets = read_own_sets(config.evaluations)
    with _whole_or_nothing(out) as folder:

        def write_task(task: str, items: Sequence[Item]) -> int:
            if config.max_questions is not None:
                items = draw_questions(items, config.max_questions, config.seed, "limit")
            write_items(evaluation_file(folder, task), items)
            return len(items)

        rows = instructions.load_instructions(config)  # fails early where input is malformed
        bad = [rows.bad]
        questions = load_surveys(config, bad)
        public_sets = load_public_sets(config, bad)
        claims = intervention_files.write(
            config, sources, folder, progress or (lambda done, total: None), lengths
        )
        bad += claims.bad
        notes = claims.notes
        lengths.instructions(rows.train)
        instruction_items = lengths.items(list(instructions.build_items(rows.validation)))
        kept = pc.is_in(
            rows.validation["example_id"], pa.array(examples_of(instruction_items), pa.string())
        )
        pq.write_table(rows.train, folder / INSTRUCTIONS)
        pq.write_table(rows.validation.filter(kept), folder / INSTRUCTIONS_VALIDATION)
        summary = claims.summary
        summary["instructions"] = rows.counts | {"validation": len(instruction_items)}
        evaluation = {
            task: write_task(task, items)
            for task, items, wanted in (
                ("intervention", claims.items, config.num_validation),
                ("instruction", instruction_items, rows.held_out),
            )
            if wanted
        }
        sums = list(addition.build_items(config.seed))
        probe_items = list(probes.build_items(config.seed))
        for task, items in (
            *((task, sums) for task in ("addition", "addition_true")),
            *((task, probe_items) for task in probes.TASKS),
        ):
            fitting = lengths.items([item for item in items if item.task == task])
            evaluation[task] = write_task(task, fitting)
        for survey, survey_questions in questions.items():
            task = f"surveys/{survey}"
            pairs = surveys.build_items(
                survey, survey_questions, config.num_survey_items, config.seed
            )
            notes += shortage(f"{task} questions", config.num_survey_items, len(pairs) // 2)
            evaluation[task] = write_task(task, lengths.items(pairs))
        if config.held_out_sets:
            number = held_out.whole_blocks(config.num_held_out_items)
            asked = held_out.build_items(config.held_out_sets, number, config.seed)
            questions_of = Counter(item.task for item in asked if item.condition == "neutral")
            for task, count in questions_of.items():
                notes += shortage(f"{task} questions", number, count)
            evaluation[held_out.NAME] = write_task(held_out.NAME, lengths.items(asked))
        for task, items in public_sets.items():
            evaluation[task] = write_task(task, lengths.items(items))
        for own_set in own_sets:
            notes += own_set.notes
            fitting = lengths.items(own_set.items)
            evaluation[own_set.name] = write_task(own_set.name, fitting)
        summary["evaluation"] = evaluation
        if limits is not None and limits.encode is not None:
            summary["training_example"] = _training_example(folder / INTERVENTION, limits)
        summary["too_long"] = [dataclasses.asdict(entry) for entry in lengths.summary()]
        summary["bad_rows"] = [entry for counts in bad for entry in counts.summary()]
        found = rows.counts["validation"] + rows.counts["also_in_train"]
        summary["notes"] = [
            *notes,
            *shortage("instruction rows", config.num_instructions, rows.counts["train"]),
            *shortage("instruction validation rows", rows.held_out, found),
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


def _training_example(claims: Path, limits: Limits) -> dict[str, Any] | None:
    """The first claim as the model is trained on it, for the report; None if there is none."""
    with pq.ParquetFile(claims) as file:
        batches = file.iter_batches(batch_size=1, columns=["inputs", "targets"])
        rows: list[dict[str, str]] = next((batch.to_pylist() for batch in batches), [])
    if not rows or limits.encode is None:
        return None
    (row,) = limits.encode([rows[0]["inputs"]], [rows[0]["targets"]])
    return {"chat": limits.chat, **row._asdict()}


def evaluation_file(folder: Path, task: str) -> Path:
    """The file of a task's items: `evaluation/surveys_nlp.parquet` for the task `surveys/nlp`."""
    return folder / EVALUATION / f"{task.replace('/', '_')}.parquet"


@contextmanager
def _whole_or_nothing(out: Path) -> Iterator[Path]:
    """A local folder whose files move to `out`, which may be a bucket, if nothing fails."""
    existed = out.exists()
    unfinished = Path(tempfile.mkdtemp()) if is_address(out) else out / _UNFINISHED
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / EVALUATION).mkdir(parents=True)
        yield unfinished
        (out / EVALUATION).mkdir(parents=True, exist_ok=True)
        for path in sorted(unfinished.rglob("*")):
            target = out / path.relative_to(unfinished)
            if path.is_file() and is_address(out):
                target.write_bytes(path.read_bytes())
            elif path.is_file():
                path.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not existed and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
