"""Values of settings: gin's plain values made typed and checked, and typed values made plain."""

from __future__ import annotations

import dataclasses
import math
import pprint
import types
import typing
from typing import Annotated, Any, TypeAlias

from sycophancy.config.bounds import DataSets, Limit, MeshSizes, Rates, shown
from sycophancy.config.markers import Renamed
from sycophancy.errors import did_you_mean

Annotation: TypeAlias = Any  # a type or a form of `typing`, such as Annotated[int, Between(1, 9)]
Value: TypeAlias = Any  # a setting's value: of any type that an annotation names, or gin's own


def convert(value: Value, annotation: Annotation) -> Value:
    """Converts a plain value to an annotated type and checks its limits.

    A whole number fits where a number is expected, a list where a tuple is, and a dictionary of
    the fields where a dataclass is.

    Raises:
        TypeError: the value has another type; the message says which type was expected.
        ValueError: the value is outside a limit of the annotation.

    Example:
        >>> convert([5, 1], tuple[float, float])
        (5.0, 1.0)
    """
    arguments = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case typing.Annotated:
            for old, new in _renamed(annotation):
                if value == old:
                    raise ValueError(f"{shown(old)} is now called {shown(new)}")
            converted = convert(value, arguments[0])
            for limit in _limits(annotation):
                if problem := limit.problem(converted):
                    raise ValueError(f"expected {problem}, got {shown(value)}")
            return converted
        case typing.Literal if value in arguments and isinstance(value, str):
            return value
        case typing.Union | types.UnionType:
            if value is None and type(None) in arguments:
                return None
            (inner,) = (argument for argument in arguments if argument is not type(None))
            return convert(value, inner)
        case origin if origin is tuple and isinstance(value, (list, tuple)):
            if arguments[-1] is Ellipsis:
                return tuple(convert(item, arguments[0]) for item in value)
            if len(value) == len(arguments):
                return tuple(map(convert, value, arguments))
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        fields = typing.get_type_hints(annotation, include_extras=True)
        if isinstance(value, dict) and value.keys() == fields.keys():
            return annotation(**{name: convert(value[name], fields[name]) for name in fields})
    if annotation is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf  # no limit admits infinity
    if annotation in (int, bool, str) and type(value) is annotation:
        return value
    hint = ""
    if typing.get_origin(annotation) is typing.Literal and isinstance(value, str):
        hint = did_you_mean(value, arguments)
    raise TypeError(f"expected {describe(annotation)}, got {shown(value)}{hint}")


def fits(value: Value, annotation: Annotation) -> bool:
    """Whether `convert` accepts a value."""
    try:
        convert(value, annotation)
    except (TypeError, ValueError):
        return False
    return True


def plain(value: Value) -> Value:
    """The value as gin and JSON write it: a dataclass as the dictionary of its fields."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]


def as_gin(value: Value) -> str:
    """A setting's value on one line, as a gin file has it.

    >>> as_gin((5.0, 1.0)), as_gin({"targets": 64, "inputs": 512})
    ('(5.0, 1.0)', "{'inputs': 512, 'targets': 64}")
    """
    return pprint.pformat(plain(value), width=10**6, sort_dicts=True)


def describe(annotation: Annotation) -> str:
    """A type and its limits in plain words, for messages.

    >>> from sycophancy.config.bounds import Between
    >>> describe(Annotated[int, Between(1, 65_536)])
    'a whole number from 1 to 65,536'
    """
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        limits = _limits(annotation)
        whole = [str(limit) for limit in limits if isinstance(limit, DataSets | Rates | MeshSizes)]
        kind, comma, entry = describe(arguments[0]).partition(", each ")
        return whole[0] if whole else " ".join([kind, *map(str, limits)]) + comma + entry
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        parts = list(map(describe, arguments))
        return (", or " if " or " in parts[0] else " or ").join(parts)
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a tuple, each {describe(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} values in brackets, each {describe(arguments[0])}"
    if dataclasses.is_dataclass(annotation):
        fields = typing.get_type_hints(annotation, include_extras=True)
        return "{" + ", ".join(f"{name!r}: {describe(fields[name])}" for name in fields) + "}"
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
    return words.get(annotation, "None")


def _renamed(annotation: Annotation) -> list[tuple[str, str]]:
    arguments = typing.get_args(annotation)[1:]
    return [pair for item in arguments if isinstance(item, Renamed) for pair in item.values]


def _limits(annotation: Annotation) -> list[Limit]:
    return [item for item in typing.get_args(annotation)[1:] if isinstance(item, Limit)]
