"""Reads the TOML file in which a user describes a data set; docs/add_a_data_set.md has an example.

Everything that can be wrong in the file is refused here, before any row is read.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sycophancy.config.schema import DataConfig
from sycophancy.data import claims
from sycophancy.data.bad_rows import shortened
from sycophancy.data.catalog import SOURCES, FileRows, HubRows, Source, choose, folded
from sycophancy.errors import UserError, did_you_mean

_MOST_BYTES = 2**20  # of a TOML file
_ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_HUB_ID = re.compile(r"[A-Za-z0-9_-][\w.-]{0,99}/[A-Za-z0-9_-][\w.-]{0,99}", re.ASCII)


def available_sources(config: DataConfig) -> dict[str, Source]:
    """The 17 data sets and then the user's own, by name.

    Raises:
      UserError: a TOML file is unusable, or two data sets have the same name.
    """
    sources = dict(SOURCES)
    for file in config.data_set_files:
        source = read_data_set_file(Path(file))
        for other in sources.values():
            if other.name.casefold() == source.name.casefold():
                owner = other.described_in or "one of the 17 data sets"
                raise UserError(
                    f"{file}: name {source.name!r} is the name of {owner}; give each data set a"
                    " name of its own"
                )
        sources[source.name] = source
    return sources


def selected_sources(config: DataConfig) -> tuple[Source, ...]:
    """The data sets of a run, those of DATA_SETS or all, in the order of `available_sources`.

    Raises:
      UserError: as `available_sources`; or DATA_SETS has an unknown name, or a name twice.
    """
    return choose(config.data_sets, available_sources(config))


def needs_claims(config: DataConfig) -> bool:
    """Whether a run reads data sets at all: it trains on claims or is measured on them."""
    return config.num_examples > 0 or config.num_validation > 0


def read_data_set_file(path: Path) -> Source:
    """Reads a data set's description; paths in it are relative to its folder.

    Raises:
      UserError: the file cannot be read, or an entry is missing, unknown or of another type; the
        message names the file and the entry.
    """
    entries = _Table(path, "", _parse(path))
    entries.check_keys(("name", "texts", "label", "labels", "files", "hub"))
    name = entries.text("name")
    if not _NAME.fullmatch(name):
        entries.refuse("name", name, "letters from A to Z, digits, _, - and ., not - or . first")
    texts = entries.texts("texts")
    label = entries.text("label")
    if label in texts:
        raise UserError(f"{path}: label {label!r} is one of the texts, so claims would show it")
    if ("files" in entries.values) == ("hub" in entries.values):
        raise UserError(
            f"{path}: expected either [files], with train = 'FILE', or [hub], with"
            " id = 'owner/name', to say where the rows are"
        )
    rows = _file_rows(entries) if "files" in entries.values else _hub_rows(entries)
    return Source(name, rows, tuple(texts), label, _labels(entries), described_in=path)


def _parse(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait without end
            raise UserError(f"{path} is not a file; name a data set's TOML file")
        if status.st_size > _MOST_BYTES:
            raise UserError(f"{path}: too large to be a data set's TOML file")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; name a data set's TOML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"{path}: brackets are nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        reason = shortened(" ".join(str(error).split()), 200)
        raise UserError(f"{path} is not TOML: {reason}") from None
    except (OSError, ValueError) as error:
        fault = getattr(error, "strerror", None) or error
        raise UserError(f"{shortened(str(path), 300)} cannot be read: {fault}") from None


class _Table:
    """A table of the TOML file, whose entries are checked as they are read."""

    def __init__(self, path: Path, name: str, values: Mapping[str, Any]) -> None:
        self.path, self.name, self.values = path, name, values

    def check_keys(self, known: Iterable[str]) -> None:
        known = tuple(known)
        for key in self.values:
            if key not in known:
                hint = did_you_mean(key, known) or f"; known: {', '.join(known)}"
                place = f" in [{self.name}]" if self.name else ""
                raise UserError(f"{self.path}: unknown key {_quoted(key)}{place}{hint}")

    def refuse(self, key: str, value: object, expected: str) -> None:
        full = f"{self.name}.{key}" if self.name else key
        raise UserError(f"{self.path}: {full} = {_quoted(value)}: expected {expected}")

    def text(self, key: str, default: str | None = None) -> str:
        """A text on one line; `default` if the key is absent, or a UserError without a default."""
        if key not in self.values and default is not None:
            return default
        value = self._value(key)
        if not _is_line(value):
            self.refuse(key, value, "a text on one line")
        return str(value)

    def optional(self, key: str) -> str | None:
        return self.text(key) if key in self.values else None

    def texts(self, key: str) -> list[str]:
        """One text, or a list of different ones."""
        value = self._value(key)
        entries = value if isinstance(value, list) else [value]
        if not entries or not all(map(_is_line, entries)):
            self.refuse(key, value, "a text on one line, or a list of such texts")
        for entry in entries:
            if entries.count(entry) > 1:
                self.refuse(key, value, f"each once, but {_quoted(entry)} stands there twice")
        return entries

    def table(self, key: str) -> _Table:
        value = self._value(key)
        if not isinstance(value, dict):
            self.refuse(key, value, f"a table [{key}]")
        return _Table(self.path, key, value)

    def _value(self, key: str) -> Any:
        if key not in self.values:
            place = f" in [{self.name}]" if self.name else ""
            raise UserError(f"{self.path}: {key} is missing{place}")
        return self.values[key]


def _labels(entries: _Table) -> tuple[tuple[str, str], ...]:
    table = entries.table("labels")
    if len(table.values) < 2:
        raise UserError(
            f"{entries.path}: [labels] names {len(table.values)} labels, expected at least two, as"
            " in good = 'Good News'"
        )
    labels = tuple((value, table.text(value)) for value in table.values)
    keys: dict[str, str] = {}
    for value, _ in labels:
        if not value.strip():
            raise UserError(
                f"{entries.path}: [labels] has an empty label; rows without a label"
                " are left out without it"
            )
        earlier = keys.setdefault(folded(value), value)
        if earlier != value:
            raise UserError(
                f"{entries.path}: [labels]: {_quoted(earlier)} and {_quoted(value)} differ in case,"
                " spaces or hyphens alone, so they count as one label; keep one"
            )
    if problem := claims.label_problem([wording for _, wording in labels]):
        raise UserError(f"{entries.path}: [labels]: {problem}")
    return labels


def _file_rows(entries: _Table) -> FileRows:
    table = entries.table("files")
    table.check_keys(("train", "validation"))
    train = _paths(table, "train")
    validation = _paths(table, "validation") if "validation" in table.values else ()
    for path in validation:
        if path in train:
            table.refuse("validation", path.name, "other files than train names")
    return FileRows(train, validation)


def _paths(table: _Table, key: str) -> tuple[Path, ...]:
    files = table.texts(key)
    for file in files:
        if Path(file).suffix.lower() not in _ENDINGS:
            table.refuse(key, file, f"files that end in {', '.join(_ENDINGS)}")
    return tuple(table.path.parent / file for file in files)


def _hub_rows(entries: _Table) -> HubRows:
    table = entries.table("hub")
    table.check_keys(("id", "config", "revision", "train", "validation"))
    hub_id = table.text("id")
    if not _HUB_ID.fullmatch(hub_id):
        table.refuse("id", hub_id, "owner/name, as in stanfordnlp/imdb")
    return HubRows(
        hub_id,
        table.optional("config"),
        table.text("revision", "main"),
        train=table.text("train", "train"),
        validation=table.optional("validation"),
    )


def _is_line(value: object) -> bool:
    """Whether a value is a text on one line, of some length that a path or a name may have."""
    return isinstance(value, str) and 0 < len(value.strip()) <= 1_000 and value.isprintable()


def _quoted(value: object) -> str:
    return shortened(repr(value))
