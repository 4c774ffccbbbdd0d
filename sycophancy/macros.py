"""Gin files and `MACRO=VALUE` flags, read into plain values that remember where they were said.

Gin's own parser does the reading, through a delegate of ours, and its global configuration is never
touched: two configurations in one process cannot see each other.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import tokenize
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sycophancy import errors


@dataclasses.dataclass(frozen=True)
class Setting:
    """A macro's value and where it was said (`recipes/paper.gin:12`, `--set BATCH_SIZE=4`)."""

    value: Any
    origin: str


@dataclasses.dataclass(frozen=True)
class _Macro:
    name: str


@dataclasses.dataclass(frozen=True)
class _Reference:
    name: str


def root() -> Path:
    """The folder of the gin files: inside the installed package, or at the repository's root."""
    package = Path(__file__).resolve().parent
    inside = package / "gin_configs"
    return inside if inside.is_dir() else package.parent / "gin_configs"


def closest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'NAME'?` for the most similar name, or an empty string."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""


def find(kind: str, name: str) -> Path:
    """The gin file of a shipped model or recipe, or the one at a given path.

    Args:
        kind: "model" or "recipe".
        name: a shipped name such as "mini_base" or "ablations/no_filtration", or a path that ends
            in `.gin`.

    Raises:
        UserError: there is no such file.
    """
    if name.endswith(".gin"):
        if not (path := Path(name)).is_file():
            raise errors.UserError(f"{kind} file {name} does not exist")
        return path
    folder = root() / f"{kind}s"
    shipped = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.rglob("*.gin"))
    }
    if name not in shipped:
        raise errors.UserError(
            f"unknown {kind} '{name}'{closest(name, shipped)} "
            f"(shipped: {', '.join(shipped)}; or the path of a .gin file)"
        )
    return shipped[name]


@functools.cache
def _parser_class() -> Any:
    from gin import config_parser  # 20 ms that `--help` need not spend

    class Delegate(config_parser.ParserDelegate):
        def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Any:
            return _Reference(scoped_configurable_name)

        def macro(self, macro_name: str) -> Any:
            return _Macro(macro_name)

    return lambda text: config_parser.ConfigParser(text, Delegate())


def _statements(text: str, source: str) -> Iterable[Any]:
    try:
        yield from _parser_class()(text)
    except SyntaxError as error:
        location: Any = error.args[1] if len(error.args) > 1 else None
        line = f":{location.line_num}" if location is not None else ""
        message = " ".join(str(error.args[0]).split())
        raise errors.UserError(f"{source}{line}: gin cannot read this line: {message}") from None
    except tokenize.TokenError as error:
        line = f":{error.args[1][0]}" if len(error.args) > 1 else ""
        raise errors.UserError(f"{source}{line}: gin cannot read this: {error.args[0]}") from None


def _label(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(root()))
    except ValueError:
        return str(path)


def read_file(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Setting]:
    """The macros that a gin file sets, with the files it includes.

    Raises:
        UserError: the file holds anything but macros and includes, or includes itself.
    """
    if path in seen:
        raise errors.UserError(f"{_label(seen[-1])}: includes {_label(path)}, which includes it")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UserError(f"{_label(path)}: cannot be read: {error}") from None
    return read_text(text, _label(path), folder=path.parent, seen=(*seen, path))


def read_text(
    text: str, source: str, folder: Path | None = None, seen: tuple[Path, ...] = ()
) -> dict[str, Setting]:
    """The macros that gin text sets; a later line wins. See `read_file`."""
    settings: dict[str, Setting] = {}
    for statement in _statements(text, source):
        origin = f"{source}:{statement.location.line_num}"
        match type(statement).__name__:
            case "IncludeStatement":
                places = [root() / statement.filename]
                if folder is not None:
                    places.append(folder / statement.filename)
                found = [place for place in places if place.is_file()]
                if not found:
                    raise errors.UserError(f"{origin}: no file {statement.filename} to include")
                settings |= read_file(found[0], seen)
            case "BindingStatement" if not statement.arg_name and not statement.scope:
                settings[statement.selector] = Setting(
                    _literal(statement.value, settings, origin), origin
                )
            case _:
                line = statement.location.line_content.strip()
                raise errors.UserError(
                    f"{origin}: only macros (NAME = value) and includes may stand here: {line}"
                )
    return settings


def _literal(value: Any, settings: Mapping[str, Setting], origin: str) -> Any:
    match value:
        case _Macro(name) if name in settings:
            return settings[name].value
        case _Macro(name):
            raise errors.UserError(f"{origin}: %{name} is not set above this line")
        case _Reference(name):
            raise errors.UserError(f"{origin}: a plain value may stand here, not @{name}")
        case dict():
            return {key: _literal(item, settings, origin) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_literal(item, settings, origin) for item in value)
    return value


def read_flag(binding: str, annotations: Mapping[str, Any]) -> tuple[str, Setting]:
    """The macro that one `--set MACRO=VALUE` sets.

    VALUE is gin's; a macro that takes text also takes it without quotes, and true and false may be
    written small.

    Args:
        binding: "MACRO=VALUE".
        annotations: the type of every known macro.
    """
    origin = f"--set {binding}"
    name, equals, text = (part.strip() for part in binding.partition("="))
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise errors.UserError(f"{origin}: expected MACRO=VALUE, as in --set BATCH_SIZE=16")
    if name not in annotations:
        raise errors.UserError(f"{origin}: unknown macro '{name}'{closest(name, annotations)}")
    if text.lower() in ("true", "false", "none"):
        return name, Setting({"true": True, "false": False, "none": None}[text.lower()], origin)
    try:
        return name, Setting(read_text(f"{name} = {text}", origin)[name].value, origin)
    except errors.UserError:
        if text and not text.startswith(("'", '"', "[", "(", "{", "@", "%")):
            return name, Setting(text, origin)  # unquoted text; its type is checked with the rest
        raise errors.UserError(f"{origin}: gin cannot read the value {text!r}") from None


@dataclasses.dataclass(frozen=True)
class Field:
    """A macro bound by a trainer file: the class and field it fills."""

    macro: str
    owner: str
    field: str


@functools.cache
def bindings(trainer: str = "jax") -> tuple[Field, ...]:
    """What `trainers/<trainer>.gin` binds: one `Class.field = %MACRO` a line."""
    path = root() / "trainers" / f"{trainer}.gin"
    fields = []
    for statement in _statements(path.read_text(encoding="utf-8"), _label(path)):
        if not isinstance(statement.value, _Macro):
            raise ValueError(f"{_label(path)}:{statement.location.line_num}: not a %MACRO")
        fields.append(Field(statement.value.name, statement.selector, statement.arg_name))
    return tuple(fields)


def convert(value: Any, annotation: Any) -> Any:
    """`value` as the type says, ints as floats and lists as tuples where the type allows it.

    Raises:
        TypeError: the value does not fit; the message says what was expected.

    Example:
        >>> convert([5, 1], tuple[float, float])
        (5.0, 1.0)
    """
    arguments = typing.get_args(annotation)
    match typing.get_origin(annotation):
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
        case origin if origin is dict and isinstance(value, dict):
            return {convert(k, arguments[0]): convert(v, arguments[1]) for k, v in value.items()}
    if annotation is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if annotation in (int, bool, str) and type(value) is annotation:
        return value
    raise TypeError(f"expected {describe(annotation)}, got {value!r}")


def describe(annotation: Any) -> str:
    """A type in plain words, for messages."""
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a tuple, each {describe(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} values in brackets, each {describe(arguments[0])}"
    if origin is dict:
        return f"a dictionary of {describe(arguments[0])} to {describe(arguments[1])}"
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
    return words.get(annotation, "None")
