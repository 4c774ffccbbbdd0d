"""Loads the three surveys from a folder, the hub, a mirror or the miniature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sycophancy.config.schema import DataConfig
from sycophancy.data import hub
from sycophancy.data.bad_rows import NOT_UTF8, BadRow, BadRows
from sycophancy.data.records import Record, is_file, numbered, read_records
from sycophancy.data.surveys import FIELDS, FILES, Question, check_survey, parse_question
from sycophancy.errors import UserError

HUB_ID = "Anthropic/model-written-evals"
# A branch: the full hash of its only data commit ("Add data.", 2022) is not known to this project.
REVISION = "main"
# The original. The hub's philosophy file is a byte-for-byte copy of its NLP file.
GITHUB = "https://raw.githubusercontent.com/anthropics/evals/main/sycophancy"
_REMEDY = "get the files from github.com/anthropics/evals and pass their folder with --surveys DIR"


def load_surveys(config: DataConfig, bad: list[BadRows] | None = None) -> dict[str, list[Question]]:
    """Loads the three surveys by name: `nlp`, `phil`, `poli`.

    Args:
      config: names the origin.
      bad: a list to which the counts of bad rows are added, one entry for each survey.

    Raises:
      UserError: a file is missing or unreadable, too many of its rows are bad, or it does not hold
        the survey of its name.
    """
    surveys = {}
    for survey in FILES:
        rows = BadRows(f"surveys/{survey}", config.on_bad_row)
        surveys[survey] = _load(survey, config, rows)
        if bad is not None:
            bad.append(rows)
    return surveys


def _load(survey: str, config: DataConfig, bad: BadRows) -> list[Question]:
    name = f"{FILES[survey]}.jsonl"
    if config.surveys is None and config.origin == "miniature":
        from sycophancy.data import miniature

        records = numbered(miniature.surveys()[survey], f"miniature {survey} survey", bad)
        return _parse(records, bad)
    if config.surveys is None and config.origin == "hub":
        return _from_hub(survey, name, bad)
    path = survey_folder(config) / name
    if not is_file(path):
        raise UserError(f"survey {survey!r}: {path} does not exist; {_REMEDY}")
    questions = _parse(read_records(path, FIELDS, (), bad), bad)
    if not questions:
        raise UserError(f"{path} holds no questions{bad.in_words()}; {_REMEDY}")
    check_survey(survey, questions, str(path))
    return questions


def survey_folder(config: DataConfig) -> Path:
    """The folder of the three survey files: SURVEYS, or the mirror's.

    Raises:
      UserError: the origin is a mirror without a folder.
    """
    if config.surveys is not None:
        return Path(config.surveys)
    if config.mirror is None:
        raise UserError("origin 'mirror' needs a folder; pass --data-mirror DIR")
    return Path(config.mirror) / HUB_ID.replace("/", "__") / "sycophancy"


def _from_hub(survey: str, name: str, bad: BadRows) -> list[Question]:
    """Reads the hub's file, or the original on GitHub if the hub's file holds another survey."""
    what = f"survey {survey!r}"
    rows = hub.load_split(
        what,
        HUB_ID,
        data_files=f"sycophancy/{name}",
        split="train",
        revision=REVISION,
        remedy=_REMEDY,
    )
    questions = _parse(_from_data_set(rows, f"{HUB_ID} {name}", bad), bad)
    try:
        check_survey(survey, questions, f"{HUB_ID} {name}")
    except UserError:
        url = f"{GITHUB}/{name}"
        rows = hub.load_split(what, "json", data_files=url, split="train", remedy=_REMEDY)
        bad.reset()
        questions = _parse(_from_data_set(rows, url, bad), bad)
        check_survey(survey, questions, url)
    return questions


def _from_data_set(rows: Sequence[dict[str, Any]], where: str, bad: BadRows) -> Iterable[Record]:
    for index in range(len(rows)):
        bad.read += 1
        try:
            yield rows[index], f"{where} row {bad.read}"
        except UnicodeDecodeError as error:
            bad.drop(BadRow(f"{where} row {bad.read}", NOT_UTF8, error.reason))


def _parse(records: Iterable[Record], bad: BadRows) -> list[Question]:
    questions = []
    for row, where in records:
        try:
            questions.append(parse_question(row, where))
        except BadRow as error:
            bad.drop(error)
    bad.check()
    return questions
