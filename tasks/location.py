"""The files that the tasks read; they are chosen anew each time a data set is built."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
from etils import epath

from sycophancy.config.schema import Chat, TrainingConfig, inside_package
from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.system.paths import is_address


@dataclasses.dataclass
class LeftOut:
    """The rows of a task that are left out because they are longer than its features.

    Attributes:
      task: the task's name.
      limits: the lengths of the features, in words.
      rows: the number of rows in the shard that is read.
      ids: the ids of the rows left out, by their number in the shard.
      is_final: whether all rows have been read.
    """

    task: str
    limits: str
    rows: int
    ids: dict[int, str] = dataclasses.field(default_factory=dict)
    is_final: bool = False

    def __str__(self) -> str:
        count = len(self.ids)
        return (
            f"{self.task}: {'' if self.is_final else 'at least '}{count:,} of {self.rows:,} rows "
            f"({count / self.rows:.1%}) are left out, being longer than {self.limits}"
        )


@dataclasses.dataclass
class Reading:
    """The sources of a data set, and the rows that it leaves out.

    Attributes:
      data_dir: the run folder.
      vocabulary: the path of the SentencePiece model, or the folder of a decoder-only model's
        tokenizer.
      mixture_ratio: the rates of `sycophancy_mix`, intervention : instruction tuning.
      chat: how a decoder-only model reads prompts.
      left_out: for each task, the rows that are longer than the features; entries are added while
        the data set is read.
      quiet: whether the tasks do not log the rows that they leave out.
      error: an error that was raised inside TensorFlow's pipeline, which replaces it by a text.
    """

    data_dir: str | None = None
    vocabulary: str | None = None
    mixture_ratio: tuple[float, float] | None = None
    chat: Chat | None = None
    left_out: list[LeftOut] = dataclasses.field(default_factory=list)
    quiet: bool = False
    error: UserError | None = None

    @property
    def dropped(self) -> dict[str, set[str]]:
        """The ids of the rows left out so far, by task."""
        by_task: dict[str, set[str]] = {}
        for part in self.left_out:
            if part.ids:
                by_task.setdefault(part.task, set()).update(part.ids.values())
        return by_task


_current: contextvars.ContextVar[Reading | None] = contextvars.ContextVar("reading", default=None)
_entered: list[Reading] = []  # for threads without this context, such as those of SeqIO's evaluator


@contextlib.contextmanager
def reading(
    data_dir: os.PathLike[str] | str | None = None,
    vocabulary: os.PathLike[str] | str | None = None,
    mixture_ratio: tuple[float, float] | None = None,
    chat: Chat | None = None,
) -> Iterator[Reading]:
    """Chooses the sources of the data sets that are built inside the block.

    An argument that is not given comes from gin or the environment.
    """
    entered = Reading(
        os.fspath(data_dir) if data_dir is not None else None,
        os.fspath(vocabulary) if vocabulary is not None else None,
        mixture_ratio,
        chat,
    )
    token = _current.set(entered)
    _entered.append(entered)
    try:
        yield entered
    finally:
        _current.reset(token)
        _entered[:] = [other for other in _entered if other is not entered]


def current() -> Reading:
    """The `Reading` of the current block, or outside of `reading` an empty one."""
    return _current.get() or (_entered[-1] if _entered else Reading())


def data_dir() -> epath.Path:
    """The run folder; the package's docstring says where it can be set.

    Raises:
      UserError: it is not set.
    """
    return epath.Path(_text(current().data_dir, "DATA_DIR", "the run folder"))


def vocabulary() -> str:
    """The path of the SentencePiece model, or of the folder with a decoder-only model's tokenizer.

    The package's docstring says where it can be set.

    Raises:
      UserError: it is not set.
    """
    path = _text(
        current().vocabulary, "VOCABULARY", "a SentencePiece .model file or a tokenizer's folder"
    )
    return locations.local(inside_package(path))


def is_decoder() -> bool:
    """Whether `vocabulary` is the folder of a decoder-only model's tokenizer."""
    path = vocabulary()
    return not is_address(path) and Path(path).is_dir()


def chat() -> Chat:
    """How a decoder-only model reads prompts: as the `Reading` or the gin macro `CHAT` says.

    Raises:
      UserError: CHAT has another value than `auto`, `raw` or `template`.
    """
    value = current().chat or _macro("CHAT") or "auto"
    if value not in typing.get_args(Chat):
        raise UserError(f"CHAT is {value!r}, expected one of {', '.join(typing.get_args(Chat))}")
    return typing.cast(Chat, value)


def mixture_ratio() -> tuple[float, float]:
    """The rates of intervention and instruction tuning in `sycophancy_mix`.

    Raises:
      UserError: MIXTURE_RATIO is not two numbers, one of them positive and none negative.
    """
    rates = current().mixture_ratio or _macro("MIXTURE_RATIO") or TrainingConfig.mixture_ratio
    try:
        intervention, instruction = (float(rate) for rate in rates)
    except (TypeError, ValueError):
        intervention, instruction = -1.0, -1.0
    if min(intervention, instruction) < 0 or max(intervention, instruction) <= 0:
        raise UserError(f"MIXTURE_RATIO is {rates!r}, expected two rates such as (5, 1)")
    return intervention, instruction


def _text(given: str | None, name: str, meaning: str) -> str:
    """A text from the `Reading`, gin or the environment.

    Raises:
      UserError: it is not set.
    """
    macro = _macro(name)
    text = given or (macro if isinstance(macro, str) else None) or os.environ.get(name)
    if not text:
        raise UserError(
            f"{name} is not set; name {meaning} with the gin macro or the environment variable "
            f"{name}, or with tasks.reading()"
        )
    return text


def _macro(name: str) -> Any:
    """The value of a gin macro; None if it is not set."""
    try:
        return gin.query_parameter(f"%{name}")
    except ValueError:
        return None
