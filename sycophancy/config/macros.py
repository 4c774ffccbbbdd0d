"""Reads gin files and `MACRO=VALUE` flags into plain values, each with the place that set it.

Gin's own parser reads them through a delegate, so gin's global configuration is never touched: two
configurations in one process cannot see each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sycophancy import errors
from sycophancy.config.bounds import Place, check, shortened, shown
from sycophancy.config.conversion import Annotation, Value, fits
from sycophancy.config.declarations import declarations
from sycophancy.config.markers import RelativeToGinFile
from sycophancy.system.paths import is_address

if TYPE_CHECKING:
    from etils import epath

_FILE_BYTES = 2**20  # limit for a gin file; the shipped files have about 2 kB
_INCLUDES = 8  # limit for a chain of files that include one another
_NESTING = 8  # limit for nested brackets


@dataclasses.dataclass(frozen=True)
class Setting:
    """A macro's value and the place that set it (`recipes/paper.gin:12`, `--set BATCH_SIZE=4`)."""

    value: Value
    origin: str


@dataclasses.dataclass(frozen=True)
class _Macro:
    name: str


@dataclasses.dataclass(frozen=True)
class _Reference:
    name: str


def root() -> Path:
    """The folder of the gin files: inside an installed package, else at the repository's root."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "gin_configs"
    return inside if inside.is_dir() else package.parent / "gin_configs"


def shipped(kind: str) -> dict[str, Path]:
    """The shipped gin files by name, as in "mini_base" or "ablations/no_filtration".

    Args:
        kind: "model" or "recipe".
    """
    folder = root() / f"{kind}s"
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.rglob("*.gin"))
    }


def find(kind: str, name: str) -> Path:
    """Finds the gin file of a shipped model or recipe, or the one at a given path.

    Args:
        kind: "model" or "recipe".
        name: a shipped name, or a path that ends in `.gin`.

    Raises:
        UserError: there is no such file.
    """
    check(f"--{kind}", name, Place())
    if name.endswith(".gin"):
        if (reason := _not_a_file(Path(name))) is not None:
            raise errors.UserError(f"{kind} file {name} {reason}")
        return Path(name)
    paths = shipped(kind)
    if name not in paths:
        raise errors.UserError(
            f"unknown {kind} '{name}'{errors.did_you_mean(name, paths)} "
            f"(shipped: {', '.join(paths)}; or the path of a .gin file)"
        )
    return paths[name]


@functools.cache
def _parser_class() -> Any:
    from gin import config_parser  # takes 20 ms, which `--help` need not spend

    class Delegate(config_parser.ParserDelegate):
        def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Any:
            return _Reference(scoped_configurable_name)

        def macro(self, macro_name: str) -> Any:
            return _Macro(macro_name)

    return lambda text: config_parser.ConfigParser(text, Delegate())


def _statements(text: str, source: str) -> Sequence[Any]:
    parser = None
    try:
        with warnings.catch_warnings(action="ignore"):  # about unknown escapes, as in 'C:\data'
            parser = _parser_class()(text)
            return list(parser)
    except Exception as error:  # gin's parser raises many classes: TypeError, RecursionError
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
    """The line number in an error of gin's parser or of Python's tokenizer."""
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
    """Reads the macros that a gin file and the files it includes set.

    Args:
        path: the gin file.
        seen: the files whose includes led to this one.

    Raises:
        UserError: the file cannot be read, holds anything but macros and includes, or includes
            itself.
    """
    if path.resolve() in seen:
        raise errors.UserError(f"{_label(seen[-1])}: includes {_label(path)}, which includes it")
    if len(seen) == _INCLUDES:
        raise errors.UserError(
            f"{_label(seen[-1])}: the {_INCLUDES}th file of a chain of includes; put them together"
        )
    seen = (*seen, path.resolve())
    return read_text(text_of(path), _label(path), folder=path.parent, seen=seen)


def text_of(path: Path | epath.Path) -> str:
    """The text of a gin file, without the byte-order mark that some editors write.

    Raises:
        UserError: the file is missing, no regular file, too large or not in UTF-8.
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
    """Why a path names no file, in words that follow the path; None if it names one."""
    try:
        if path.is_file():
            return None
        return "is not a file" if path.exists() else "does not exist"
    except (OSError, ValueError) as error:  # a name that is too long or has a NUL
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def read_text(
    text: str, source: str, folder: Path | None = None, seen: tuple[Path, ...] = ()
) -> dict[str, Setting]:
    """Reads the macros that gin text sets; a later line wins.

    Args:
        text: the text of a gin file.
        source: its name in messages.
        folder: where to look for included files, after the folder of the shipped ones.
        seen: the files whose includes led to this text.

    Raises:
        UserError: as for `read_file`.
    """
    settings: dict[str, Setting] = {}
    for statement in _statements(text, source):
        origin = f"{source}:{statement.location.line_num}"
        match type(statement).__name__:
            case "IncludeStatement":
                places = [root() / statement.filename]
                if folder is not None:
                    places.append(folder / statement.filename)
                included = next((place for place in places if _not_a_file(place) is None), None)
                if included is None:
                    name = shortened(statement.filename)
                    raise errors.UserError(f"{origin}: no file {name} to include")
                settings |= read_file(included, seen)
            case "BindingStatement" if not statement.arg_name and not statement.scope:
                value = _literal(statement.value, settings, origin)
                declared = declarations().get(statement.selector)
                if folder is not None and declared is not None and declared.has(RelativeToGinFile):
                    value = _absolute(value, folder)
                settings[statement.selector] = Setting(value, origin)
            case _:
                line = statement.location.line_content.strip()
                raise errors.UserError(
                    f"{origin}: only macros (NAME = value) and includes may stand here: {line}"
                )
    return settings


def _absolute(value: Value, folder: Path) -> Value:
    """Makes paths absolute that are relative to a folder, also in a list."""
    if isinstance(value, str) and not is_address(value):
        return str((folder / value).absolute())
    if isinstance(value, list | tuple):
        return tuple(_absolute(entry, folder) for entry in value)
    return value


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


def read_flag(binding: str, annotations: Mapping[str, Annotation]) -> tuple[str, Setting]:
    """Reads one `--set MACRO=VALUE`.

    VALUE is written as in a gin file. Text needs no quotes, and true, false and none may be written
    in lower case.

    Args:
        binding: "MACRO=VALUE".
        annotations: the type of every known macro.

    Returns:
        The macro and its setting. The value's type is not checked yet.

    Raises:
        UserError: the macro is unknown, or gin cannot read the value.
    """
    origin = f"--set {shortened(' '.join(binding.split()))}"
    name, equals, text = (part.strip() for part in binding.partition("="))
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise errors.UserError(f"{origin}: expected MACRO=VALUE, as in --set BATCH_SIZE=16")
    if name not in annotations:
        hint = errors.did_you_mean(name.upper(), annotations)
        raise errors.UserError(f"{origin}: unknown macro '{name}'{hint}")
    constants = {"true": True, "false": False, "none": None}
    if text.lower() in constants and fits(constants[text.lower()], annotations[name]):
        return name, Setting(constants[text.lower()], origin)
    with contextlib.suppress(errors.UserError):
        statements = _statements(f"{name} = {text}", origin)
        if len(statements) == 1:  # the text has no second line
            return name, Setting(_literal(statements[0].value, {}, origin), origin)
    if text and not text.startswith(("'", '"', "[", "(", "{", "@", "%")):
        return name, Setting(text, origin)  # text without quotes
    raise errors.UserError(f"{origin}: gin cannot read the value {shown(text)}")
