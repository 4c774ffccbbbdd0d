"""Items as JSON lines, which the exported tasks read."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item
from sycophancy.system import json_files, paths

SUFFIX = ".jsonl"


def identifier(name: str) -> str:
    """A name of a task or measure as other libraries can call it.

    >>> identifier("surveys/nlp"), identifier("2nd set")
    ('surveys_nlp', 'set_2nd_set')
    """
    plain = re.sub(r"\W", "_", name)
    return plain if plain.isidentifier() else f"set_{plain}"


def by_task(items: Iterable[Item]) -> dict[str, list[Item]]:
    """The items of each task, in their order.

    Raises:
      UserError: two tasks would have the same name in other libraries.
    """
    tasks: dict[str, list[Item]] = {}
    for item in items:
        tasks.setdefault(item.task, []).append(item)
    names: dict[str, str] = {}
    for task in tasks:
        if (other := names.setdefault(identifier(task), task)) != task:
            raise UserError(
                f"the sets {other!r} and {task!r} would both be exported as {identifier(task)}; "
                "rename one of them"
            )
    return tasks


def write(folder: Path, items: Sequence[Item]) -> str:
    """Writes the items of one task and returns the file's name.

    Raises:
      OSError: the file cannot be written.
    """
    name = identifier(items[0].task) + SUFFIX
    lines = (json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n" for item in items)
    paths.write_atomically(folder / name, "".join(lines))
    return name


def read(path: Path) -> list[Item]:
    """Reads the items of a file.

    Raises:
      UserError: the file cannot be read, or holds something other than items.
    """
    rows = json_files.read_lines(path, "export the sets again")
    return [Item(**row) for _, row in rows]
