"""A user's own evaluation set: a file of JSON lines, one item a line, checked line by line.

    {"pair": "sky", "condition": "neutral", "prompt": ..., "choices": ["yes", "no"], "answer": 0}
    {"pair": "sky", "condition": "user_wrong", "prompt": ..., "choices": ["yes", "no"], "answer": 0}

`docs/add_an_evaluation.md` explains the fields. The set's name is the file's name without `.jsonl`,
and begins the names of its metrics.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from sycophancy.config.bounds import Name, Text, shown
from sycophancy.errors import UserError, did_you_mean
from sycophancy.evaluation.items import CONDITIONS, Condition, Item
from sycophancy.evaluation.naming import TASKS
from sycophancy.system import json_files

REQUIRED = ("prompt", "choices", "condition")
OPTIONAL = ("answer", "user_choices", "free_text", "pair", "id")
FIELDS = (*REQUIRED, *OPTIONAL)

SUFFIX = ".jsonl"
NAME_BYTES = 100  # most bytes of a set's name
ID_BYTES = 200  # most bytes of an `id` or a `pair`

# Names of built-in tasks, of the groups they belong to and of their files.
RESERVED = frozenset(
    name for task in TASKS for name in (task, task.split("/")[0], task.replace("/", "_"))
)


@dataclasses.dataclass(frozen=True)
class OwnSet:
    """The items of one file.

    Attributes:
      name: the file's name without its suffix; the task of every item.
      items: in the file's order.
      notes: sentences on what the file leaves unmeasured.
    """

    name: str
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def read_own_sets(paths: Iterable[str | Path]) -> list[OwnSet]:
    """Reads and checks the files of several sets.

    Raises:
      UserError: a name that a set cannot have, a file that cannot be read or a faulty line; the
        message begins with the file and the line.
    """
    return [read_own_set(path) for path in named_files(paths).values()]


def named_files(paths: Iterable[str | Path]) -> dict[str, Path]:
    """The files of own sets by the sets' names.

    Raises:
      UserError: a file without the suffix `.jsonl`, a name that cannot name a folder or belongs to
        a built-in task, or two files of one name. Upper and lower case count as the same.

    >>> list(named_files(["sets/loyalty.jsonl", "tone.jsonl"]))
    ['loyalty', 'tone']
    """
    files: dict[str, Path] = {}
    folded: dict[str, Path] = {}
    for path in map(Path, paths):
        name = set_name(path)
        if (earlier := folded.get(name.casefold())) is not None:
            raise UserError(
                f"evaluation sets {earlier} and {path} have the same name; rename one of the files"
            )
        files[name] = folded[name.casefold()] = path
    return files


def set_name(path: Path) -> str:
    """The name of the set in a file: the file's name without `.jsonl`.

    Raises:
      UserError: as `named_files`.
    """
    if path.suffix.lower() != SUFFIX:
        raise UserError(
            f"evaluation set {shown(str(path))}: expected a file whose name ends in {SUFFIX}"
        )
    name = path.stem
    problem = Name().problem(name) or Text(1, NAME_BYTES).problem(name)
    if not problem and (name != name.strip() or name.startswith(".")):
        problem = "a name that begins with no dot and has no space at its ends"
    if problem:
        raise UserError(
            f"evaluation set {shown(str(path))}: the file names the set; expected {problem}"
        )
    if name.casefold() in RESERVED:
        raise UserError(
            f"evaluation set {shown(str(path))}: {name!r} is the name of a built-in task; "
            "rename the file"
        )
    return name


def read_own_set(path: str | Path) -> OwnSet:
    """Reads and checks one file; blank lines are skipped.

    Raises:
      UserError: as `read_own_sets`.
    """
    path = Path(path)
    name = set_name(path)
    rows = [
        _parse(row, where)
        for where, row in json_files.read_lines(path, "name a file with one JSON object a line")
    ]
    if not rows:
        raise UserError(f"{path} has no items; write one JSON object a line")
    return _own_set(name, rows)


def build_items(name: str, rows: Iterable[Mapping[str, object]]) -> list[Item]:
    """Items of one's own, from the same fields as a line of a file.

    Args:
      name: of the set; begins the names of its metrics.
      rows: mappings with the fields `prompt`, `choices`, `condition` and, where they apply,
        `answer`, `user_choices`, `free_text`, `pair` and `id`.

    Returns:
      The items in the order of the rows. A neutral item without `user_choices` gets those of the
      `user_view` item of its pair.

    Raises:
      UserError: a faulty row; the message names the set, and the row counted from 1.

    >>> question = {"choices": ["yes", "no"], "answer": "yes", "pair": "sum"}
    >>> items = build_items("sums", [
    ...     {"condition": "neutral", "prompt": "Is 1 + 1 = 2?", **question},
    ...     {"condition": "user_wrong", "prompt": "I say no. Is 1 + 1 = 2?", **question},
    ... ])
    >>> [(item.task, item.condition, item.answer) for item in items]
    [('sums', 'neutral', 0), ('sums', 'user_wrong', 0)]
    """
    parsed = [_parse(row, f"{name}: row {number}") for number, row in enumerate(rows, 1)]
    return list(_own_set(name, parsed).items)


@dataclasses.dataclass(frozen=True)
class _Row:
    """One checked line; `where` is its place, such as `loyalty.jsonl:3`."""

    where: str
    prompt: str
    choices: tuple[str, ...]
    condition: Condition
    answer: int
    user_choices: tuple[int, ...]
    free_text: bool
    pair: str
    own_id: str

    @property
    def item_id(self) -> str:
        """The row's own id, or a hash of its content, which does not depend on its place."""
        if self.own_id:
            return self.own_id
        content = json.dumps([self.prompt, self.choices, self.condition, self.pair])
        return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()


def _own_set(name: str, rows: Sequence[_Row]) -> OwnSet:
    """The rows as items, once they are checked against each other."""
    _check_distinct(rows)
    pairs: dict[str, dict[str, _Row]] = {}
    for row in rows:
        _check_condition(row)
        if row.pair:
            _add_to_pair(pairs.setdefault(row.pair, {}), row)
    rows = [_with_users_choices(row, pairs) for row in rows]
    for row in rows:
        _check_measured(row)
    items = tuple(
        Item(
            item_id=f"{name}/{row.item_id}",
            task=name,
            condition=row.condition,
            pair_id=f"{name}/pair/{row.pair}" if row.pair else f"{name}/item/{row.item_id}",
            inputs=row.prompt,
            choices=row.choices,
            answer=row.answer,
            user_choices=row.user_choices,
            free_text=row.free_text,
        )
        for row in rows
    )
    single = [pair for pair, members in pairs.items() if len(members) == 1]
    notes: tuple[str, ...] = ()
    if single:
        notes = (
            f"{name}: {len(single):,} of {len(pairs):,} pairs have one item only, so they do not "
            f"count for flip rates (the first: {shown(single[0])})",
        )
    return OwnSet(name, items, notes)


def _check_distinct(rows: Sequence[_Row]) -> None:
    """Refuses two rows with one id, or with the same content where there is no id."""
    seen: dict[str, _Row] = {}
    for row in rows:
        earlier = seen.setdefault(row.item_id, row)
        if earlier is row:
            continue
        if row.own_id:
            raise UserError(
                f"{row.where}: id {shown(row.own_id)} is also that of {earlier.where}; "
                "give every item an id of its own, or none"
            )
        raise UserError(
            f"{row.where}: has the prompt, choices, condition and pair of {earlier.where}; "
            "delete one of the two"
        )


def _add_to_pair(members: dict[str, _Row], row: _Row) -> None:
    """Adds a row to the pair it names, by condition."""
    for earlier in members.values():
        what = f"{row.where}: pair {shown(row.pair)}"
        if earlier.condition == row.condition:
            raise UserError(
                f"{what} has two items of condition {row.condition!r}, the other in "
                f"{earlier.where}; a pair has one item a condition, so give one of them another "
                "pair"
            )
        if earlier.choices != row.choices:
            raise UserError(
                f"{what} has choices {shown(list(row.choices))}, but "
                f"{shown(list(earlier.choices))} in {earlier.where}; the items of a pair "
                "offer the same choices in the same order"
            )
        if earlier.free_text != row.free_text:
            raise UserError(
                f"{what} has free_text {_json(row.free_text)}, but {_json(earlier.free_text)} in "
                f"{earlier.where}; the choices of a pair's items are compared in the same way"
            )
        if row.answer >= 0 and earlier.answer >= 0 and row.answer != earlier.answer:
            raise UserError(
                f"{what} has answer {row.answer}, but {earlier.answer} in {earlier.where}; "
                "the items of a pair have the same right answer"
            )
    members[row.condition] = row


def _with_users_choices(row: _Row, pairs: Mapping[str, Mapping[str, _Row]]) -> _Row:
    """A neutral row with the choices of the user whom its pair introduces."""
    view = pairs.get(row.pair, {}).get("user_view")
    if row.condition != "neutral" or view is None:
        return row
    if row.user_choices and set(row.user_choices) != set(view.user_choices):
        raise UserError(
            f"{row.where}: user_choices are {list(row.user_choices)}, but "
            f"{list(view.user_choices)} for the user of the same pair in {view.where}; leave them "
            "out of the neutral item"
        )
    return dataclasses.replace(row, user_choices=view.user_choices)


def _check_condition(row: _Row) -> None:
    """Refuses a row that lacks what its condition needs, or contradicts its condition."""
    if len(row.choices) == 1:
        if row.condition != "neutral" or row.user_choices:
            raise UserError(
                f"{row.where}: an item with one choice is right if the model would write exactly "
                "that text; its condition is 'neutral' and it has no user_choices"
            )
        return
    if row.condition == "user_view" and not row.user_choices:
        raise UserError(
            f"{row.where}: an item of condition 'user_view' needs user_choices, the choices that "
            "match the user's view"
        )
    if row.condition in ("user_wrong", "user_right") and row.answer < 0:
        raise UserError(
            f"{row.where}: an item of condition {row.condition!r} needs an answer, the right choice"
        )
    if len(set(row.user_choices)) == len(row.choices):
        raise UserError(
            f"{row.where}: user_choices names every choice, so every answer would match the user"
        )
    has_answer = row.answer in row.user_choices
    if row.user_choices and row.condition == "user_wrong" and has_answer:
        raise UserError(
            f"{row.where}: the condition is 'user_wrong', but user_choices has the right answer"
        )
    if row.user_choices and row.condition == "user_right" and not has_answer:
        raise UserError(
            f"{row.where}: the condition is 'user_right', but user_choices lacks the right answer"
        )


def _check_measured(row: _Row) -> None:
    """Refuses a neutral row of which nothing could be measured, once pairs are known."""
    if len(row.choices) > 1 and row.answer < 0 and not row.user_choices:
        raise UserError(
            f"{row.where}: nothing can be measured of this neutral item; give it an answer, or a "
            "pair with an item of condition 'user_view'"
        )


def _parse(row: Mapping[str, object], where: str) -> _Row:
    """Checks the fields of one row, each for itself."""
    for field in row:
        if field not in FIELDS:
            raise UserError(
                f"{where}: unknown field {shown(field)}{did_you_mean(str(field), FIELDS)} "
                f"(the fields: {', '.join(FIELDS)})"
            )
    for field in REQUIRED:
        if field not in row:
            raise UserError(f"{where}: the field {field!r} is missing")
    choices = _choices(row["choices"], where)
    condition = row["condition"]
    if not isinstance(condition, str) or condition not in CONDITIONS:
        raise UserError(
            f"{where}: condition is {shown(condition)}, expected one of {', '.join(CONDITIONS)}"
            f"{did_you_mean(condition, CONDITIONS) if isinstance(condition, str) else ''}"
        )
    answer = row.get("answer")
    if type(answer) is int and answer == -1:
        answer = None
    free_text = row.get("free_text")
    if not isinstance(free_text, bool | None):
        raise UserError(f"{where}: free_text is {shown(free_text)}, expected true or false")
    users = row.get("user_choices")
    if users is not None and not isinstance(users, list | tuple):
        raise UserError(f"{where}: user_choices is {shown(users)}, expected a list of choices")
    user_choices = tuple(_index(user, choices, f"{where}: user_choices") for user in users or ())
    if len(set(user_choices)) < len(user_choices):
        raise UserError(f"{where}: user_choices names a choice twice: {shown(users)}")
    return _Row(
        where=where,
        prompt=_text(row["prompt"], f"{where}: prompt"),
        choices=choices,
        condition=cast(Condition, condition),
        answer=-1 if answer is None else _index(answer, choices, f"{where}: answer", " or null"),
        user_choices=user_choices,
        free_text=bool(free_text),
        pair=_identifier(row.get("pair"), f"{where}: pair"),
        own_id=_identifier(row.get("id"), f"{where}: id"),
    )


def _json(value: bool) -> str:
    return str(value).lower()


def _text(value: object, what: str) -> str:
    """A text that a model can be given."""
    if not isinstance(value, str):
        raise UserError(f"{what} is {shown(value)}, expected a text")
    if not value.strip():
        raise UserError(f"{what} is {shown(value)}, expected a text that is not empty")
    if "\0" in value:
        raise UserError(f"{what} has a NUL character, expected a text without: {shown(value)}")
    if any(unicodedata.category(character) == "Cs" for character in value):
        raise UserError(f"{what} has half of a surrogate pair, expected Unicode: {shown(value)}")
    return value


def _choices(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise UserError(f"{where}: choices is {shown(value)}, expected a list of one or more texts")
    choices = tuple(_text(choice, f"{where}: choice {index}") for index, choice in enumerate(value))
    twice = [text for text, count in Counter(map(_as_scored, choices)).items() if count > 1]
    if twice:
        raise UserError(
            f"{where}: the choice {shown(twice[0])} is there twice; a model cannot tell them apart"
        )
    return choices


def _index(value: object, choices: Sequence[str], what: str, other: str = "") -> int:
    """The index of a choice that is given by its index or by its text."""
    last = len(choices) - 1
    if type(value) is int:
        if 0 <= value <= last:
            return value
        raise UserError(f"{what} is {shown(value)}, expected an index from 0 to {last}{other}")
    if isinstance(value, str):
        scored = [_as_scored(choice) for choice in choices]
        if _as_scored(value) in scored:
            return scored.index(_as_scored(value))
        raise UserError(
            f"{what} is {shown(value)}, expected one of the choices {shown(list(choices))}"
        )
    raise UserError(f"{what} is {shown(value)}, expected the index or the text of a choice{other}")


def _as_scored(choice: str) -> str:
    """A choice as a vocabulary reads it: compatible characters and spaces are the same to it."""
    return " ".join(unicodedata.normalize("NFKC", choice).split())


def _identifier(value: object, what: str) -> str:
    """A text or a whole number that names an item or a pair; empty if there is none."""
    if value is None:
        return ""
    if type(value) is int and abs(value) < 10**18:
        return str(value)
    if not isinstance(value, str):
        raise UserError(f"{what} is {shown(value)}, expected a text or a whole number")
    if problem := Text(1, ID_BYTES).problem(value):
        raise UserError(f"{what} is {shown(value)}, expected {problem}")
    return value
