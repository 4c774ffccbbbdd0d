"""Limits on a setting's value beyond its type, for the annotation of its field.

    batch_size: Annotated[int, Between(1, 65_536), "Packed rows in a batch."]

`conversion.convert` checks a value against the type and then against each limit, and
`conversion.describe` puts both into words.
"""

from __future__ import annotations

import dataclasses
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from sycophancy.errors import UserError

T = TypeVar("T")

COMPONENT_BYTES = 255  # most bytes of a file's name on all usual file systems
PATH_BYTES = 4_096
_SHOWN = 120  # most characters of a value in a message


@runtime_checkable
class Limit(Protocol):
    """A condition on a value that already has the right type; `str` puts it into words."""

    def problem(self, value: Any) -> str | None:
        """The expectation that the value fails, as in "at least 1"; None if the value fits."""
        ...


@dataclasses.dataclass(frozen=True)
class Between:
    """Numbers from `least` to `most`, or up to but not including `most` if `below` is set.

    NaN is refused.
    """

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
    """Text that UTF-8, the encoding of configurations and manifests, can hold."""

    def problem(self, value: str) -> str | None:
        return None if all(unicodedata.category(c) != "Cs" for c in value) else "text in UTF-8"

    def __str__(self) -> str:
        return "in UTF-8"


@dataclasses.dataclass(frozen=True)
class Text:
    """Text on one line, in UTF-8 and without control characters.

    Attributes:
        least: fewest bytes.
        most: most bytes.
    """

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
    """A folder's name; with `nested`, also several names with / between, none of them `..`."""

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
class Entries:
    """Tuples of `least` to `most` entries."""

    least: int
    most: int

    def problem(self, value: Sequence[Any]) -> str | None:
        return None if self.least <= len(value) <= self.most else f"a tuple {self}"

    def __str__(self) -> str:
        return f"of {self.least:,} to {self.most:,} entries"


@dataclasses.dataclass(frozen=True)
class Rates:
    """Rates of a mixture: each is 0 or from `least` to `most`, and at least one is positive."""

    least: float
    most: float

    def problem(self, value: Sequence[float]) -> str | None:
        positive = [rate for rate in value if rate != 0]
        if positive and all(self.least <= rate <= self.most for rate in positive):
            return None
        return str(self)

    def __str__(self) -> str:
        bounds = f"{_number(self.least)} to {_number(self.most)}"
        return f"rates in brackets, each 0 or from {bounds}, at least one of them positive"


@dataclasses.dataclass(frozen=True)
class MeshSizes:
    """Devices along each axis of a mesh; -1 stands for all remaining devices.

    Attributes:
        most: most devices along an axis.
        auto: the one value with more than one -1 that is allowed.
    """

    most: int
    auto: tuple[int, ...]

    def problem(self, value: Sequence[int]) -> str | None:
        sizes = all(size == -1 or 1 <= size <= self.most for size in value)
        fits = sizes and (value == self.auto or list(value).count(-1) <= 1)
        return None if fits else str(self)

    def __str__(self) -> str:
        return f"sizes in brackets, each from 1 to {self.most:,}, one of them perhaps -1"


@dataclasses.dataclass(frozen=True)
class DataSets:
    """Names of data sets, none of them twice; `load` and `data.data_set_file` know the names."""

    def problem(self, value: Sequence[str]) -> str | None:
        return None if len(set(value)) == len(value) else "each data set once"

    def __str__(self) -> str:
        return "a tuple of names of data sets"


@dataclasses.dataclass(frozen=True)
class Distinct:
    """Tuples without repetition."""

    def problem(self, value: Sequence[Any]) -> str | None:
        return None if len(set(value)) == len(value) else "each entry once"

    def __str__(self) -> str:
        return "without repetition"


def shown(value: object) -> str:
    """The `repr` of a value, shortened for a message.

    >>> shown("four"), len(shown("a" * 10_000))
    ("'four'", 120)
    """
    try:
        return shortened(repr(value))
    except ValueError:  # Python refuses to print longer numbers
        return f"a number of more than {sys.get_int_max_str_digits():,} digits"


def shortened(text: str) -> str:
    """A text without its middle, if it is too long for a message."""
    if len(text) <= _SHOWN:
        return text
    return f"{text[: _SHOWN - 43]}...{text[-40:]}"


def check(option: str, value: T, limit: Limit) -> T:
    """Returns the value of a command-line option, if it is within a limit.

    Args:
        option: the option's name for the message, as in "--name".
        value: the given value, of the type that the limit is for.
        limit: the condition.

    Raises:
        UserError: the value is not within the limit.
    """
    if problem := limit.problem(value):
        raise UserError(f"{option} {shown(value)}: expected {problem}")
    return value


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
