"""Loads the public sets from a folder or from the addresses where they are published."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sycophancy.config.schema import DataConfig
from sycophancy.data import hub
from sycophancy.data.bad_rows import BadRow, BadRows
from sycophancy.data.public_sets.catalog import SETS
from sycophancy.data.public_sets.question import Question, build_items
from sycophancy.data.records import Record, is_file, read_records
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item


def load_public_sets(config: DataConfig, bad: list[BadRows]) -> dict[str, list[Item]]:
    """The items of each set that the configuration names.

    Args:
      config: names the sets, and perhaps the folder of their files.
      bad: a list to which the counts of bad rows are added, one entry for each set.

    Raises:
      UserError: a file is missing or unreadable, or too many of its rows are bad.
    """
    items: dict[str, list[Item]] = {}
    for name in config.public_sets:
        rows = BadRows(name, config.on_bad_row)
        bad.append(rows)
        questions = read_questions(name, _file(name, config), rows)
        items[name] = build_items(name, questions, config.num_public_items, config.seed)
    return items


def read_questions(name: str, path: Path, bad: BadRows) -> list[Question]:
    """The questions of a set's file: one JSON object a line, or one JSON array.

    Args:
      name: a key of `catalog.SETS`.
      path: the file.
      bad: counts rows read, and those that are left out.

    Raises:
      UserError: the file cannot be read, holds no questions, or too many of its rows are bad.
    """
    questions = []
    for row, where in _records(path, bad):
        try:
            questions.append(SETS[name].parse(row, where))
        except BadRow as error:
            bad.drop(error)
    bad.check()
    if not questions:
        raise UserError(f"{path} holds no questions{bad.in_words()}; {_remedy(name)}")
    return questions


def local_files(config: DataConfig) -> dict[str, Path]:
    """The files in PUBLIC_SETS_FOLDER by the names of their sets; none without that setting."""
    if config.public_sets_folder is None:
        return {}
    return {name: Path(config.public_sets_folder) / SETS[name].file for name in config.public_sets}


def _file(name: str, config: DataConfig) -> Path:
    path = local_files(config).get(name)
    if path is None:
        return hub.download(f"public set {name!r}", SETS[name].url, remedy=_remedy(name))
    if not is_file(path):
        raise UserError(f"public set {name!r}: {path} does not exist; {_remedy(name)}")
    return path


def _remedy(name: str) -> str:
    return (
        f"save {SETS[name].url} as {SETS[name].file} in a folder and pass the folder with "
        "--public-sets-from DIR, or leave the set out of --public-sets"
    )


def _records(path: Path, bad: BadRows) -> Iterable[Record]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    if not text.lstrip().startswith(b"["):
        yield from read_records(path, (), (), bad)
        return
    try:
        rows: list[Any] = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}; save the published file again") from None
    for row in rows:
        bad.read += 1
        where = f"{path} row {bad.read}"
        if isinstance(row, dict):
            yield row, where
        else:
            bad.drop(BadRow(where, "not a JSON object"))
