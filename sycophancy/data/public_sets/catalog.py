"""The public sets: their published files, and how a row of each is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from sycophancy.data.public_sets import bias_augmented, genies
from sycophancy.data.public_sets.question import Question

# The addresses name commits, so the files never change.
_RAW = "https://raw.githubusercontent.com"
_CONSISTENCY = (
    f"{_RAW}/raybears/cot-transparency/f6874394ba80a439237e4d7581dddc30d40c1830/dataset_dumps/test"
)
_GENIES = f"{_RAW}/Joshuaclymer/GENIES/70bd2ea15dd4640bcee96cff7f71a296614cfbfe/distributions"


@dataclasses.dataclass(frozen=True)
class PublicSet:
    """One published file.

    Attributes:
      file: its name in a local folder.
      url: its address.
      parse: reads a row; its arguments are the row and the row's place.
    """

    file: str
    url: str
    parse: Callable[[dict[str, Any], str], Question]


# The keys are the values of the setting PUBLIC_SETS, and the names of the tasks.
SETS: Mapping[str, PublicSet] = {
    "suggested_answer/truthfulqa": PublicSet(
        "bct_truthfulqa_suggested_answer.jsonl",
        f"{_CONSISTENCY}/suggested_answer/truthfulqa_suggested_answer.jsonl",
        bias_augmented.parse_suggested_answer,
    ),
    "are_you_sure/truthfulqa": PublicSet(
        "bct_truthfulqa_are_you_sure.jsonl",
        f"{_CONSISTENCY}/are_you_sure/truthfulqa_are_you_sure.jsonl",
        bias_augmented.parse_are_you_sure,
    ),
    "are_you_sure/mmlu": PublicSet(
        "bct_mmlu_are_you_sure.jsonl",
        f"{_CONSISTENCY}/are_you_sure/mmlu_are_you_sure.jsonl",
        bias_augmented.parse_are_you_sure,
    ),
    "genies/answer": PublicSet(
        "genies_answer_test.jsonl",
        f"{_GENIES}/sycophancy_answer/test.json",
        genies.parse_answer,
    ),
    "genies/are_you_sure": PublicSet(
        "genies_are_you_sure_test.jsonl",
        f"{_GENIES}/sycophancy_are_you_sure/test.json",
        genies.parse_are_you_sure,
    ),
}
