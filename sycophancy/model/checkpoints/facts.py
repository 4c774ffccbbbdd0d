"""Typed access to the values of a config.json; what has another type or range ends in one line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

from etils import epath

from sycophancy.errors import UserError
from sycophancy.model.checkpoints.checkpoint import check_bounds


class Facts:
    """The values of a config.json. Its methods raise UserError if a value is not as they say.

    A value that is null or missing is the default; without a default, it is refused.

    Args:
      values: the contents.
      place: the file, or an object in it, for messages.
    """

    def __init__(self, values: Mapping[str, Any], place: epath.PathLike) -> None:
        self.values, self.place = values, place

    def size(self, name: str, field: str, default: int | None = None) -> int:
        """A whole number from 1 to the most that `field` of the network may be."""
        return check_bounds(field, self._value(name, default), f"{self.place}: {name}")

    def count(self, name: str, default: int) -> int:
        """A whole number, at least 0."""
        value = self._value(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.refuse(name, "a whole number, at least 0,")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number above 0."""
        value = self._value(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and value > 0):
            self.refuse(name, "a number above 0")
        return float(value)

    def optional_number(self, name: str, default: float | None = None) -> float | None:
        """A number above 0, or null; only a missing value is the default."""
        value = self.values.get(name, default)
        return None if value is None else self.number(name, default)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            self.refuse(name, "true or false")
        return value

    def inner(self, name: str) -> dict[str, Any]:
        """A copy of an object, empty by default."""
        value = self._value(name, {})
        if not isinstance(value, dict):
            self.refuse(name, "an object")
        return dict(value)

    def refuse(self, name: str, wanted: str) -> NoReturn:
        """Raises UserError: `name` has a value, but only `wanted` is supported."""
        value = str(self.values.get(name))[:80]
        raise UserError(f"{self.place}: {name} is {value}, only {wanted} is supported")

    def _value(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        if value is None and default is None:
            raise UserError(f"{self.place} does not describe its model: {name} is missing")
        return default if value is None else value
