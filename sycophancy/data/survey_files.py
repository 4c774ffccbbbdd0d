"""Where the survey rows come from: a folder, the hub, a mirror or the miniature."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sycophancy.config import DataConfig
from sycophancy.data import hub
from sycophancy.data.records import Record, read_records
from sycophancy.data.surveys import FILES, Question, check_survey, parse_question
from sycophancy.errors import UserError

HUB_ID = "Anthropic/model-written-evals"
# Its only data commit is "Add data." of 2022; the full hash is not known to us, hence the branch.
REVISION = "main"
# The original. The hub's philosophy file is a byte-for-byte copy of its NLP file.
GITHUB = "https://raw.githubusercontent.com/anthropics/evals/main/sycophancy"
_REMEDY = "get the files from github.com/anthropics/evals and pass their folder with --surveys DIR"


def load_surveys(config: DataConfig) -> dict[str, list[Question]]:
    """Loads the three surveys by name: `nlp`, `phil`, `poli`.

    Raises:
      UserError: a file is missing or malformed, or does not hold the survey it is named after.
    """
    if config.surveys is None and config.origin == "miniature":
        from sycophancy.data import miniature

        return {
            survey: _parse(_numbered(rows, f"miniature {survey} survey"))
            for survey, rows in miniature.surveys().items()
        }
    return {survey: _load(survey, config) for survey in FILES}


def _load(survey: str, config: DataConfig) -> list[Question]:
    name = f"{FILES[survey]}.jsonl"
    if config.surveys is None and config.origin == "hub":
        return _from_hub(survey, name)
    path = _folder(config) / name
    if not path.is_file():
        raise UserError(f"survey {survey!r}: {path} does not exist; {_REMEDY}")
    questions = _parse(read_records(path))
    check_survey(survey, questions, str(path))
    return questions


def _folder(config: DataConfig) -> Path:
    if config.surveys is not None:
        return Path(config.surveys)
    if config.mirror is None:
        raise UserError("origin 'mirror' needs a folder; pass --data-mirror DIR")
    return Path(config.mirror) / HUB_ID.replace("/", "__") / "sycophancy"


def _from_hub(survey: str, name: str) -> list[Question]:
    """Tries the hub, then the original on GitHub if the hub's file is another survey's."""
    what = f"survey {survey!r}"
    rows = hub.load_split(
        what,
        HUB_ID,
        data_files=f"sycophancy/{name}",
        split="train",
        revision=REVISION,
        remedy=_REMEDY,
    )
    questions = _parse(_numbered(rows, f"{HUB_ID} {name}"))
    try:
        check_survey(survey, questions, f"{HUB_ID} {name}")
    except UserError:
        url = f"{GITHUB}/{name}"
        rows = hub.load_split(what, "json", data_files=url, split="train", remedy=_REMEDY)
        questions = _parse(_numbered(rows, url))
        check_survey(survey, questions, url)
    return questions


def _numbered(rows: Iterable[dict[str, Any]], where: str) -> Iterable[Record]:
    return ((row, f"{where} row {number}") for number, row in enumerate(rows, start=1))


def _parse(records: Iterable[Record]) -> list[Question]:
    return [parse_question(row, where) for row, where in records]
