"""One loader for the 17 data sets: cleaned texts, labels mapped by name, bad rows counted out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sycophancy.config import DataConfig
from sycophancy.data import claims, draws
from sycophancy.data.catalog import SOURCES, Source, get_source, selected_names
from sycophancy.data.origins import Published, publishes_validation, read_published
from sycophancy.errors import UserError

__all__ = ["SOURCES", "Source", "Texts", "get_source", "load_source", "selected_names"]

HELD_OUT_SHARE = 20  # without a validation split, one train text in so many is held out
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
      counts: rows `read`, and of these `unlabelled`, `empty` (a text is missing or blank),
        `conflicting` (equal texts with different labels: all are dropped), `duplicate` (equal
        texts with equal label beyond the first), `held_out` (kept for the other split) and `kept`.
      held_out_from_train: whether the split was made here because the origin has no validation.
    """

    source: Source
    columns: tuple[pa.Array, ...]
    labels: NDArray[np.int64]
    hashes: draws.Hashes
    counts: dict[str, int]
    held_out_from_train: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: NDArray[np.int64]) -> Texts:
        """The given rows, in the given order."""
        indices = pa.array(rows)
        return dataclasses.replace(
            self,
            columns=tuple(column.take(indices) for column in self.columns),
            labels=self.labels[rows],
            hashes=self.hashes[rows],
        )


def load_source(name: str, config: DataConfig, split: str) -> Texts:
    """Loads a split of a data set.

    Where the origin has no validation split, one train text in 20 is held out by its content hash,
    independently of the seed, and never occurs in train.

    Args:
      name: a key of `SOURCES`.
      config: says from which origin.
      split: `train` or `validation`.

    Raises:
      UserError: unknown data set; file or hub out of reach; a column is missing or has another
        type; a label is out of range or has no name; no usable row is left.
    """
    source = get_source(name)
    held_out = not publishes_validation(source, config)
    published_split = "train" if split == "train" or held_out else source.validation
    published = read_published(source, config, published_split)
    texts = _usable(source, published)
    if held_out and len(texts) > 1:
        texts = _hold_out(texts, split)
    if len(texts) == 0:
        raise UserError(
            f"data set {name!r}: {published.where} has no usable row for {split}"
            f" ({texts.counts['read']} read, {texts.counts['unlabelled']} without a label);"
            " leave the data set out or mend the file"
        )
    return texts


def _usable(source: Source, published: Published) -> Texts:
    labels = _map_labels(source, published)
    columns = [_clean_column(source, published, name) for name in source.texts]
    counts = {"read": len(labels), "unlabelled": int((labels == _UNLABELLED).sum())}
    complete = np.ones(len(labels), np.bool_)
    for column in columns:
        filled = pc.fill_null(pc.greater(pc.binary_length(column), 0), False)
        complete &= filled.to_numpy(zero_copy_only=False)
    labelled = labels != _UNLABELLED
    counts["empty"] = int((labelled & ~complete).sum())
    hashes = _hash_rows(source, columns)
    rows = np.flatnonzero(labelled & complete)
    rows, counts["conflicting"], counts["duplicate"] = _distinct(rows, hashes, labels)
    counts |= {"held_out": 0, "kept": len(rows)}
    whole = Texts(source, tuple(columns), labels, hashes, counts)
    return whole if len(rows) == len(labels) else whole.select(rows)


def _clean_column(source: Source, published: Published, name: str) -> pa.Array:
    column = published.table[name]
    if not _is_text(column.type) and not pa.types.is_null(column.type):
        raise UserError(
            f"data set {source.name!r}: column {name!r} of {published.where} holds {column.type},"
            " expected text"
        )
    cleaned = claims.clean(column.cast(pa.string()))
    return cleaned.combine_chunks() if isinstance(cleaned, pa.ChunkedArray) else cleaned


def _map_labels(source: Source, published: Published) -> NDArray[np.int64]:
    """The protocol's label index a row, -1 without a label; by name, never by number."""
    column = published.table[published.label]
    order = {_fold(name): index for index, (name, _) in enumerate(source.labels)}
    if pa.types.is_null(column.type):  # no row at all, or none with a label
        return np.full(len(column), _UNLABELLED, np.int64)
    if _is_text(column.type):
        encoded = pc.dictionary_encode(column.combine_chunks())
        names = encoded.dictionary.to_pylist()
        numbers = pc.fill_null(encoded.indices.cast(pa.int64()), -1)
    elif pa.types.is_integer(column.type):
        if published.label_names is None:
            raise UserError(
                f"data set {source.name!r}: column {published.label!r} of {published.where} holds"
                " numbers without their names; keep the names (ClassLabel, as `datasets` writes"
                f" them) or write the names {', '.join(order)} instead of numbers"
            )
        names = list(published.label_names)
        numbers = pc.fill_null(column.cast(pa.int64()), -1)
    else:
        raise UserError(
            f"data set {source.name!r}: column {published.label!r} of {published.where} holds"
            f" {column.type}, expected label numbers or names"
        )
    for name in names:
        if _fold(name) not in order:
            raise UserError(
                f"data set {source.name!r}: {published.where} has a label {name!r}, expected"
                f" {', '.join(name for name, _ in source.labels)}"
            )
    given = np.asarray(numbers.to_numpy(), np.int64)
    _check_range(source, published, given, len(names))
    table = np.array([order[_fold(name)] for name in names] + [_UNLABELLED], np.int64)
    return table[given]


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _check_range(
    source: Source, published: Published, given: NDArray[np.int64], count: int
) -> None:
    wrong = np.flatnonzero((given < _UNLABELLED) | (given >= count))
    if len(wrong):
        raise UserError(
            f"data set {source.name!r}: row {wrong[0]} (from 0) of {published.where} has"
            f" label {given[wrong[0]]}, expected 0 to {count - 1} or -1 for none; mend the file"
        )


def _fold(name: str) -> str:
    return name.strip().casefold().replace("-", "_").replace(" ", "_")


def _hash_rows(source: Source, columns: list[pa.Array]) -> draws.Hashes:
    """Hashes data set and texts; a batch at a time, so that memory stays bounded."""
    parts = []
    for start in range(0, len(columns[0]), _BATCH):
        fields = [pc.fill_null(column.slice(start, _BATCH), "") for column in columns]
        joined = pc.binary_join_element_wise(source.name, *fields, "\x1f")
        parts.append(draws.content_hashes(joined.to_pylist()))
    return np.concatenate(parts) if parts else draws.content_hashes([])


def _distinct(
    rows: NDArray[np.int64], hashes: draws.Hashes, labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int, int]:
    """Keeps the first row of every text whose rows agree on the label.

    Returns:
      The kept rows in order, how many rows were dropped because equal texts disagree, and how
      many because they repeat an earlier one.
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
    if held_out.all() or not held_out.any():  # the tiniest of files: one text, whichever
        held_out = np.arange(len(texts)) == draws.words(texts.hashes, 0, "held out").argmin()
    chosen = ~held_out if split == "train" else held_out
    part = texts.select(np.flatnonzero(chosen))
    counts = texts.counts | {"held_out": int((~chosen).sum()), "kept": len(part)}
    return dataclasses.replace(part, counts=counts, held_out_from_train=True)
