"""The three sycophancy surveys of Perez et al. 2022 (arXiv 2212.09251), with and without biography.

A row has a biography that reveals the user's view, a question of the survey, and choices. It
becomes a pair of items: as published (`user_view`) and without the biography (`neutral`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from sycophancy.data import draws, prompts
from sycophancy.data.bad_rows import BadRow
from sycophancy.data.records import is_text
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item

# file names without `.jsonl`, by the name of the survey
FILES = {
    "nlp": "sycophancy_on_nlp_survey",
    "phil": "sycophancy_on_philpapers2020",
    "poli": "sycophancy_on_political_typology_quiz",
}

FIELDS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")

# The beginnings of the surveys' questions. The biography ends before the last of them in a row. The
# questions of the political quiz have no common beginning, so all sixteen are listed.
_NLP_STEM = r"Do you agree or disagree with the following claim"
_PHIL_STEM = r"What is your view on"
_STEMS = re.compile(
    "|".join(
        [
            _NLP_STEM,
            r"Do you agree or disagree",
            _PHIL_STEM,
            r"Which of (?:the following|these) statements",
            r"Which of the following",
            r"In the future, do you think",
            r"In general, how much do",
            r"In general, would you say",
            r"How much more, if anything,",
            r"How much of a problem would you say",
            r"How much, if at all,",
            r"How do you feel toward",
            r"Thinking about increased trade",
            r"If you had to choose,",
            r"Do you think greater social acceptance",
            r"Overall, would you say",
        ]
    )
)

# Which survey a file holds; the hub's philosophy file holds the NLP survey.
_MARKS = {"nlp": re.compile(_NLP_STEM), "phil": re.compile(_PHIL_STEM)}

_CHOICE = re.compile(r"\(([A-Z])\)\s*(.*)")
_ANSWER = re.compile(r"\s*\(?([A-Z])\)?(?:[\s.:].*)?\s*", re.DOTALL)
# A full stop that does not end a sentence: after initials and common titles.
_ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:Dr|Mr|Mrs|Ms|St|Prof|Jr|Sr|vs|etc|e\.g|i\.e))\.$")


@dataclasses.dataclass(frozen=True)
class Question:
    """The parts of one survey row.

    Attributes:
      biography: the user's introduction; empty if the row has none.
      question: the survey's question, without choices.
      choices: the lines of the choices, after `Choices:` if the row has it.
      letters: `(A)`, `(B)`, ... for the choices.
      user_choices: indices of the choices that match the user's view.
    """

    biography: str
    question: str
    choices: str
    letters: tuple[str, ...]
    user_choices: tuple[int, ...]

    def with_biography(self) -> str:
        """The prompt as published."""
        opening = f"{self.biography} {self.question}" if self.biography else self.question
        return self._prompt(opening)

    def without_biography(self) -> str:
        """The prompt without the user."""
        return self._prompt(self.question)

    def _prompt(self, opening: str) -> str:
        return prompts.SURVEY.format(question=f"{opening}{self.choices}\n\nAnswer:")


def parse_question(row: dict[str, Any], where: str) -> Question:
    """Splits a row of a survey file into its parts.

    An answer may be a string or a list, with or without a space before the letter. A row may have
    two or more choices, with or without a line `Choices:`.

    Args:
      row: has `FIELDS`; an answer is a text or a list of texts.
      where: file and line, for messages.

    Raises:
      BadRow: a field is missing or not text, the row has fewer than two choices, their letters are
        not A, B, ... or an answer is not a choice.
    """
    for field in FIELDS:
        if row.get(field) is None:
            raise BadRow(where, f"no field {field!r}")
    if not is_text(row["question"]):
        raise BadRow(where, "the question is not text", repr(row["question"]))
    opening, choices, letters = _split_choices(row["question"], where)
    matching = _answers(row["answer_matching_behavior"], letters, where)
    others = _answers(row["answer_not_matching_behavior"], letters, where)
    if not matching or set(matching) & set(others):
        answers = f"{row['answer_matching_behavior']!r}, {row['answer_not_matching_behavior']!r}"
        raise BadRow(where, "the answers do not tell the choices apart", answers)
    start = _question_start(opening)
    return Question(
        biography=opening[:start].rstrip(),
        question=opening[start:],
        choices=choices,
        letters=letters,
        user_choices=matching,
    )


def check_survey(survey: str, questions: Iterable[Question], where: str) -> None:
    """Checks that a file holds the survey of its name.

    Raises:
      UserError: most questions are of another survey, or most questions of the philosophy file do
        not begin as those of PhilPapers. The hub's philosophy file holds the NLP survey.
    """
    texts = [question.question for question in questions]
    if not texts:
        raise UserError(f"{where} holds no questions; get it from github.com/anthropics/evals")
    for other, mark in _MARKS.items():
        share = sum(bool(mark.match(text)) for text in texts) / len(texts)
        if (other != survey and share > 0.5) or (other == survey == "phil" and share < 0.5):
            actual = f"{share:.0%} of its rows are the {other} survey's"
            raise UserError(
                f"{where} does not hold the {survey} survey ({actual}); get the file from"
                " github.com/anthropics/evals and pass its folder with --surveys DIR"
            )


def build_items(survey: str, questions: Iterable[Question], count: int, seed: int) -> list[Item]:
    """Samples questions, and makes an item of each with and without its biography.

    Args:
      survey: `nlp`, `phil` or `poli`.
      questions: the file's rows; equal ones count once.
      count: how many questions to sample; all if there are fewer.
      seed: the run's seed; the sample does not depend on the order of the rows.

    Returns:
      Two items for each question. Both have the choices that match the user, so that the match rate
      can be computed without the biography, too.
    """
    distinct = {question.with_biography(): question for question in questions}
    contents = list(distinct)
    hashes = draws.content_hashes(contents)
    ranks = draws.words(hashes, seed, f"survey {survey}")
    ids = draws.hexadecimal(hashes)
    order = sorted(range(len(contents)), key=lambda row: (int(ranks[row]), ids[row]))
    items: list[Item] = []
    for row in order[:count]:
        items.extend(_pair(survey, ids[row], distinct[contents[row]]))
    return items


def _pair(survey: str, content_id: str, question: Question) -> Iterator[Item]:
    pair = f"surveys/{survey}/{content_id}"
    view = Item(
        item_id=f"{pair}/user_view",
        task=f"surveys/{survey}",
        condition="user_view",
        pair_id=pair,
        inputs=question.with_biography(),
        choices=question.letters,
        user_choices=question.user_choices,
    )
    yield view
    yield dataclasses.replace(
        view,
        item_id=f"{pair}/neutral",
        condition="neutral",
        inputs=question.without_biography(),
    )


def _split_choices(text: str, where: str) -> tuple[str, str, tuple[str, ...]]:
    """Splits a question into its opening, the lines of its choices, and their letters."""
    lines = text.rstrip().removesuffix("Answer:").rstrip().split("\n")
    first = len(lines)
    while first > 0 and (_CHOICE.match(lines[first - 1].strip()) or not lines[first - 1].strip()):
        first -= 1
    block = lines[first:]
    letters = [match[1] for line in block if (match := _CHOICE.match(line.strip()))]
    expected = [chr(ord("A") + index) for index in range(len(letters))]
    if len(letters) < 2 or letters != expected:
        raise BadRow(
            where, "no choices (A), (B), ... at the end of the question", letters or "none"
        )
    if first > 0 and lines[first - 1].strip().lower() == "choices:":
        first -= 1
    opening = "\n".join(lines[:first])
    body = opening.rstrip()
    return body, "\n".join([opening[len(body) :], *lines[first:]]), tuple(f"({x})" for x in letters)


def _answers(given: Any, letters: tuple[str, ...], where: str) -> tuple[int, ...]:
    """Indices of the choices in an answer field, which is a string or a list of strings."""
    indices = set()
    for answer in given if isinstance(given, list) else [given]:
        match = _ANSWER.fullmatch(answer) if isinstance(answer, str) else None
        letter = f"({match[1]})" if match else ""
        if letter not in letters:
            raise BadRow(where, "an answer is none of the choices", repr(answer))
        indices.add(letters.index(letter))
    return tuple(sorted(indices))


def _question_start(opening: str) -> int:
    """The position where the biography ends and the question begins.

    It is the last known beginning of a question; without one, the beginning of the last sentence
    that ends with `?`, `...` or `:`; without such a sentence, the beginning of the last sentence.
    """
    stems = [match.start() for match in _STEMS.finditer(opening)]
    if stems:
        return stems[-1]
    breaks = re.finditer(r"(?<=[.!?])[\"')]*\s+(?=\S)", opening)
    starts = [0] + [
        match.end()
        for match in breaks
        if not _ABBREVIATION.search(opening[max(match.start() - 8, 0) : match.start()])
    ]
    for start, end in zip(reversed(starts), [len(opening), *reversed(starts)], strict=False):
        if opening[start:end].rstrip().endswith(("?", "...", ":")):
            return start
    return starts[-1]
