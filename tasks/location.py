"""Where the tasks read: said when a data set is built, never kept."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import gin
from etils import epath

from sycophancy.config.schema import TrainingConfig, inside_package
from sycophancy.errors import UserError
from sycophancy.model import locations


@dataclasses.dataclass
class LeftOut:
    """The rows of a task that are longer than its features may be.

    Attributes:
      task: its name.
      limits: the lengths, in words.
      rows: how many rows there are, of the shard that is read.
      ids: of the rows left out, by their place in the shard.
      is_final: whether all rows have been looked at.
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
    """One building of a data set: what it reads, and what it had to leave out.

    Attributes:
      data_dir: the run folder.
      vocabulary: the SentencePiece model.
      mixture_ratio: of `sycophancy_mix`, intervention : instruction tuning.
      left_out: of each data set built, the rows that are longer than the feature lengths. It fills
        while the data set is read.
      quiet: whether the tasks do not log what they left out, because the caller says it.
      error: what was raised inside the pipeline, which TensorFlow passes on only as text.
    """

    data_dir: str | None = None
    vocabulary: str | None = None
    mixture_ratio: tuple[float, float] | None = None
    left_out: list[LeftOut] = dataclasses.field(default_factory=list)
    quiet: bool = False
    error: UserError | None = None

    @property
    def dropped(self) -> dict[str, set[str]]:
        """Per task, ids of the rows left out so far."""
        found: dict[str, set[str]] = {}
        for part in self.left_out:
            if part.ids:
                found.setdefault(part.task, set()).update(part.ids.values())
        return found


_current: contextvars.ContextVar[Reading | None] = contextvars.ContextVar("reading", default=None)
_entered: list[Reading] = []  # for threads that inherit no context, such as SeqIO's evaluator's


@contextlib.contextmanager
def reading(
    data_dir: os.PathLike[str] | str | None = None,
    vocabulary: os.PathLike[str] | str | None = None,
    mixture_ratio: tuple[float, float] | None = None,
) -> Iterator[Reading]:
    """Data sets built inside read from here; what is left out comes from gin or the environment."""
    told = Reading(
        os.fspath(data_dir) if data_dir is not None else None,
        os.fspath(vocabulary) if vocabulary is not None else None,
        mixture_ratio,
    )
    token = _current.set(told)
    _entered.append(told)
    try:
        yield told
    finally:
        _current.reset(token)
        _entered[:] = [other for other in _entered if other is not told]


def current() -> Reading:
    """The reading in force; outside of `reading` a new one, told nothing."""
    return _current.get() or (_entered[-1] if _entered else Reading())


def data_dir() -> epath.Path:
    """The run folder, see the package's docstring for who may name it.

    Raises:
      UserError: nobody has.
    """
    return epath.Path(_text(current().data_dir, "DATA_DIR", "the run folder"))


def vocabulary() -> str:
    """Path of the SentencePiece model.

    Raises:
      UserError: nobody has named one.
    """
    path = _text(current().vocabulary, "VOCABULARY", "a SentencePiece .model file")
    return locations.local(inside_package(path))


def mixture_ratio() -> tuple[float, float]:
    """Rates of intervention and instruction tuning in `sycophancy_mix`.

    Raises:
      UserError: MIXTURE_RATIO is not two numbers, of which one is positive and none negative.
    """
    found = current().mixture_ratio or _macro("MIXTURE_RATIO") or TrainingConfig.mixture_ratio
    try:
        intervention, instruction = (float(rate) for rate in found)
    except (TypeError, ValueError):
        intervention, instruction = -1.0, -1.0
    if min(intervention, instruction) < 0 or max(intervention, instruction) <= 0:
        raise UserError(f"MIXTURE_RATIO is {found!r}, expected two rates such as (5, 1)")
    return intervention, instruction


def _text(told: str | None, name: str, meaning: str) -> str:
    macro = _macro(name)
    found = told or (macro if isinstance(macro, str) else None) or os.environ.get(name)
    if not found:
        raise UserError(
            f"{name} is not set; name {meaning} with the gin macro or the environment variable "
            f"{name}, or with tasks.reading()"
        )
    return found


def _macro(name: str) -> Any:
    try:
        return gin.query_parameter(f"%{name}")
    except ValueError:
        return None
