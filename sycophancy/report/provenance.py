"""What it takes to make the run again: command, versions, counts of the data."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from sycophancy.config import macros
from sycophancy.config.load import load_config
from sycophancy.errors import UserError
from sycophancy.report.reading import Reading


@dataclasses.dataclass(frozen=True)
class Table:
    """Counts by data set: a column for each thing counted."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]


def command(reading: Reading) -> str:
    """A command line that makes the same run with this installation's models and recipes.

    Macros that differ from the recipe's become `--set`. Where model or recipe are not shipped, the
    run's own `config.gin` is copied instead.
    """
    model = str(reading.macros.get("MODEL_NAME", ""))
    recipe = str(reading.macros.get("RECIPE", ""))
    try:
        text = load_config(model, recipe).operative
    except UserError:
        kept = shlex.quote(str(reading.run / "config.gin"))
        return f"mkdir -p runs/again && cp {kept} runs/again/ && sycophancy run --name again"
    usual = {name: said.value for name, said in macros.read_text(text, "the recipe").items()}
    changed = [
        f"{name}={value if isinstance(value, str) else repr(value)}"
        for name, value in reading.macros.items()
        if name in usual and _plain(value) != _plain(usual[name])
    ]
    parts = ["sycophancy", "run", "--model", model, "--recipe", recipe, "--name", "again"]
    for change in changed:
        parts += ["--set", change]
    return shlex.join(parts)


def versions(reading: Reading) -> dict[str, str]:
    """Package -> version over all stages; several if stages ran with different ones."""
    found: dict[str, list[str]] = {}
    for stage in reading.stages:
        for package, version in stage.versions.items():
            known = found.setdefault(package, [])
            if str(version) not in known:
                known.append(str(version))
    return {package: ", then ".join(known) for package, known in found.items()}


def data_sets(reading: Reading) -> Table | None:
    """What was read, dropped and taken of each data set's train split."""
    counts = {
        name: {column: n for column, n in entry["train"].items() if isinstance(n, int)}
        for name, entry in _mapping(reading.prepared.get("data_sets")).items()
        if isinstance(entry, Mapping) and isinstance(entry.get("train"), Mapping)
    }
    if not counts:
        return None
    columns = tuple(dict.fromkeys(column for entry in counts.values() for column in entry))
    rows = [(name, tuple(entry.get(c, 0) for c in columns)) for name, entry in counts.items()]
    total = tuple(sum(row[1][index] for row in rows) for index in range(len(columns)))
    return Table(tuple(map(_words, columns)), (*rows, ("all", total)))


@dataclasses.dataclass(frozen=True)
class Dropped:
    """Rows of one data set or task that were not used, and why.

    Attributes:
      where: `training`, `scoring` or the source; a stage, a kind of row or a file.
    """

    where: str
    name: str
    reason: str
    dropped: int
    of: int

    @property
    def share(self) -> float:
        """Of the rows there were."""
        return self.dropped / self.of if self.of else 0.0


def too_long(reading: Reading) -> list[Dropped]:
    """Rows that were longer than training or scoring takes, by data set and task.

    Raises:
      UserError: `prepare/summary.json` is not what prepare writes.
    """
    return _dropped(reading, "too_long", lambda entry: (
        f"{entry['stage']}: {entry['kind']}", str(entry["name"]), f"limit: {entry['limit']}"
    ))  # fmt: skip


def bad_rows(reading: Reading) -> list[Dropped]:
    """Rows that could not be used, by source and reason; raises as `too_long` does."""
    return _dropped(
        reading, "bad_rows", lambda entry: ("", str(entry["source"]), str(entry["reason"]))
    )


def _dropped(
    reading: Reading, part: str, words: Callable[[Mapping[str, Any]], tuple[str, str, str]]
) -> list[Dropped]:
    try:
        return [
            Dropped(*words(entry), int(entry["dropped"]), int(entry["of"]))
            for entry in reading.prepared.get(part, ())
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"prepare/summary.json: {part} is not what prepare writes ({error!r}); prepare again"
        ) from None


def balance(reading: Reading) -> dict[str, dict[str, int]]:
    """Everything else that was counted, by part."""
    return {
        _words(part): {_words(name): count for name, count in counts.items()}
        for part, counts in reading.prepared.items()
        if part != "data_sets" and isinstance(counts, Mapping)
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
