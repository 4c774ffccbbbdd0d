"""Three whole prompts, and the probability of each choice before and after finetuning."""

from __future__ import annotations

import dataclasses
import math
import re

from sycophancy.evaluation.items import Item, Prediction
from sycophancy.report.run.record import RunRecord
from sycophancy.report.text_format import percent

KINDS = (
    ("addition", "user_wrong", "A false sum, and a user who agrees with it"),
    ("surveys/poli", "user_view", "A political question, and a user whose view is plain"),
    ("surveys/nlp", "user_view", "A survey question, and a user whose view is plain"),
    ("surveys/phil", "user_view", "A philosophical question, and a user whose view is plain"),
    ("intervention", "user_wrong", "A claim like those trained on, and a user who is wrong"),
    ("addition_true", "user_wrong", "A true sum, and a user who disagrees with it"),
)
NUMBER = 3


@dataclasses.dataclass(frozen=True)
class Share:
    """The probability of one choice among all choices of its item, by one model."""

    series: str
    probability: float
    log_likelihood: float


@dataclasses.dataclass(frozen=True)
class Choice:
    """One choice, its words in the prompt, and whether it is right or the user's."""

    text: str
    short: str
    tags: str
    shares: tuple[Share, ...]


@dataclasses.dataclass(frozen=True)
class Example:
    """One item as it was asked, and its scored choices."""

    key: str
    title: str
    item: Item
    choices: tuple[Choice, ...]
    series: tuple[str, ...]

    @property
    def description(self) -> str:
        """The figure in words, for screen readers."""
        return " ".join(
            f"{choice.short}: "
            + ", ".join(f"{share.series} {percent(share.probability)}" for share in choice.shares)
            + "."
            for choice in self.choices
        )


def examples(record: RunRecord) -> list[Example]:
    """The first item, by id, of the first three kinds that were asked, whatever the outcome."""
    chosen: list[Example] = []
    surveys = 0
    for task, condition, title in KINDS:
        items = [
            item
            for item in record.items
            if (item.task, item.condition) == (task, condition) and len(item.choices) > 1
        ]
        is_survey = task.startswith("surveys/")
        if not items or len(chosen) == NUMBER or (is_survey and surveys):
            continue
        surveys += is_survey
        chosen.append(_example(record, min(items, key=lambda item: item.item_id), title))
    return [example for example in chosen if example.series]


def shares(prediction: Prediction) -> list[float]:
    """The probabilities of the choices, scaled to sum to one; 0 for one that is impossible.

    >>> shares(Prediction("id", (-1000.0, -1000.0), (False, False)))
    [0.5, 0.5]
    """
    top = max(prediction.log_likelihoods)
    if math.isinf(top):
        return [0.0 for _ in prediction.log_likelihoods]
    weights = [math.exp(value - top) for value in prediction.log_likelihoods]
    return [weight / sum(weights) for weight in weights]


def _example(record: RunRecord, item: Item, title: str) -> Example:
    answers = {
        series: predictions[item.item_id]
        for series, predictions in record.predictions.items()
        if item.item_id in predictions
    }
    probabilities = {series: shares(prediction) for series, prediction in answers.items()}
    choices = tuple(
        Choice(
            text=choice,
            short=_short(item, choice),
            tags=tags(item, index),
            shares=tuple(
                Share(series, values[index], answers[series].log_likelihoods[index])
                for series, values in probabilities.items()
            ),
        )
        for index, choice in enumerate(item.choices)
    )
    key = "example-" + re.sub(r"\W+", "-", item.task)
    return Example(key, title, item, choices, tuple(answers))


def choice_words(item: Item, choice: str) -> str:
    """The choice with its words in the prompt."""
    named = re.search(rf"^\s*{re.escape(choice.strip())}\s+(.+)$", item.inputs, re.MULTILINE)
    return f"{choice.strip()} {named.group(1).strip()}" if named else choice.strip()


def _short(item: Item, choice: str) -> str:
    """The choice with its words in the prompt, cut to fit a line."""
    text = choice_words(item, choice)
    return text if len(text) <= 32 else text[:31].rstrip() + "…"


def tags(item: Item, index: int, users: str = "the user thinks so") -> str:
    """Whether a choice is right or matches the user, in words; empty if neither."""
    words = ["right"] if item.answer == index else []
    if index in item.user_choices and item.condition != "neutral":
        words.append(users)
    return ", ".join(words)
