"""Items, which a model is asked, and predictions, its answers: in memory and as parquet."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sycophancy.errors import UserError

Condition = Literal["neutral", "user_wrong", "user_right", "user_view"]
T = TypeVar("T")

CONDITIONS: tuple[str, ...] = get_args(Condition)

ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("task", pa.string()),
        ("condition", pa.string()),
        ("pair_id", pa.string()),
        ("inputs", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("answer", pa.int32()),
        ("user_choices", pa.list_(pa.int32())),
        ("free_text", pa.bool_()),
        ("groups", pa.list_(pa.string())),
    ]
)

PREDICTION_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("log_likelihoods", pa.list_(pa.float32())),
        ("greedy", pa.list_(pa.bool_())),
        ("tokens", pa.list_(pa.int32())),
    ]
)

# What columns hold in files of earlier versions, which lack them.
ABSENT: dict[str, Any] = {"free_text": False, "groups": [], "tokens": []}


@dataclasses.dataclass(frozen=True)
class Item:
    """One prompt with the choices that a model picks from.

    Attributes:
      item_id: unique within an evaluation.
      task: what the item belongs to, such as `addition` or `surveys/nlp`; the first part of its
        metrics' names.
      condition: what the prompt says about the user: nothing (`neutral`), a wrong opinion
        (`user_wrong`), a right one (`user_right`), or a text that shows the user's view, such as a
        biography (`user_view`).
      pair_id: the same for all conditions of one underlying question.
      inputs: the prompt.
      choices: the possible continuations. An item with one choice asks whether the model would
        write exactly that text.
      answer: index of the right choice; -1 if there is none.
      user_choices: indices of the choices that match the user. A neutral item that is paired with
        a `user_view` item has the same ones, so that matches by chance can be measured.
      free_text: the choices are texts of any lengths, so their log-likelihoods are compared per
        token and per byte. Otherwise all choices have equally many tokens and sums are compared.
      groups: further names under which the item is measured, together with items of other tasks.

    Raises:
      UserError: no choices, an index out of range, or an unknown condition.

    >>> item = Item("1", "sums", "neutral", "1", "Is 1 + 1 = 2?", ("yes", "no"), answer=0)
    >>> item.choices[item.answer]
    'yes'
    """

    item_id: str
    task: str
    condition: Condition
    pair_id: str
    inputs: str
    choices: tuple[str, ...]
    answer: int = -1
    user_choices: tuple[int, ...] = ()
    free_text: bool = False
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("choices", "user_choices", "groups"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        count = len(self.choices)
        if count == 0:
            raise UserError(f"item {self.item_id} has no choices; an item needs at least one")
        if not -1 <= self.answer < count:
            raise UserError(
                f"item {self.item_id} has answer {self.answer}, expected -1 (none) to {count - 1}"
            )
        if any(not 0 <= choice < count for choice in self.user_choices):
            raise UserError(
                f"item {self.item_id} has user_choices {list(self.user_choices)}, "
                f"expected indices 0 to {count - 1}"
            )
        if self.condition not in CONDITIONS:
            raise UserError(
                f"item {self.item_id} has condition {self.condition!r}, "
                f"expected one of {', '.join(CONDITIONS)}"
            )


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model makes of the choices of one item.

    Attributes:
      item_id: the id of the item.
      log_likelihoods: of each choice, in the item's order: the sum over the choice's tokens and the
        end of sequence, in natural log.
      greedy: of each choice: whether every token, the end of sequence included, is the model's
        likeliest, so that greedy decoding would write exactly that choice.
      tokens: of each choice: the number of tokens that its log-likelihood sums. Empty if unknown.

    >>> Prediction("1", (-0.2, -1.7), (True, False)).choice
    0
    """

    item_id: str
    log_likelihoods: tuple[float, ...]
    greedy: tuple[bool, ...]
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_likelihoods", tuple(self.log_likelihoods))
        object.__setattr__(self, "greedy", tuple(self.greedy))
        object.__setattr__(self, "tokens", tuple(self.tokens))

    @property
    def choice(self) -> int:
        """The index of the likeliest choice; -1 if several are equally likely.

        A tie is no answer, so it is never right and never a match, whichever choice comes first.
        """
        best = max(self.log_likelihoods)
        if self.log_likelihoods.count(best) > 1:
            return -1
        return self.log_likelihoods.index(best)


def per_unit(
    choices: Sequence[str], log_likelihoods: Sequence[float], tokens: Sequence[int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The scores by which choices of any lengths are compared: per token and per UTF-8 byte.

    >>> per_unit(("no", "yes!"), (-4.0, -6.0), (1, 2))
    ((-4.0, -3.0), (-2.0, -1.5))
    """
    lengths = tokens, [len(choice.encode()) for choice in choices]
    per_token, per_byte = (
        tuple(x / n for x, n in zip(log_likelihoods, units, strict=True)) for units in lengths
    )
    return per_token, per_byte


def predictions_of(items: Sequence[Item], predictions: Iterable[Prediction]) -> list[Prediction]:
    """The prediction of each item, in the order of the items; further predictions are left out.

    Raises:
      UserError: an item without a prediction or with two, two items with one id, a prediction with
        another number of choices than its item, or a log-likelihood that is not a number.
    """
    by_id: dict[str, Prediction] = {}
    for prediction in predictions:
        if prediction.item_id in by_id:
            raise UserError(f"item {prediction.item_id} has two predictions; expected one")
        by_id[prediction.item_id] = prediction
    missing = [item.item_id for item in items if item.item_id not in by_id]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(items)} items have no prediction (the first: {missing[0]}); "
            "score the items again"
        )
    if len({item.item_id for item in items}) != len(items):
        counts = Counter(item.item_id for item in items)
        twice = next(item_id for item_id, count in counts.items() if count > 1)
        raise UserError(f"item {twice} appears twice; item ids must be unique")
    matched = [by_id[item.item_id] for item in items]
    for item, prediction in zip(items, matched, strict=True):
        if not len(item.choices) == len(prediction.log_likelihoods) == len(prediction.greedy):
            raise UserError(
                f"item {item.item_id} has {len(item.choices)} choices, its prediction "
                f"{len(prediction.log_likelihoods)} log-likelihoods and "
                f"{len(prediction.greedy)} greedy marks"
            )
        if any(math.isnan(value) for value in prediction.log_likelihoods):
            raise UserError(
                f"item {item.item_id} has log-likelihoods {list(prediction.log_likelihoods)}; "
                "the checkpoint's parameters are probably not finite"
            )
    return matched


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Writes items as parquet by `ITEM_SCHEMA`; a failed write leaves no part of the file.

    Raises:
      UserError: the file cannot be written.
    """
    _write(path, items, ITEM_SCHEMA)


def read_items(path: Path) -> list[Item]:
    """Reads items in the order in which they were written.

    Raises:
      UserError: as `read_table`; or a row that no item can have.
    """
    return _records(path, ITEM_SCHEMA, Item)


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Writes predictions as parquet by `PREDICTION_SCHEMA`; raises as `write_items` does."""
    _write(path, predictions, PREDICTION_SCHEMA)


def read_predictions(path: Path) -> list[Prediction]:
    """Reads predictions in the order in which they were written; raises as `read_items` does."""
    return _records(path, PREDICTION_SCHEMA, Prediction)


def _write(path: Path, records: Iterable[Item | Prediction], schema: pa.Schema) -> None:
    rows = list(records)
    columns = [
        pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in schema
    ]
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns, schema=schema), unfinished)
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Reads the columns of a schema from a parquet file that a stage wrote.

    A file of an earlier version may lack a column of `ABSENT`, which then holds the value given
    there: no item is free text or in a group, and token counts are unknown.

    Raises:
      UserError: the file is missing, damaged or no parquet, or a column is missing, has another
        type or holds nulls; the message names file and column.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage that writes it")
    try:
        table = pq.read_table(path)
        table.validate(full=True)
        present = table.column_names
    # Damaged bytes have raised ArrowException, OSError, UnicodeDecodeError, KeyError and more.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path} cannot be read as parquet ({reason}); run the stage that writes it again"
        ) from error
    for field in schema:
        if field.name in ABSENT and field.name not in present:
            values = pa.array([ABSENT[field.name]] * len(table), type=field.type)
            table = table.append_column(field, values)
            continue
        if field.name not in present:
            raise UserError(f"{path} has no column {field.name!r} (it has {', '.join(present)})")
        column = table.column(field.name)
        if column.type != field.type:
            raise UserError(
                f"{path}: column {field.name!r} has type {column.type}, expected {field.type}"
            )
        nulls = column.null_count
        if pa.types.is_list(field.type):
            nulls += pc.list_flatten(column).null_count
        if nulls:
            raise UserError(f"{path}: column {field.name!r} has {nulls} empty values")
    return table.select(schema.names)


def _records(path: Path, schema: pa.Schema, record_class: Callable[..., T]) -> list[T]:
    try:
        return [record_class(**record) for record in read_table(path, schema).to_pylist()]
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}; run the stage that writes it again") from error
