"""Gin files and `MACRO=VALUE` flags, read into plain values that remember where they were said.

Gin's own parser does the reading, through a delegate of ours, and its global configuration is never
touched: two configurations in one process cannot see each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import math
import re
import types
import typing
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from sycophancy import errors
from sycophancy.config.bounds import Limit, Place, check, shortened, shown

_FILE_BYTES = 2**20  # of a gin file; the shipped ones have 2 kB
_INCLUDES = 8  # files that include one another
_NESTING = 8  # brackets in brackets


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
    package = Path(__file__).resolve().parents[1]
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
    check(f"--{kind}", name, Place())
    if name.endswith(".gin"):
        if (reason := _not_a_file(Path(name))) is not None:
            raise errors.UserError(f"{kind} file {name} {reason}")
        return Path(name)
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


def _statements(text: str, source: str) -> Sequence[Any]:
    parser = None
    try:
        with warnings.catch_warnings(action="ignore"):  # of unknown escapes, as in 'C:\data'
            parser = _parser_class()(text)
            return list(parser)
    except Exception as error:  # gin's parser lets many kinds through: TypeError, RecursionError
        reason = " ".join(str(error.args[0] if error.args else error).split())
        if isinstance(error, RecursionError):
            reason = "brackets are nested too deeply"
        elif isinstance(error, TypeError):
            reason = "the key of a dictionary must be a text or a number"
        elif reason.startswith("Exceeds the limit"):
            reason = "a number has too many digits"
        elif reason.startswith("Malformatted"):
            reason = "a name has letters from A to Z, digits and _"
        line = _line_of(error) or (parser.current_token.start[0] if parser else None)
        where = source if line is None else f"{source}:{line}"
        raise errors.UserError(f"{where}: gin cannot read this: {shortened(reason)}") from None


def _line_of(error: Exception) -> int | None:
    """The line that an error of gin's parser, or of Python's tokenizer, names."""
    match error.args:
        case (_, (_, int(line), *_)) if isinstance(error, SyntaxError):
            return line
        case (_, (int(line), _)):
            return line
    return None


def _label(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(root()))
    except ValueError:
        return str(path)


def read_file(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Setting]:
    """The macros that a gin file sets, with the files it includes.

    Raises:
        UserError: it cannot be read, or holds anything but macros and includes, or includes itself.
    """
    if path.resolve() in seen:
        raise errors.UserError(f"{_label(seen[-1])}: includes {_label(path)}, which includes it")
    if len(seen) == _INCLUDES:
        raise errors.UserError(
            f"{_label(seen[-1])}: the {_INCLUDES}th file of a chain of includes; put them together"
        )
    seen = (*seen, path.resolve())
    return read_text(text_of(path), _label(path), folder=path.parent, seen=seen)


def text_of(path: Any) -> str:
    """What a gin file says; a byte-order mark, as some editors write it, is left out.

    Raises:
        UserError: it is missing, no file, too large or not in UTF-8.
    """
    try:
        if isinstance(path, Path) and path.stat().st_size > _FILE_BYTES:
            raise errors.UserError(f"{_label(path)}: too large to be a gin file")
        return str(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise errors.UserError(
            f"{_label(path)}: byte {error.start} is not UTF-8; save the file in UTF-8"
        ) from None
    except OSError as error:
        raise errors.UserError(
            f"{_label(path)}: cannot be read: {error.strerror or error}"
        ) from None


def _not_a_file(path: Path) -> str | None:
    """Why there is no file at a path, as the end of a sentence; None if there is one."""
    try:
        if path.is_file():
            return None
        return "is not a file" if path.exists() else "does not exist"
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


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
                found = [place for place in places if _not_a_file(place) is None]
                if not found:
                    name = shortened(statement.filename)
                    raise errors.UserError(f"{origin}: no file {name} to include")
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


def _literal(
    value: Any, settings: Mapping[str, Setting], origin: str, nesting: int = _NESTING
) -> Any:
    def inner(item: Any) -> Any:
        if not nesting:
            raise errors.UserError(f"{origin}: brackets are nested too deeply")
        return _literal(item, settings, origin, nesting - 1)

    match value:
        case _Macro(name) if name in settings:
            return settings[name].value
        case _Macro(name):
            raise errors.UserError(f"{origin}: %{name} is not set above this line")
        case _Reference(name):
            raise errors.UserError(f"{origin}: a plain value may stand here, not @{name}")
        case dict():
            return {inner(key): inner(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(map(inner, value))
    return value


def read_flag(binding: str, annotations: Mapping[str, Any]) -> tuple[str, Setting]:
    """The macro that one `--set MACRO=VALUE` sets.

    VALUE is gin's; a macro that takes text also takes it without quotes, and true and false may be
    written small.

    Args:
        binding: "MACRO=VALUE".
        annotations: the type of every known macro.
    """
    origin = f"--set {shortened(' '.join(binding.split()))}"
    name, equals, text = (part.strip() for part in binding.partition("="))
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise errors.UserError(f"{origin}: expected MACRO=VALUE, as in --set BATCH_SIZE=16")
    if name not in annotations:
        raise errors.UserError(f"{origin}: unknown macro '{name}'{closest(name, annotations)}")
    small = {"true": True, "false": False, "none": None}
    if text.lower() in small and _allows(small[text.lower()], annotations[name]):
        return name, Setting(small[text.lower()], origin)
    with contextlib.suppress(errors.UserError):
        said = _statements(f"{name} = {text}", origin)
        if len(said) == 1:  # and no second line
            return name, Setting(_literal(said[0].value, {}, origin), origin)
    if text and not text.startswith(("'", '"', "[", "(", "{", "@", "%")):
        return name, Setting(text, origin)  # unquoted text; its type is checked with the rest
    raise errors.UserError(f"{origin}: gin cannot read the value {shown(text)}")


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
        TypeError: the value is of another type; the message says what was expected.
        ValueError: it is outside a limit that the annotation states.

    Example:
        >>> convert([5, 1], tuple[float, float])
        (5.0, 1.0)
    """
    arguments = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case typing.Annotated:
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
        case origin if origin is dict and isinstance(value, dict):
            return {convert(k, arguments[0]): convert(v, arguments[1]) for k, v in value.items()}
    if annotation is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf  # which no limit lets pass
    if annotation in (int, bool, str) and type(value) is annotation:
        return value
    raise TypeError(f"expected {describe(annotation)}, got {shown(value)}")


def _allows(value: Any, annotation: Any) -> bool:
    try:
        convert(value, annotation)
    except (TypeError, ValueError):
        return False
    return True


def _limits(annotation: Any) -> list[Limit]:
    return [limit for limit in typing.get_args(annotation)[1:] if isinstance(limit, Limit)]


def describe(annotation: Any) -> str:
    """A type and its limits in plain words, for messages.

    >>> from sycophancy.config.bounds import Between
    >>> describe(Annotated[int, Between(1, 65_536)])
    'a whole number from 1 to 65,536'
    """
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return " ".join([describe(arguments[0]), *map(str, _limits(annotation))])
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
