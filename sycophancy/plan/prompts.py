"""How many prompts the stages of a run score, as its configuration says, without reading data.

What a question is asked under counts: neutral, with a wrong user, with a right user. Sets that have
fewer rows than the configuration asks for count as if they had them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from sycophancy.config.schema import Config
from sycophancy.evaluation.own_sets import read_own_sets

# Encoder and decoder positions of a scored row, as the planner assumes them. Prompts of the paper's
# claims have about 100 tokens, those of a survey with a biography about 200; the two choices have
# three tokens each and an end of sequence.
CLAIM_SHAPE = (128, 8)
EVALUATION_SHAPE = (256, 8)
REWRITING_SHAPE = (256, 128)  # the user's words, and what the model writes in their place
SUMS = 2_500  # false ones, and as many true ones
PROBES, PROBED_SUMS = 6, 300
SURVEYS = 3


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Prompts of one kind.

    Attributes:
        count: how many.
        shape: encoder and decoder positions of a row.
    """

    count: int
    shape: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A way to ask MMLU or BIG-Bench Hard: all its questions, and its rows.

    Prompts have the mean length of the published rows' (T5's tokens); a chain of thought is assumed
    to have as many tokens as those of the examples.
    """

    subjects: int
    questions: int
    shape: tuple[int, int]


OTHER_ABILITIES = {
    "mmlu": (_Asked(57, 14_042, (650, 8)), _Asked(57, 14_042, (120, 8))),
    "bbh": (_Asked(27, 6_511, (360, 8)), _Asked(27, 6_511, (860, 128))),
}


def filtration(config: Config) -> Sequence[Prompts]:
    """The claims that filtration asks about."""
    return [Prompts(config.data.num_examples if config.filtration else 0, CLAIM_SHAPE)]


def evaluation(config: Config) -> Sequence[Prompts]:
    """The held-out prompts of one evaluation; a run has two."""
    count = sum(questions * conditions for questions, conditions in _tasks(config))
    return [Prompts(count, EVALUATION_SHAPE)]


def baselines(config: Config) -> Sequence[Prompts]:
    """The prompts of all baselines, and the texts that the model writes for one of them."""
    asked = [
        (min(questions, config.num_baseline_items), conditions)
        for questions, conditions in _tasks(config)
    ]
    each = sum(questions * conditions for questions, conditions in asked)
    found = [Prompts(len(config.baselines) * each, EVALUATION_SHAPE)]
    if "rewrite" in config.baselines:  # prompts without a user stay as they are
        written = sum(questions * (conditions - 1) for questions, conditions in asked)
        found.append(Prompts(written, REWRITING_SHAPE))
    return found


def retention(config: Config) -> Sequence[Prompts]:
    """The prompts of MMLU and BIG-Bench Hard for one model; a run asks two."""
    families = OTHER_ABILITIES if "auto" in config.retention else config.retention
    limit = config.retention_limit
    return [
        Prompts(min(way.questions, (limit or way.questions) * way.subjects), way.shape)
        for family in families
        for way in OTHER_ABILITIES[family]
    ]


def total(prompts: Sequence[Prompts]) -> int:
    """The number of prompts of all kinds."""
    return sum(kind.count for kind in prompts)


def _tasks(config: Config) -> Iterator[tuple[int, int]]:
    """The questions of each task, and under how many conditions each is asked.

    Prompts that several tasks share are scored once: a third of the probes' are those of the sums.
    The user's own sets count where their files are on this machine.
    """
    data = config.data
    tasks = [
        *[(SUMS, 3)] * 2,
        *[(PROBED_SUMS, 2)] * PROBES,
        *[(data.num_survey_items, 2)] * SURVEYS,
        (data.num_validation, 3),
        (data.num_validation, 1),  # instructions
        *[(data.num_held_out_items, 3)] * len(data.held_out_sets),
        *[(data.num_public_items, 2)] * len(data.public_sets),
    ]
    limit = data.max_questions
    yield from ((min(count, limit or count), conditions) for count, conditions in tasks)
    for own in read_own_sets([file for file in data.evaluations if Path(file).is_file()]):
        pairs = len({(item.task, item.pair_id) for item in own.items})
        conditions = round(len(own.items) / max(pairs, 1))
        yield min(pairs, limit or pairs), conditions
