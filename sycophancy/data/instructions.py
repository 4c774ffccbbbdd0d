"""Instruction rows as in Flan: inputs, targets and the name of a task.

One row in ten is held out for validation, by a hash of its inputs, which depends neither on the
seed nor on the order of the file. So no validation input occurs in training.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from sycophancy.config.schema import DataConfig
from sycophancy.data import draws, hub, normalised
from sycophancy.data.bad_rows import BadRow, BadRows
from sycophancy.data.origins import split_files
from sycophancy.data.records import Record, is_text, numbered, read_records, table_rows, with_places
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item

HUB_ID = "Muennighoff/flan"
REVISION = "049702ca5ffc5b3c62bf226aac67ba1493e8d548"
HELD_OUT_SHARE = 10  # one input in 10 is held out for validation

SCHEMA = pa.schema([(name, pa.string()) for name in ("example_id", "inputs", "targets", "task")])

_REMEDY = "check the network, or pass rows of your own with --instructions FILE"
_FIELDS = ("inputs", "targets")
_BATCH = 4_096
_HUB_BATCH = 64  # rows of a task at a time

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Instructions:
    """Rows by `SCHEMA`.

    Attributes:
      train, validation: the splits.
      counts: rows `read`, and of these `bad`, `duplicate`, `also_in_train` (held-out rows whose
        inputs occur in train, apart from case, spacing and punctuation), `train` and `validation`.
      bad: the bad rows, by reason.
      held_out: the number of rows for validation that were asked for.
    """

    train: pa.Table
    validation: pa.Table
    counts: dict[str, int]
    bad: BadRows
    held_out: int


@dataclasses.dataclass(frozen=True, order=True)
class _Row:
    """A row, which sorts by its draw."""

    rank: int
    example_id: str
    inputs: str = dataclasses.field(compare=False)
    targets: str = dataclasses.field(compare=False)
    task: str = dataclasses.field(compare=False)


class _Sample:
    """Up to `size` distinct rows: those with the smallest draws if `whole`, else the first ones."""

    def __init__(self, size: int, whole: bool) -> None:
        self.size = size
        self._whole = whole
        self._rows: dict[str, _Row] = {}
        self._largest_first: list[tuple[int, str]] = []

    def offer(self, row: _Row) -> bool:
        """Takes the row or ignores it; False if the sample has it already."""
        if row.example_id in self._rows:
            return False
        entry = (-row.rank, row.example_id)
        if not self.is_full():
            heapq.heappush(self._largest_first, entry)
            self._rows[row.example_id] = row
        elif self._whole and self.size and entry > self._largest_first[0]:
            _, dropped = heapq.heapreplace(self._largest_first, entry)
            del self._rows[dropped]
            self._rows[row.example_id] = row
        return True

    def is_full(self) -> bool:
        return len(self._rows) >= self.size

    def rows(self) -> list[_Row]:
        """The rows in the order of their draws."""
        return sorted(self._rows.values())


def load_instructions(config: DataConfig) -> Instructions:
    """Loads the instruction rows of a run, or all rows if there are fewer; none without training.

    A file is read to its end, in constant memory, and sampled evenly, because files are often
    sorted by task. Rows of the hub are streamed from all tasks in turn until they are enough.

    Raises:
      UserError: the file is missing or unreadable, too many of its rows are bad, or the hub cannot
        be reached; the message names file and line.
    """
    place = config.instructions or (config.mirror if config.origin == "mirror" else config.origin)
    bad = BadRows("instructions", config.on_bad_row, str(place))
    if not config.num_instructions:
        return _result(_Sample(0, whole=True), _Sample(0, whole=True), 0, bad)
    if config.instructions is not None:
        return _collect(_from_file(Path(config.instructions), bad), config, bad, whole=True)
    if config.origin == "mirror":
        rows = itertools.chain.from_iterable(_from_file(path, bad) for path in mirror_files(config))
        return _collect(rows, config, bad, whole=True)
    if config.origin == "hub":
        return _collect(_from_hub(bad), config, bad, whole=False)
    return _generate(config, bad)


def build_items(validation: pa.Table) -> Iterator[Item]:
    """An item for each row; its target is the one choice, correct if greedy decoding writes it."""
    for row in validation.to_pylist():
        name = f"instruction/{row['example_id']}"
        yield Item(
            item_id=f"{name}/neutral",
            task="instruction",
            condition="neutral",
            pair_id=name,
            inputs=row["inputs"],
            choices=(row["targets"],),
            answer=0,
        )


def _collect(
    records: Iterable[Record], config: DataConfig, bad: BadRows, *, whole: bool
) -> Instructions:
    """Samples both splits: the smallest draws of all records if `whole`, else the first ones."""
    train = _Sample(config.num_instructions, whole)
    validation = _Sample(config.num_validation, whole)
    duplicates = 0
    for batch in _batches(records):
        for is_held_out, row in _rows(batch, config.seed, bad):
            duplicates += not (validation if is_held_out else train).offer(row)
        if not whole:
            bad.check()  # a stream may have no end
            if train.is_full() and validation.is_full():
                break
    return _result(train, validation, duplicates, bad)


def _generate(config: DataConfig, bad: BadRows) -> Instructions:
    """Samples the miniature's own splits; drops validation rows whose inputs occur in train."""
    from sycophancy.data import miniature

    train = _Sample(config.num_instructions, whole=False)
    validation = _Sample(config.num_validation, whole=False)
    duplicates = 0
    trained: set[str] = set()
    splits: tuple[tuple[Literal["train", "validation"], _Sample], ...] = (
        ("train", train),
        ("validation", validation),
    )
    for split, sample in splits:
        rows = miniature.instructions(split, sample.size)
        for batch in _batches(numbered(rows, f"miniature {split}", bad)):
            for _, row in _rows(batch, config.seed, bad):
                duplicates += row.inputs in trained or not sample.offer(row)
        trained = {row.inputs for row in train.rows()}
    return _result(train, validation, duplicates, bad)


def _result(train: _Sample, validation: _Sample, duplicates: int, bad: BadRows) -> Instructions:
    bad.check()
    for split, sample in (("train", train), ("validation", validation)):
        if not sample.rows() and sample.size:
            raise UserError(
                f"no instruction row for {split} among the {bad.read:,} read from {bad.place}"
                f"{bad.in_words()}; give more rows"
            )
    trained, held_out = _table(train.rows()), _table(validation.rows())
    known = normalised.keys([trained["inputs"].combine_chunks()])
    fresh = pc.invert(pc.is_in(normalised.keys([held_out["inputs"].combine_chunks()]), known))
    measured = held_out.filter(fresh)
    counts = {
        "read": bad.read,
        "bad": bad.dropped,
        "duplicate": duplicates,
        "also_in_train": len(held_out) - len(measured),
        "train": len(trained),
        "validation": len(measured),
    }
    return Instructions(trained, measured, counts, bad, validation.size)


def mirror_files(config: DataConfig) -> list[Path]:
    """The files of instruction rows in a mirror.

    Raises:
      UserError: the mirror has no such file, or a shard is missing.
    """
    if config.mirror is None:
        raise UserError("origin 'mirror' needs a folder; pass --data-mirror DIR")
    folder = Path(config.mirror) / HUB_ID.replace("/", "__")
    for place in ("default", "data", "."):
        if paths := split_files(folder / place, "train", ("parquet", "jsonl")):
            return paths
    raise UserError(
        f"{folder / 'default'} holds no train.parquet or train.jsonl; pass a file with"
        " --instructions FILE"
    )


def _from_file(path: Path, bad: BadRows) -> Iterator[Record]:
    return read_records(path, _FIELDS, ("task",), bad)


def _from_hub(bad: BadRows) -> Iterator[Record]:
    """Streams the hub's files, each of which holds one task: a row of each file, in turn."""
    what = f"instruction rows of {HUB_ID}"
    stream = hub.load_split(
        what, HUB_ID, split="train", revision=REVISION, streaming=True, remedy=_REMEDY
    )
    shards = stream.num_shards
    tasks = [_shard_rows(stream.shard(shards, index), what) for index in range(shards)]
    rows = hub.guard_stream(what, _in_turn(tasks), remedy=_REMEDY)
    yield from with_places(rows, HUB_ID, bad)


def _in_turn(iterators: list[Iterator[T]]) -> Iterator[T]:
    """One element of each iterator in turn, until all are exhausted."""
    left = list(iterators)
    while left:
        for iterator in tuple(left):
            try:
                yield next(iterator)
            except StopIteration:
                left.remove(iterator)


def _shard_rows(shard: Any, what: str) -> Iterator[dict[str, str | None] | None]:
    """A task's rows, as Arrow tables; as dictionaries, a row not in UTF-8 would end them."""
    for table in shard.with_format("arrow").iter(batch_size=_HUB_BATCH):
        yield from table_rows(table, _FIELDS, ("task",), what)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _rows(batch: list[Record], seed: int, bad: BadRows) -> Iterator[tuple[bool, _Row]]:
    """Rows made of records, with whether each is held out; counts records that cannot be used."""
    fields = []
    for record, where in batch:
        try:
            fields.append(_fields(record, where))
        except BadRow as error:
            bad.drop(error)
    hashes = draws.content_hashes("\x1f".join(field) for field in fields)
    held_out = draws.below(
        draws.content_hashes(inputs for inputs, _, _ in fields), 0, "held out", HELD_OUT_SHARE
    )
    ranks = draws.words(hashes, seed, "instruction")
    ids = draws.hexadecimal(hashes)
    for row, (inputs, targets, task) in enumerate(fields):
        yield bool(held_out[row] == 0), _Row(int(ranks[row]), ids[row], inputs, targets, task)


def _fields(row: dict[str, Any], where: str) -> tuple[str, str, str]:
    for name in _FIELDS:
        if row.get(name) is None:
            raise BadRow(where, f"field {name!r} is missing")
        if not is_text(row[name]):
            raise BadRow(where, f"field {name!r} is not text", repr(row[name]))
        if not row[name].strip():
            raise BadRow(where, f"field {name!r} is empty")
    task = row.get("task") or "instruction"
    if not is_text(task) and not isinstance(task, int):
        raise BadRow(where, "field 'task' is not text", repr(task))
    return row["inputs"], row["targets"], str(task)


def _table(rows: list[_Row]) -> pa.Table:
    columns = [pa.array([getattr(row, name) for row in rows], pa.string()) for name in SCHEMA.names]
    return pa.table(columns, schema=SCHEMA)
