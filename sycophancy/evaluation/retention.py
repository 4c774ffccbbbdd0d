"""Other abilities before and after finetuning: MMLU and BIG-Bench Hard, as rows and as metrics.

The paper reports how accuracy changes: MMLU with 5 examples and with none, BIG-Bench Hard with 3
examples, answered at once or after a chain of thought (Wei et al. 2023, arXiv 2308.03958).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sycophancy.evaluation import naming
from sycophancy.evaluation.comparison import Change, paired_change, unpaired_change
from sycophancy.evaluation.intervals import Sample
from sycophancy.evaluation.items import read_table
from sycophancy.evaluation.metrics import Metric, metric

PREFIX = "retention"
SAMPLES = "samples.parquet"
SCHEMA = pa.schema(
    [
        ("variant", pa.string()),
        ("subject", pa.string()),
        ("row", pa.int32()),
        ("answer", pa.string()),
        ("given", pa.string()),
        ("log_likelihoods", pa.list_(pa.float32())),
        ("right", pa.bool_()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to ask MMLU or BIG-Bench Hard.

    Attributes:
      name: as in metrics' names.
      low, high: the smallest and the largest change that the paper reports over its models.
    """

    name: str
    low: float
    high: float

    @property
    def metric(self) -> str:
        """The name of its metric."""
        return f"{PREFIX}/{self.name}/accuracy"

    @property
    def words(self) -> str:
        """Its name in reports."""
        return naming.task_words(f"{PREFIX}/{self.name}")

    @property
    def paper(self) -> str:
        """The range of the paper's changes, in points.

        >>> VARIANTS[0].paper
        '-1.6 to +0.6'
        """
        return f"{self.low * 100:+.1f} to {self.high * 100:+.1f}"


VARIANTS = (
    Variant("mmlu_5shot", -0.016, 0.006),
    Variant("mmlu_0shot", -0.012, 0.001),
    Variant("bbh_direct_3shot", -0.016, 0.006),
    Variant("bbh_cot_3shot", -0.015, 0.031),
)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answered to one row of a subject.

    Attributes:
      variant: name of the variant.
      subject: the subject of MMLU or the task of BIG-Bench Hard.
      row: the row's position in its subject.
      answer: the right answer: a choice's letter, or a text.
      given: the likeliest choice's letter, or the text that the model wrote, after the harness took
        the answer out of it.
      log_likelihoods: of the choices; empty where the model writes its answer.
      right: whether the harness counts the answer as right.
    """

    variant: str
    subject: str
    row: int
    answer: str
    given: str
    log_likelihoods: tuple[float, ...]
    right: bool

    @property
    def question(self) -> tuple[str, str, int]:
        """What identifies the row."""
        return self.variant, self.subject, self.row


def metrics(answers: Sequence[Answer]) -> dict[str, Metric]:
    """The accuracy of each variant over all rows, as the harness weighs its groups, by name.

    Each row counts once, so large subjects weigh more; intervals are Wilson's, over rows.

    >>> rows = [Answer("mmlu_0shot", "anatomy", n, "A", "A", (), n < 3) for n in range(4)]
    >>> metrics(rows)["retention/mmlu_0shot/accuracy"].value
    0.75
    """
    return {name: metric(sample) for name, sample in samples(answers).items()}


def samples(answers: Sequence[Answer]) -> dict[str, Sample]:
    """The outcomes that each variant's accuracy is computed from, by the metric's name."""
    return {
        variant.metric: _sample(asked)
        for variant in VARIANTS
        if (asked := [answer for answer in answers if answer.variant == variant.name])
    }


def changes(before: Sequence[Answer], after: Sequence[Answer]) -> dict[str, Change]:
    """The change of each variant's accuracy, paired by row if both models were asked the same rows.

    >>> asked = [Answer("mmlu_0shot", "anatomy", n, "A", "A", (), n < 3) for n in range(4)]
    >>> changes(asked, asked)["retention/mmlu_0shot/accuracy"].value
    0.0
    """
    found = {}
    for variant in VARIANTS:
        sides = [
            sorted((a for a in side if a.variant == variant.name), key=lambda a: a.question)
            for side in (before, after)
        ]
        if not all(sides):
            continue
        samples = [_sample(side) for side in sides]
        same = [a.question for a in sides[0]] == [a.question for a in sides[1]]
        found[variant.metric] = (
            paired_change(*samples) if same else unpaired_change(*map(metric, samples))
        )
    return found


def table(changed: Mapping[str, Change]) -> list[str]:
    """Lines for the terminal: the change of each variant, with the paper's range beside it."""
    return [
        f"{variant.words}: {change.value * 100:+.1f} points "
        f"({change.low * 100:+.1f} to {change.high * 100:+.1f}; the paper: {variant.paper})"
        for variant in VARIANTS
        if (change := changed.get(variant.metric))
    ]


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Writes answers as parquet by `SCHEMA`."""
    rows = [dataclasses.asdict(answer) for answer in answers]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)


def read_answers(path: Path) -> list[Answer]:
    """Reads answers in the order in which they were written.

    Raises:
      UserError: the file is missing or damaged.
    """
    rows = read_table(path, SCHEMA).to_pylist()
    return [Answer(**{**row, "log_likelihoods": tuple(row["log_likelihoods"])}) for row in rows]


def _sample(answers: Sequence[Answer]) -> Sample:
    return Sample(
        values=np.array([answer.right for answer in answers], float),
        weights=np.ones(len(answers)),
        clusters=np.array([f"{answer.subject}/{answer.row}" for answer in answers]),
        strata=np.zeros(len(answers), int),
    )
