"""Counts the rows that are too long for training or scoring while rows are prepared."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sycophancy.data import spelling, training_rows
from sycophancy.data.sources import Texts
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item
from sycophancy.evaluation.limits import (
    MAX_PROMPT_TOKENS,
    PROMPT_LIMIT,
    CountTokens,
    Kind,
    LeftOut,
    Work,
    in_words,
    longer_than,
    split_by_limits,
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """The longest rows that training takes, in tokens, end of sequence included.

    Attributes:
      count_tokens: counts the tokens of texts by the model's vocabulary, end of sequence included.
      inputs, targets: TASK_FEATURE_LENGTHS.
      pieces: the pieces of texts, by the model's vocabulary; None leaves out notes on spelling.
      encode: makes the rows that a decoder-only model is trained on, whose prompts may go through
        a chat template; None where a row's tokens are those of its texts.
      chat: whether they do: "template" or "raw"; None as for `encode`.
    """

    count_tokens: CountTokens
    inputs: int
    targets: int
    pieces: spelling.Pieces | None = None
    encode: training_rows.Encoder | None = None
    chat: str | None = None


class Lengths:
    """Counts rows by stage, kind and data set or task. Without limits no row is too long."""

    def __init__(self, limits: Limits | None) -> None:
        self._limits = limits
        self._totals: Counter[tuple[Kind, str]] = Counter()
        self._dropped: Counter[tuple[Work, Kind, str, str]] = Counter()
        self._items: list[LeftOut] = []

    def check_choices(self, choices: Sequence[str]) -> None:
        """Refuses a vocabulary with which the scorer cannot compare the choices of a claim.

        Raises:
          UserError: the choices have unequal token counts.
        """
        if self._limits is None:
            return
        counts = self._limits.count_tokens(list(choices)).tolist()
        if len(set(counts)) > 1:
            listed = ", ".join(f"{c!r} has {n - 1}" for c, n in zip(choices, counts, strict=True))
            raise UserError(
                f"the vocabulary splits the choices of a claim into unequal token counts ({listed})"
                ", so their log-likelihoods cannot be compared; set VOCABULARY to another one"
            )

    def claims(self, rows: pa.Table) -> pa.Table:
        """The rows that filtration can score; counts the other rows and those too long to train."""
        if self._limits is None:
            return rows
        names = rows["dataset"].to_pylist()
        self._totals.update(("claims", name) for name in names)
        prompts = rows["inputs_without_opinion"].to_pylist()
        unfit = longer_than(prompts, MAX_PROMPT_TOKENS, self._limits.count_tokens)
        self._add("scoring", "claims", names, unfit, PROMPT_LIMIT)
        self._count_training("claims", names, rows, ~unfit)
        return rows.filter(pa.array(~unfit)) if unfit.any() else rows

    def instructions(self, rows: pa.Table) -> None:
        """Counts the training rows that are too long for training."""
        if self._limits is None or rows.num_rows == 0:
            return
        names = rows["task"].to_pylist()
        self._totals.update(("instructions", name) for name in names)
        self._count_training("instructions", names, rows, np.ones(len(names), np.bool_))

    def items(self, items: Sequence[Item]) -> list[Item]:
        """The items that can be scored; counts the others."""
        if self._limits is None:
            return list(items)
        self._totals.update(("held-out items", item.task) for item in items)
        kept, left_out = split_by_limits(items, self._limits.count_tokens)
        self._items += left_out
        return kept

    def spelling(self, texts: Texts) -> list[str]:
        """Sentences on texts and label wordings that the vocabulary reads badly."""
        if self._limits is None or self._limits.pieces is None:
            return []
        source = texts.source
        pieces = self._limits.pieces
        return spelling.notes(source.name, texts.columns, source.label_names, pieces)

    def summary(self) -> list[LeftOut]:
        """The rows left out, by stage, kind and name."""
        rows = [
            LeftOut(stage, kind, name, count, self._totals[kind, name], limit)
            for (stage, kind, name, limit), count in sorted(self._dropped.items())
        ]
        return rows + self._items

    def in_words(self) -> list[str]:
        """The summary as sentences, one for each stage, kind and limit."""
        totals: Counter[str] = Counter()
        for (kind, _), rows in self._totals.items():
            totals[kind] += rows
        return in_words(self.summary(), totals)

    def _count_training(
        self, kind: Kind, names: Sequence[str], rows: pa.Table, among: NDArray[np.bool_]
    ) -> None:
        assert self._limits is not None
        texts = [rows[name].to_pylist() for name in ("inputs", "targets")]
        limits = (self._limits.inputs, self._limits.targets)
        if self._limits.encode is None:
            count = self._limits.count_tokens
            longer = [longer_than(*each, count) for each in zip(texts, limits, strict=True)]
            unfit = longer[0] | longer[1]
        else:
            unfit = np.array(
                [
                    len(row.inputs) > limits[0] or len(row.targets) > limits[1]
                    for row in self._limits.encode(*texts)
                ],
                np.bool_,
            )
        limit = f"{self._limits.inputs:,} tokens of inputs and {self._limits.targets:,} of targets"
        self._add("training", kind, names, unfit & among, limit)

    def _add(
        self,
        stage: Work,
        kind: Kind,
        names: Sequence[str],
        unfit: NDArray[np.bool_],
        limit: str,
    ) -> None:
        rows = np.flatnonzero(unfit).tolist()
        self._dropped.update((stage, kind, names[row], limit) for row in rows)
