"""Batches of prompts with few row shapes, so that little is compiled and little is padded."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Generic, NamedTuple, Protocol, TypeVar

from sycophancy.evaluation.items import Prediction

# Positions of padding that cost as much as compiling one more shape. On two CPU cores, compiling
# the miniature takes as long as computing 50,000 positions; a run scores each shape about twice.
COMPILATION = 25_000

Shape = tuple[int, int]  # encoder and decoder positions of a row
Tokens = TypeVar("Tokens", bound=Sized)  # int32 array [tokens], or a tuple of ints


class Scorable(Protocol):
    """The attributes of an item that a scorer uses, such as those of `evaluation.items.Item`."""

    @property
    def item_id(self) -> str: ...
    @property
    def inputs(self) -> str: ...
    @property
    def choices(self) -> Sequence[str]: ...
    @property
    def free_text(self) -> bool: ...


class Shaped(Protocol):
    """What needs one row of a batch."""

    @property
    def shape(self) -> Shape:
        """The shape of the row that it needs, before rounding."""


S = TypeVar("S", bound=Shaped)


class Answer(NamedTuple):
    """What a model makes of a choice.

    Attributes:
      log_likelihood: of its tokens together, in natural log.
      greedy: whether each token is the likeliest.
      lead: the smallest lead of a token: its logit minus the largest of the others. nan if unknown.
    """

    log_likelihood: float
    greedy: bool
    lead: float = math.nan


@dataclasses.dataclass
class Question(Generic[Tokens]):
    """A distinct prompt with its distinct choices, as the tokens that a scorer computes.

    Attributes:
      prompt: the prompt's tokens.
      choices: text of each choice -> its tokens.
      items: the items with this prompt.
      answers: text of each choice -> its answer; filled by the scorer.
    """

    prompt: Tokens
    choices: dict[str, Tokens] = dataclasses.field(default_factory=dict)
    items: list[Scorable] = dataclasses.field(default_factory=list)
    answers: dict[str, Answer] = dataclasses.field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        """The shape of the row that the question needs, before rounding."""
        return len(self.prompt), sum(map(len, self.choices.values()))

    def prediction(self, item: Scorable) -> Prediction:
        """The answers to the choices of an item that asks this question, in the item's order."""
        answers = [self.answers[choice] for choice in item.choices]
        return Prediction(
            item_id=item.item_id,
            log_likelihoods=tuple(answer.log_likelihood for answer in answers),
            greedy=tuple(answer.greedy for answer in answers),
            tokens=tuple(len(self.choices[choice]) for choice in item.choices),
        )


def plan(
    questions: Sequence[S], splits: int, batch_tokens: int, vocab_size: int
) -> Iterator[tuple[Shape, int, list[S]]]:
    """Batches of questions that share a row shape: (shape, rows of the batch, its questions).

    Shapes are rounded up. A shape that few questions need is merged into a larger one if the
    padding costs less than a compilation. All batches of a shape have the same number of rows, and
    the last one may hold fewer questions.

    Args:
      questions: in any order.
      splits: the number of devices that share a batch; it divides the number of rows.
      batch_tokens: encoder positions of a batch on one device.
      vocab_size: the size of the logits, which take memory, too; 0 where few are kept at a time.
    """
    buckets: dict[Shape, list[S]] = defaultdict(list)
    for question in questions:
        inputs, targets = question.shape
        buckets[rounded(inputs), rounded(targets)].append(question)
    for shape, bucket in sorted(merged(buckets).items()):
        full = full_rows(shape, batch_tokens, vocab_size)
        rows = splits * min(full, rounded(-(-len(bucket) // splits), least=1))
        bucket.sort(key=lambda question: question.shape)
        for start in range(0, len(bucket), rows):
            yield shape, rows, bucket[start : start + rows]


def full_rows(shape: Shape, batch_tokens: int, vocab_size: int) -> int:
    """The rows of a full batch on one device; see `plan`."""
    return max(1, int(batch_tokens / _row_cost(shape, vocab_size)))


def rounded(length: int, least: int = 4) -> int:
    """The smallest of 4, 6, 8, 12, 16, 24, 32, 48, ... that is not below `length`."""
    power = least
    while power < length:
        power *= 2
    return power * 3 // 4 if power > least and power * 3 // 4 >= length else power


def merged(buckets: Mapping[Shape, list[S]]) -> dict[Shape, list[S]]:
    """The buckets, after those are merged whose padding costs less than a compilation.

    Args:
      buckets: shape -> the questions that need it.
    """
    left = {shape: list(bucket) for shape, bucket in buckets.items()}
    while True:
        costs = [
            (len(left[small]) * (sum(large) - sum(small)), small, large)
            for small, large in itertools.permutations(left, 2)
            if small[0] <= large[0] and small[1] <= large[1]
        ]
        cost, small, large = min(costs, default=(COMPILATION, (0, 0), (0, 0)))
        if cost >= COMPILATION:
            return left
        left[large] += left.pop(small)


def _row_cost(shape: Shape, vocab_size: int) -> float:
    """The memory of a row, in encoder positions; attention and logits count if they are large."""
    inputs, targets = shape
    return inputs * (1 + inputs / 512) + targets * (1 + vocab_size / 4_096)
