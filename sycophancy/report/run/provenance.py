"""How a run was made: its command, the versions of its packages, and the counts of its data."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from sycophancy.config import macros
from sycophancy.config.load import load_config
from sycophancy.errors import UserError
from sycophancy.report.run.record import RunRecord


@dataclasses.dataclass(frozen=True)
class Table:
    """Counts by data set, with a column for each kind of count."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]


def command(record: RunRecord) -> str:
    """A command line that makes the same run with this installation's models and recipes.

    Macros that differ from the recipe's become `--set`. If the model or the recipe is not shipped,
    the command copies the run's own `config.gin`.
    """
    model = str(record.macros.get("MODEL_NAME", ""))
    verb = "evaluate" if record.only_evaluated else "run"
    recipe = str(record.macros.get("RECIPE", ""))
    try:
        text = load_config(model, recipe).operative
    except UserError:
        config_file = shlex.quote(str(record.run / "config.gin"))
        return (
            f"mkdir -p runs/again && cp {config_file} runs/again/ && sycophancy {verb} --name again"
        )
    usual = {name: entry.value for name, entry in macros.read_text(text, "the recipe").items()}
    changed = [
        f"{name}={value if isinstance(value, str) else repr(value)}"
        for name, value in record.macros.items()
        if name in usual and _plain(value) != _plain(usual[name])
    ]
    parts = ["sycophancy", verb, "--model", model, "--recipe", recipe, "--name", "again"]
    for change in changed:
        parts += ["--set", change]
    return shlex.join(parts)


def versions(record: RunRecord) -> dict[str, str]:
    """Package -> its version in all stages; several if the stages ran with different ones."""
    packages: dict[str, list[str]] = {}
    for stage in record.stages:
        for package, version in stage.versions.items():
            known = packages.setdefault(package, [])
            if str(version) not in known:
                known.append(str(version))
    return {package: ", then ".join(known) for package, known in packages.items()}


def data_sets(record: RunRecord) -> Table | None:
    """How many rows of each data set's train split were read, dropped and taken."""
    counts = {
        name: {column: n for column, n in entry["train"].items() if isinstance(n, int)}
        for name, entry in _mapping(record.prepared.get("data_sets")).items()
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
        """The dropped share of all rows."""
        return self.dropped / self.of if self.of else 0.0


def too_long(record: RunRecord) -> list[Dropped]:
    """Rows that were longer than training or scoring takes, by data set and task.

    Raises:
      UserError: `prepare/summary.json` is not what prepare writes.
    """
    return _dropped(record, "too_long", lambda entry: (
        f"{entry['stage']}: {entry['kind']}", str(entry["name"]), f"limit: {entry['limit']}"
    ))  # fmt: skip


def bad_rows(record: RunRecord) -> list[Dropped]:
    """Rows that could not be used, by source and reason; raises as `too_long` does."""
    return _dropped(
        record, "bad_rows", lambda entry: ("", str(entry["source"]), str(entry["reason"]))
    )


def _dropped(
    record: RunRecord, part: str, words: Callable[[Mapping[str, Any]], tuple[str, str, str]]
) -> list[Dropped]:
    try:
        return [
            Dropped(*words(entry), int(entry["dropped"]), int(entry["of"]))
            for entry in record.prepared.get(part, ())
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"prepare/summary.json: {part} is not what prepare writes ({error!r}); prepare again"
        ) from None


def balance(record: RunRecord) -> dict[str, dict[str, int]]:
    """All other counts of `prepare`, by part."""
    return {
        _words(part): {_words(name): count for name, count in counts.items()}
        for part, counts in record.prepared.items()
        if part not in ("data_sets", "training_example") and isinstance(counts, Mapping)
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
