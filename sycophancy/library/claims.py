"""Intervention rows from texts and labels of one's own, in the prompts of the protocol."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sycophancy.config.bounds import Between, Encodable, check, shown
from sycophancy.config.schema import ClaimMode
from sycophancy.data import claims, draws, sources
from sycophancy.data.intervention import Claimed, build_rows
from sycophancy.errors import UserError

_SEEDS = Between(0, 2**31 - 2)  # those of a run

Text = str | Sequence[str]
Label = str | int


def intervention_rows(
    texts: Sequence[Text],
    labels: Sequence[Label],
    *,
    label_names: Sequence[str],
    seed: int = 0,
    dataset: str = "own",
    claim_mode: ClaimMode = "paper",
    opinions: bool = True,
) -> pa.Table:
    """Builds one training row a text: a simulated user states a random opinion on a claim.

    The claim is about the text's label and is true or false at random; the target is the choice
    that judges it correctly. Prompts, personas and random draws are those of a run's `prepare`.

    Args:
        texts: one text a row, or as many texts as a claim quotes, such as premise and hypothesis.
        labels: of each row, an entry of `label_names` or its index.
        label_names: the labels, worded as a claim ends: "Positive Sentiment".
        seed: of the random choices; each depends on the seed and on the row's content alone.
        dataset: the name of the data set, which counts as content.
        claim_mode: `paper`: a false claim negates the right label. `balanced`: claims name a right
            or a wrong label and are negated or not, each at random.
        opinions: if False, `inputs` leave the user out.

    Returns:
        Table with the columns `example_id`, `dataset`, `inputs`, `inputs_without_opinion`,
        `targets`, `choices`, `answer` (index into choices), `claim_is_true` and `user_agrees`,
        in the order of the texts.

    Raises:
        UserError: a text is empty or repeats another, or a label is not one of `label_names`.

    Example:
        >>> names = ("Negative Sentiment", "Positive Sentiment")
        >>> rows = intervention_rows(["a great film"], [1], label_names=names)
        >>> rows["inputs_without_opinion"][0].as_py().split("?")[1].split(".")[0]
        ' "a great film" is Positive Sentiment'
    """
    check("seed =", seed, _SEEDS)
    names = _checked_names(label_names)
    if len(texts) != len(labels):
        raise UserError(
            f"intervention_rows: {len(texts):,} texts and {len(labels):,} labels; expected one "
            "label a text"
        )
    numbers = np.array([_number(row, label, names) for row, label in enumerate(labels)], np.int64)
    columns = _columns(texts)
    hashes = sources.hash_rows(dataset, columns)
    _check_distinct(hashes)
    claimed = claims.draw_claims(claims.quote(columns), numbers, names, hashes, seed, claim_mode)
    name = pa.repeat(dataset, len(texts))
    return build_rows(Claimed(name, hashes, claimed.text, claimed.is_true), seed, opinions=opinions)


def _checked_names(label_names: Sequence[str]) -> tuple[str, ...]:
    names = tuple(label_names)
    blank = any(not isinstance(name, str) or not name.strip() for name in names)
    if isinstance(label_names, str) or blank or len(set(names)) != len(names) or len(names) < 2:
        raise UserError(
            f"intervention_rows: label_names {shown(label_names)}: expected at least two different "
            "texts, such as ('Negative Sentiment', 'Positive Sentiment')"
        )
    return names


def _number(row: int, label: Label, names: Sequence[str]) -> int:
    """The index of a label."""
    if isinstance(label, str):
        if label in names:
            return names.index(label)
    elif not isinstance(label, bool) and 0 <= _whole(label) < len(names):
        return _whole(label)
    raise UserError(
        f"intervention_rows: label {shown(label)} of row {row} (from 0): expected one of "
        f"{', '.join(names)}, or its index 0 to {len(names) - 1}"
    )


def _whole(number: int) -> int:
    """A number as Python's `int`; -1 for what is no whole number."""
    try:
        return operator.index(number)  # NumPy's integers, too
    except TypeError:
        return -1


def _columns(texts: Sequence[Text]) -> list[pa.Array]:
    """The texts, cleaned as a run cleans them: one array for each text of a row."""
    rows = [_parts(row, text) for row, text in enumerate(texts)]
    fields = len(rows[0]) if rows else 1
    for row, parts in enumerate(rows):
        if len(parts) != fields:
            raise UserError(
                f"intervention_rows: row {row} (from 0) has {len(parts)} texts, row 0 has {fields}"
            )
    columns = [
        claims.clean(pa.array([parts[field] for parts in rows], pa.string()))
        for field in range(fields)
    ]
    for column in columns:
        empty = np.flatnonzero(pc.equal(pc.binary_length(column), 0))
        if len(empty):
            raise UserError(
                f"intervention_rows: row {empty[0]} (from 0) has an empty text; leave it out"
            )
    return columns


def _parts(row: int, text: Text) -> tuple[str, ...]:
    """The texts of one row."""
    parts = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, Sequence) else ()
    if not parts or not all(isinstance(part, str) for part in parts):
        raise UserError(
            f"intervention_rows: row {row} (from 0) is {shown(text)}, expected a text or several"
        )
    if problem := next(filter(None, map(Encodable().problem, parts)), None):
        raise UserError(f"intervention_rows: row {row} (from 0): expected {problem}")
    return parts


def _check_distinct(hashes: draws.Hashes) -> None:
    """Refuses two rows of equal texts: they would be the same row, or contradict each other."""
    _, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    earlier = first[inverse.reshape(-1)]
    repeated = np.flatnonzero(earlier != np.arange(len(hashes)))
    if len(repeated):
        raise UserError(
            f"intervention_rows: row {repeated[0]} (from 0) repeats the text of row "
            f"{earlier[repeated[0]]}; give each text once"
        )
