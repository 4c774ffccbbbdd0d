"""Loads a data set: cleans its texts, maps its labels by name and leaves out bad rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sycophancy.config.schema import DataConfig
from sycophancy.data import claims, draws
from sycophancy.data.bad_rows import NOT_UTF8, BadRow, BadRows, shortened
from sycophancy.data.catalog import Source, folded
from sycophancy.data.columns import is_text
from sycophancy.data.columns import texts as read_texts
from sycophancy.data.origins import (
    Split,
    published_split,
    publishes_validation,
    read_published,
)
from sycophancy.data.published import Published
from sycophancy.errors import UserError

HELD_OUT_SHARE = 20  # without a validation split, one train text in 20 is held out
_BATCH = 65_536  # rows hashed at a time
_UNLABELLED = -1


@dataclasses.dataclass(frozen=True)
class Texts:
    """The usable rows of one split of one data set.

    Attributes:
      source: the data set.
      columns: its text fields in the protocol's order, cleaned; each of shape (rows,).
      labels: indices into `source.label_names`, shape (rows,).
      hashes: content hashes of data set and texts, shape (rows, 2); no two are equal.
      counts: rows `read`, and of these `bad` (see `bad`), `unlabelled`, `empty` (a text is missing
        or blank), `conflicting` (equal texts with different labels; all are dropped), `duplicate`
        (repeats a text with the same label), `held_out` (kept for the other split) and `kept`.
      held_out_from_train: whether the origin has no validation split, so that this module made one
        from train.
      bad: the rows that cannot be used, by reason.
    """

    source: Source
    columns: tuple[pa.Array, ...]
    labels: NDArray[np.int64]
    hashes: draws.Hashes
    counts: dict[str, int]
    held_out_from_train: bool = False
    bad: BadRows = dataclasses.field(default_factory=lambda: BadRows("rows", "drop"))

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: NDArray[np.int64]) -> Texts:
        """The rows of the given indices, in the given order."""
        indices = pa.array(rows)
        return dataclasses.replace(
            self,
            columns=tuple(column.take(indices) for column in self.columns),
            labels=self.labels[rows],
            hashes=self.hashes[rows],
        )


def load_source(source: Source, config: DataConfig, split: Split) -> Texts:
    """Loads a split of a data set.

    Where the origin has no validation split, one train text in 20 is held out by its content hash,
    independently of the seed, and never occurs in train.

    Args:
      source: the data set.
      config: names the origin.
      split: `train` or `validation`.

    Raises:
      UserError: file or hub out of reach; a column is missing or has another
        type; a label is out of range or has no name, or two names are the same but for their
        spelling; too many rows are bad; no usable row is left.
    """
    held_out = not publishes_validation(source, config)
    read_split: Split = "train" if held_out else split
    bad = BadRows(f"{source.name} {published_split(source, read_split)}", config.on_bad_row)
    published = read_published(source, config, read_split, bad)
    texts = _usable(source, published, bad)
    if held_out and len(texts) > 1:
        texts = _hold_out(texts, split)
    if len(texts) == 0:
        raise UserError(
            f"data set {source.name!r}: {published[0].where} has no usable row for {split}"
            f" ({texts.counts['read']} read, {texts.counts['unlabelled']} without a label"
            f"{bad.in_words()}); leave the data set out or correct the file"
        )
    return texts


def _usable(source: Source, published: Sequence[Published], bad: BadRows) -> Texts:
    parts = [_read_part(source, part, bad) for part in published]
    bad.check()
    columns = [pa.concat_arrays([part[0][index] for part in parts]) for index in _fields(source)]
    labels = np.concatenate([part[1] for part in parts])
    good = np.concatenate([part[2] for part in parts])
    labelled = good & (labels != _UNLABELLED)
    complete = good.copy()
    for column in columns:
        filled = pc.fill_null(pc.greater(pc.binary_length(column), 0), False)
        complete &= filled.to_numpy(zero_copy_only=False)
    counts = {
        "read": bad.read,
        "bad": bad.dropped,
        "unlabelled": int((good & ~labelled).sum()),
        "empty": int((labelled & ~complete).sum()),
    }
    hashes = hash_rows(source.name, columns)
    rows = np.flatnonzero(labelled & complete)
    rows, counts["conflicting"], counts["duplicate"] = _distinct(rows, hashes, labels)
    counts |= {"held_out": 0, "kept": len(rows)}
    whole = Texts(source, tuple(columns), labels, hashes, counts, bad=bad)
    return whole if len(rows) == len(labels) else whole.select(rows)


def _fields(source: Source) -> range:
    return range(len(source.texts))


def _read_part(
    source: Source, published: Published, bad: BadRows
) -> tuple[list[pa.Array], NDArray[np.int64], NDArray[np.bool_]]:
    """The cleaned text columns of a file, and for each row its label and whether it is good."""
    labels, faults = _map_labels(source, published)
    columns = []
    for name in source.texts:
        what = f"data set {source.name!r}: column {name!r} of {published.where}"
        column, valid = read_texts(published.table[name], what)
        faults.append((f"column {name!r} is {NOT_UTF8}", ~valid))
        columns.append(claims.clean(column))
    good = np.ones(len(labels), np.bool_)
    for reason, faulty in faults:
        rows = np.flatnonzero(faulty & good)
        if len(rows):
            bad.drop(BadRow(f"row {rows[0]} (from 0) of {published.where}", reason), len(rows))
            good[rows] = False
    return columns, labels, good


Faults = list[tuple[str, NDArray[np.bool_]]]  # a reason, and the rows that it holds for


def _map_labels(source: Source, published: Published) -> tuple[NDArray[np.int64], Faults]:
    """The protocol's label index of each row, by name; -1 for a row without a label."""
    column = published.table[published.label]
    what = f"data set {source.name!r}: column {published.label!r} of {published.where}"
    order = {folded(name): index for index, (name, _) in enumerate(source.labels)}
    faults: Faults = []
    if pa.types.is_null(column.type):  # no row at all, or none with a label
        return np.full(len(column), _UNLABELLED, np.int64), faults
    if is_text(column.type):
        named, valid = read_texts(column, what)
        faults.append((f"column {published.label!r} is {NOT_UTF8}", ~valid))
        encoded = pc.dictionary_encode(named)
        names = encoded.dictionary.to_pylist()
        numbers = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy()
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        if published.label_names is None:
            raise UserError(
                f"{what} holds numbers without their names; keep the names (ClassLabel, as"
                f" `datasets` writes them) or write the names {', '.join(order)} instead of numbers"
            )
        names = list(published.label_names)
        numbers, whole = _whole_numbers(column)
        faults.append((f"column {published.label!r} is not a whole number", ~whole))
    else:
        raise UserError(f"{what} holds {column.type}, expected label numbers or names")
    _check_names(source, published, names)
    _check_range(source, published, numbers, len(names))
    indices = [order.get(folded(name), _UNLABELLED) for name in names]
    table = np.array([*indices, _UNLABELLED], np.int64)
    return table[numbers], faults


def _whole_numbers(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Label numbers, -1 for none; and whether each is a whole number or missing."""
    missing = column.is_null().to_numpy()
    numbers = pc.fill_null(column.cast(pa.float64(), safe=False), _UNLABELLED).to_numpy()
    whole = np.isfinite(numbers) & (numbers == np.trunc(numbers))
    limit = np.iinfo(np.int32).max  # beyond any label's number, and exact as a float
    bounded = np.where(whole, numbers, _UNLABELLED).clip(-limit, limit).astype(np.int64)
    return np.where(missing, _UNLABELLED, bounded), whole


def _check_names(source: Source, published: Published, names: Sequence[str]) -> None:
    known = {folded(name) for name, _ in source.labels}
    seen: dict[str, str] = {}
    for name in names:
        key = folded(name)
        if key not in known and source.is_unlabelled(name):
            continue
        if key not in known:
            remedy = f"; name it in {source.described_in}" if source.described_in else ""
            raise UserError(
                f"data set {source.name!r}: {published.where} has a label {shortened(repr(name))},"
                f" expected {', '.join(name for name, _ in source.labels)}{remedy}"
            )
        if key in seen and source.described_in is None:
            raise UserError(
                f"data set {source.name!r}: {published.where} has two labels {seen[key]!r} and"
                f" {name!r} that differ in spelling alone; give each label one name"
            )
        seen[key] = name


def _check_range(
    source: Source, published: Published, numbers: NDArray[np.int64], count: int
) -> None:
    wrong = np.flatnonzero((numbers < _UNLABELLED) | (numbers >= count))
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"data set {source.name!r}: row {row} (from 0) of {published.where} has"
            f" label {published.table[published.label][row]}, expected 0 to {count - 1} or -1 for"
            " none; correct the file"
        )


def hash_rows(name: str, columns: Sequence[pa.Array]) -> draws.Hashes:
    """Content hashes of a data set's name and each row's texts, shape (rows, 2)."""
    parts = []
    for start in range(0, len(columns[0]), _BATCH):  # so that memory stays bounded
        fields = [pc.fill_null(column.slice(start, _BATCH), "") for column in columns]
        joined = pc.binary_join_element_wise(name, *fields, "\x1f")
        parts.append(draws.content_hashes(joined.to_pylist()))
    return np.concatenate(parts) if parts else draws.content_hashes([])


def _distinct(
    rows: NDArray[np.int64], hashes: draws.Hashes, labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int, int]:
    """Keeps the first row of each text whose rows all have the same label.

    Returns:
      The kept rows in order; the number of rows dropped because rows of the same text have
      different labels; and the number dropped because they repeat an earlier row.
    """
    if len(rows) == 0:
        return rows, 0, 0
    order = rows[np.lexsort((rows, hashes[rows, 1], hashes[rows, 0]))]
    starts = np.flatnonzero(
        np.concatenate([[True], (hashes[order[1:]] != hashes[order[:-1]]).any(axis=1)])
    )
    sizes = np.diff(np.append(starts, len(order)))
    agree = np.minimum.reduceat(labels[order], starts) == np.maximum.reduceat(labels[order], starts)
    kept = np.sort(order[starts[agree]])
    return kept, int(sizes[~agree].sum()), int((sizes[agree] - 1).sum())


def _hold_out(texts: Texts, split: str) -> Texts:
    held_out = draws.below(texts.hashes, 0, "held out", HELD_OUT_SHARE) == 0
    if held_out.all() or not held_out.any():  # a file of few rows: hold out one text
        held_out = np.arange(len(texts)) == draws.words(texts.hashes, 0, "held out").argmin()
    chosen = ~held_out if split == "train" else held_out
    part = texts.select(np.flatnonzero(chosen))
    counts = texts.counts | {"held_out": int((~chosen).sum()), "kept": len(part)}
    return dataclasses.replace(part, counts=counts, held_out_from_train=True)
