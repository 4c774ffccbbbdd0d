"""What a setting's value may be, beyond its type: declared in the field's annotation.

    batch_size: Annotated[int, Between(1, 65_536), "packed rows of a training step"]

`macros.convert` checks a value against the type and then against each limit; `macros.describe`
puts both into words. A plain string in the annotation says what the setting is for.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from sycophancy.errors import UserError

T = TypeVar("T")

COMPONENT_BYTES = 255  # of a file's name, on every usual file system
PATH_BYTES = 4_096
_SHOWN = 120  # characters of a value in a message


@runtime_checkable
class Limit(Protocol):
    """A condition on a value that already has the right type; `str` puts it into words."""

    def problem(self, value: Any) -> str | None:
        """What was expected instead, as in "at least 1"; None if the value fits."""
        ...


@dataclasses.dataclass(frozen=True)
class Between:
    """Numbers from `least` to `most`; without `most` itself if `below`. NaN is refused."""

    least: float
    most: float
    below: bool = False

    def problem(self, value: float) -> str | None:
        if not value >= self.least:
            return f"at least {_number(self.least)}"
        if not (value < self.most if self.below else value <= self.most):
            return f"{'less than' if self.below else 'at most'} {_number(self.most)}"
        return None

    def __str__(self) -> str:
        return f"from {_number(self.least)} to {'below ' * self.below}{_number(self.most)}"


@dataclasses.dataclass(frozen=True)
class Encodable:
    """Text that UTF-8 can hold, as configurations and manifests are written."""

    def problem(self, value: str) -> str | None:
        return None if all(unicodedata.category(c) != "Cs" for c in value) else "text in UTF-8"

    def __str__(self) -> str:
        return "in UTF-8"


@dataclasses.dataclass(frozen=True)
class Text:
    """Text on one line, without control characters, that UTF-8 can hold."""

    least: int = 0
    most: int = PATH_BYTES

    def problem(self, value: str) -> str | None:
        if problem := Encodable().problem(value):
            return problem
        if {unicodedata.category(character) for character in value} & {"Cc", "Zl", "Zp"}:
            return "text without control characters or line breaks"
        if not self.least <= len(value.encode()) <= self.most:
            return f"text of {self.least:,} to {self.most:,} bytes"
        return None

    def __str__(self) -> str:
        return "on one line"


@dataclasses.dataclass(frozen=True)
class Place:
    """A path, an address in a bucket or `hf:owner/name`."""

    def problem(self, value: str) -> str | None:
        if not value:
            return "a path"
        if problem := Text().problem(value):
            return problem
        if any(len(part.encode()) > COMPONENT_BYTES for part in value.split("/")):
            return f"a path whose names have at most {COMPONENT_BYTES} bytes each"
        return None

    def __str__(self) -> str:
        return "that names a file, a folder or an address"


@dataclasses.dataclass(frozen=True)
class Name:
    """A folder's name; with `nested`, also several with / between. It leads nowhere else."""

    nested: bool = False

    def problem(self, value: str) -> str | None:
        parts = value.split("/")
        if any(part in ("", ".", "..") for part in parts) or (len(parts) > 1 and not self.nested):
            between = ", perhaps several with / between," if self.nested else ""
            return f"a folder's name{between} and no other path"
        return Place().problem(value)

    def __str__(self) -> str:
        return "that can name a folder"


@dataclasses.dataclass(frozen=True)
class Keys:
    """A dictionary with exactly these keys."""

    names: tuple[str, ...]

    def problem(self, value: Mapping[str, Any]) -> str | None:
        return None if set(value) == set(self.names) else str(self)

    def __str__(self) -> str:
        return "{" + ", ".join(f"{name!r}: N" for name in self.names) + "}"


@dataclasses.dataclass(frozen=True)
class Entries:
    """From `least` to `most` entries."""

    least: int
    most: int

    def problem(self, value: Sequence[Any]) -> str | None:
        return None if self.least <= len(value) <= self.most else f"a tuple {self}"

    def __str__(self) -> str:
        return f"of {self.least:,} to {self.most:,} entries"


@dataclasses.dataclass(frozen=True)
class Rates:
    """Rates of a mixture: none negative, one positive, and none too rare to be ever drawn."""

    least: float
    most: float

    def problem(self, value: Sequence[float]) -> str | None:
        positive = [rate for rate in value if rate != 0]
        if positive and all(self.least <= rate <= self.most for rate in positive):
            return None
        return str(self)

    def __str__(self) -> str:
        bounds = f"{_number(self.least)} to {_number(self.most)}"
        return f"rates of 0 or from {bounds}, at least one of them positive"


@dataclasses.dataclass(frozen=True)
class MeshSizes:
    """Devices along each axis of a mesh; -1 takes what the others leave."""

    most: int
    auto: tuple[int, ...]

    def problem(self, value: Sequence[int]) -> str | None:
        sizes = all(size == -1 or 1 <= size <= self.most for size in value)
        fits = sizes and (value == self.auto or list(value).count(-1) <= 1)
        return None if fits else str(self)

    def __str__(self) -> str:
        return f"sizes of at least 1 and at most {self.most:,}, one of them perhaps -1"


@dataclasses.dataclass(frozen=True)
class DataSets:
    """Names of `data.catalog.SOURCES`, each once."""

    def problem(self, value: Sequence[str]) -> str | None:
        from sycophancy.data.catalog import SOURCES

        for name in value:
            if name not in SOURCES:
                close = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0.5)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                return f"names of data sets{hint}, which are {', '.join(SOURCES)}"
        return None if len(set(value)) == len(value) else "each data set once"

    def __str__(self) -> str:
        return "that names a data set"


def shown(value: object) -> str:
    """A value as messages show it: its `repr`, shortened.

    >>> shown("four"), len(shown("a" * 10_000))
    ("'four'", 120)
    """
    try:
        return shortened(repr(value))
    except ValueError:  # Python refuses to write longer numbers
        return f"a number of more than {sys.get_int_max_str_digits():,} digits"


def shortened(text: str) -> str:
    """Text that is too long for a message, without its middle."""
    if len(text) <= _SHOWN:
        return text
    return f"{text[: _SHOWN - 43]}...{text[-40:]}"


def check(said: str, value: T, limit: Limit) -> T:
    """The value of a command-line option, if it fits.

    Args:
        said: the option, as in "--name".
        value: what was given.
        limit: what is allowed.

    Raises:
        UserError: it does not fit.
    """
    if problem := limit.problem(value):
        raise UserError(f"{said} {shown(value)}: expected {problem}")
    return value


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
