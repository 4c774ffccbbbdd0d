"""Writes the claims of a run: those to train on, and held-out ones with the items that ask them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sycophancy.config.schema import DataConfig
from sycophancy.data import intervention, normalised
from sycophancy.data.bad_rows import BadRows
from sycophancy.data.catalog import FileRows, Source
from sycophancy.data.lengths import Lengths
from sycophancy.data.sources import Texts, load_source
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item

Progress = Callable[[int, int], None]  # claims written so far, and in all
Sample = tuple[NDArray[np.int64], NDArray[np.int64]]  # index of the pool, and of the row in it

TRAIN = "intervention.parquet"
VALIDATION = "intervention_validation.parquet"


@dataclasses.dataclass(frozen=True)
class Written:
    """The outcome of `write`.

    Attributes:
      summary: the entries `data_sets`, `intervention` and `intervention_validation` of the stage's
        summary.
      items: the held-out claims as items.
      bad: counts of the rows that could not be used, by source.
      notes: sentences on shortages and on data sets without held-out rows.
    """

    summary: dict[str, Any]
    items: list[Item]
    bad: list[BadRows]
    notes: list[str]


def write(
    config: DataConfig,
    sources: Sequence[Source],
    folder: Path,
    progress: Progress,
    lengths: Lengths,
) -> Written:
    """Loads data sets, samples claims and writes both files of claims.

    Args:
      config: how many claims, and how to sample and word them.
      sources: the data sets; without any, nothing is written.
      folder: where to write.
      progress: called with the claims written so far and in all.
      lengths: counts the claims that are too long, and leaves out those that cannot be scored.

    Raises:
      UserError: a data set cannot be loaded, or no claim can be scored.
    """
    if not sources:
        none: dict[str, Any] = {"data_sets": {}, "intervention": {"rows": 0}}
        return Written(none, [], [], [])
    train = [load_source(source, config, "train") for source in sources]
    validation = [load_source(source, config, "validation") for source in sources]
    bad = [texts.bad for texts in train]
    bad += [texts.bad for texts in validation if not texts.held_out_from_train]
    validation, in_train = _without_train_texts(train, validation)

    chosen = intervention.sample(
        [texts.hashes for texts in train], config.num_examples, config.sampling, config.seed
    )
    balance, taken = _write_train(config, train, chosen, folder / TRAIN, progress, lengths)

    # A measure over all data sets should not be mostly the largest: validation is balanced. Its
    # users have opinions even if those of the training rows have none, so that runs can be
    # compared.
    held_out = intervention.sample(
        [texts.hashes for texts in validation], config.num_validation, "balanced", config.seed
    )
    items, validation_balance, measured = _write_validation(
        config, validation, held_out, folder / VALIDATION, lengths
    )

    notes = [
        *shortage("intervention rows", config.num_examples, len(chosen[0])),
        *shortage("intervention validation rows", config.num_validation, len(held_out[0])),
    ]
    for texts in train:
        if texts.source.described_in is not None:
            notes += lengths.spelling(texts)
    data_sets = {}
    for index, source in enumerate(sources):
        data_sets[source.name] = {
            "train": train[index].counts | {"taken": taken[source.name]},
            "validation": validation[index].counts
            | {"also_in_train": in_train[index], "taken": measured[source.name]},
            "validation_split": _validation_split(train[index]),
        }
        if train[index].held_out_from_train:
            notes.append(f"{source.name}: no validation split; one train text in 20 is held out")
        if not len(validation[index]):
            notes.append(
                f"{source.name}: no held-out row is left, since all {in_train[index]:,} occur in"
                " train too; so no claim on it is measured"
            )
    summary = {
        "data_sets": data_sets,
        "intervention": balance,
        "intervention_validation": validation_balance,
    }
    return Written(summary, items, bad, notes)


def examples_of(items: Iterable[Item]) -> list[str]:
    """The ids of the rows that items ask about, which end their pairs' ids."""
    return list(dict.fromkeys(item.pair_id.rpartition("/")[2] for item in items))


def shortage(what: str, wanted: int, available: int) -> list[str]:
    """A note if there were fewer rows than wanted."""
    if available >= wanted:
        return []
    return [f"{what}: {wanted:,} wanted, but only {available:,} exist; all were taken"]


def _write_train(
    config: DataConfig,
    train: Sequence[Texts],
    chosen: Sample,
    path: Path,
    progress: Progress,
    lengths: Lengths,
) -> tuple[dict[str, Any], Counter[str]]:
    """Writes the claims to train on; returns their balance, and their number by data set."""
    taken: Counter[str] = Counter()

    def rows() -> Iterator[pa.Table]:
        for batch in intervention.claimed_batches(train, chosen, config.seed, config.claim_mode):
            table = intervention.build_rows(batch, config.seed, opinions=config.opinions)
            table = lengths.claims(table)
            taken.update(table["dataset"].to_pylist())
            yield table

    total = len(chosen[0])
    balance = _write_rows(path, rows(), progress, total)
    if not balance["rows"] and total:
        raise UserError(
            f"none of the {total:,} claims can be scored: {lengths.in_words()[0]}; choose"
            " other data sets"
        )
    return balance, taken


def _write_validation(
    config: DataConfig,
    validation: Sequence[Texts],
    chosen: Sample,
    path: Path,
    lengths: Lengths,
) -> tuple[list[Item], dict[str, Any], Counter[str]]:
    """Writes held-out claims; returns their items, balance, and number by data set."""
    batches = list(intervention.claimed_batches(validation, chosen, config.seed, config.claim_mode))
    items = [item for batch in batches for item in intervention.build_items(batch, config.seed)]
    items = lengths.items(items)
    kept = pa.array(examples_of(items), pa.string())
    measured: Counter[str] = Counter()

    def rows() -> Iterator[pa.Table]:
        for batch in batches:
            table = intervention.build_rows(batch, config.seed)
            table = table.filter(pc.is_in(table["example_id"], kept))
            measured.update(table["dataset"].to_pylist())
            yield table

    balance = _write_rows(path, rows(), lambda done, total: None, 0)
    return items, balance | {"items": len(items)}, measured


def _validation_split(train: Texts) -> str | None:
    """What held-out rows come from: a split of the hub, the user's files, or train."""
    rows = train.source.rows
    if train.held_out_from_train:
        return "held out from train"
    if isinstance(rows, FileRows):
        return ", ".join(path.name for path in rows.validation)
    return rows.validation


def _without_train_texts(
    train: Sequence[Texts], validation: Sequence[Texts]
) -> tuple[list[Texts], list[int]]:
    """Drops held-out rows whose texts occur in the train split of any data set.

    Texts that differ in case, spacing or punctuation alone are the same text here.

    Returns:
      The remaining rows of each data set, and how many rows each data set lost.
    """
    keys = [normalised.keys(texts.columns) for texts in validation]
    all_keys = pa.concat_arrays(keys)
    train_keys = (normalised.keys(texts.columns) for texts in train)
    known = pa.concat_arrays([pc.filter(rows, pc.is_in(rows, all_keys)) for rows in train_keys])
    remaining, lost = [], []
    for texts, own in zip(validation, keys, strict=True):
        is_new = pc.invert(pc.is_in(own, known)).to_numpy(zero_copy_only=False)
        remaining.append(texts.select(np.flatnonzero(is_new)))
        lost.append(int((~is_new).sum()))
    return remaining, lost


def _write_rows(
    path: Path, tables: Iterable[pa.Table], progress: Progress, total: int
) -> dict[str, Any]:
    """Writes each table as a row group of a parquet file, and counts the balance of the rows."""
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
