"""Decisions of float32, most of them computed in bfloat16.

All questions are answered in bfloat16. A sample of them is then answered in float32, too, which
shows by how much rounding moves the scores that a decision compares. A decision whose margin is not
larger than `SAFETY` times the largest such difference is close, and its question is answered again
in float32. Every answer in float32 is a further measurement: if one shows a larger difference, the
bound grows with it, and what has become close is answered again.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from sycophancy.config.schema import ActivationType, Network, ScoreType
from sycophancy.evaluation.items import per_unit
from sycophancy.model import sharding
from sycophancy.scoring.answers import Progress, answer, placed
from sycophancy.scoring.batching import Question

SAMPLE = 256  # questions of each kind of decision that are answered both ways
SAFETY = 2.0  # times the largest difference that was seen

# What is compared: choices by their sums, or per token and per byte; or, where there is one choice,
# its least likely token with the likeliest other one, which decides whether it would be written.
Kind = Literal["sums", "per token", "per byte", "greedy"]
Scores: TypeAlias = Float[np.ndarray, " contestants"]
Compared = Mapping[tuple[int, Kind], Scores]  # by the item's number in its question


@dataclasses.dataclass(frozen=True)
class Rescoring:
    """What was scored again, and why.

    Attributes:
      dtype: what all items were scored in first.
      items: how many.
      sampled: items that were scored in float32 to measure the differences.
      rescored: other items that were scored again, because a decision about them was close.
      changed: items, of these two kinds, about which float32 decides otherwise.
      largest: the largest difference that was seen, by kind of decision; nats, or nats for each
        unit.
      bounds: the margins up to which a decision is close.
      widened: how many times a rescored item showed a larger difference than those before.
    """

    dtype: ActivationType
    items: int
    sampled: int
    rescored: int
    changed: int
    largest: Mapping[Kind, float]
    bounds: Mapping[Kind, float]
    widened: int

    def __str__(self) -> str:
        bounds = ", ".join(
            f"{self.bounds[kind]:.3g} ({kind}: {SAFETY:g} times {self.largest[kind]:.3g})"
            for kind in self.bounds
        )
        return (
            f"scored in {self.dtype}; a sample of {self.sampled:,} of {self.items:,} items was "
            f"scored in float32, too, and so were {self.rescored:,} others, whose margin was at "
            f"most {SAFETY:g} times the largest difference seen: {bounds}; float32 changed "
            f"{self.changed:,} decisions"
        )


def resolved(setting: ScoreType, mesh: Mesh) -> ActivationType:
    """What `SCORE_DTYPE` means on a mesh; equal in all processes, as their mesh is the same."""
    if setting != "auto":
        return setting
    return "float32" if mesh.devices.flat[0].platform == "cpu" else "bfloat16"


def decide(
    params: Mapping[str, Any],
    network: Network,
    questions: Sequence[Question],
    *,
    dtype: ActivationType,
    mesh: Mesh | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    on_rescoring: Callable[[Rescoring], None] | None = None,
    sample: int = SAMPLE,
) -> None:
    """Fills the answers of questions so that every decision is float32's.

    The parameters lie on the devices once, first in bfloat16 and then in float32; JAX arrays stay
    there besides. So few questions that the sample would be half of them are answered in float32
    alone.

    Args:
      params, network, questions, mesh, batch_tokens: as for `answer`.
      dtype: what all questions are answered in first.
      progress: called with the number of items done and of all; the latter grows with those that
        are scored again.
      on_rescoring: called with what was scored again, unless all was float32.
      sample: questions of each kind of decision that are answered both ways.
    """
    mesh = mesh or sharding.make_mesh((-1, 1, 1))
    before = 0  # items done in earlier passes

    def report(done: int, total: int) -> None:
        if progress:
            progress(before + done, before + total)

    def pass_over(chosen: Sequence[Question], parameters: Any, dtype: ActivationType) -> None:
        nonlocal before
        answer(
            parameters,
            network,
            chosen,
            dtype=dtype,
            mesh=mesh,
            batch_tokens=batch_tokens,
            progress=report,
        )
        before += _items(chosen)

    if dtype == "float32" or len(questions) <= 2 * sample:
        pass_over(questions, params, "float32")
        return
    pass_over(questions, params, dtype)
    first = [_compared(question) for question in questions]
    exact = placed(params, dataclasses.replace(network, dtype="float32"), mesh)
    sampled = chosen = _sample(questions, first, sample)
    done: dict[int, Compared] = {}
    history: list[dict[Kind, float]] = []
    while chosen:
        pass_over([questions[number] for number in chosen], exact, "float32")
        done |= {number: _compared(questions[number]) for number in chosen}
        history.append(_largest_differences(first, done))
        bounds = {kind: SAFETY * largest for kind, largest in history[-1].items()}
        chosen = [
            number
            for number, compared in enumerate(first)
            if number not in done and _is_close(compared, bounds)
        ]
    if on_rescoring:
        in_sample = _items([questions[number] for number in sampled])
        on_rescoring(
            Rescoring(
                dtype=dtype,
                items=_items(questions),
                sampled=in_sample,
                rescored=_items([questions[number] for number in done]) - in_sample,
                changed=sum(_changed(first[number], after) for number, after in done.items()),
                largest=history[-1],
                bounds=bounds,
                widened=sum(a != b for a, b in itertools.pairwise(history)),
            )
        )


def _items(questions: Sequence[Question]) -> int:
    return sum(len(question.items) for question in questions)


def _compared(question: Question) -> Compared:
    """The scores that decide about each item of a question."""
    compared: dict[tuple[int, Kind], Scores] = {}
    for number, item in enumerate(question.items):
        answers = [question.answers[choice] for choice in item.choices]
        sums = [one.log_likelihood for one in answers]
        if len(answers) == 1:
            compared[number, "greedy"] = np.array([answers[0].lead, 0.0])
        elif item.free_text:
            tokens = [len(question.choices[choice]) for choice in item.choices]
            per_token, per_byte = per_unit(item.choices, sums, tokens)
            compared[number, "per token"] = np.array(per_token)
            compared[number, "per byte"] = np.array(per_byte)
        else:
            compared[number, "sums"] = np.array(sums)
    return compared


def _sample(questions: Sequence[Question], compared: Sequence[Compared], size: int) -> list[int]:
    """The numbers of questions that show each kind of decision, of all lengths alike.

    Of each kind, the questions in the order of their lengths are cut into equal parts, and one is
    drawn from each part.
    """
    having: dict[Kind, list[int]] = defaultdict(list)
    for number in sorted(range(len(questions)), key=lambda number: questions[number].shape):
        for kind in dict.fromkeys(kind for _, kind in compared[number]):
            having[kind].append(number)
    chosen: set[int] = set()
    for numbers in having.values():
        parts = min(size, len(numbers))
        offsets = np.random.default_rng(0).random(parts)
        places = (np.arange(parts) + offsets) * len(numbers) / parts
        chosen |= {numbers[place] for place in places.astype(int).tolist()}
    return sorted(chosen)


def _largest_differences(
    first: Sequence[Compared], done: Mapping[int, Compared]
) -> dict[Kind, float]:
    """By how much two contestants of one decision moved apart, at most, by kind."""
    largest: dict[Kind, float] = {}
    for number, after in done.items():
        for (item, kind), scores in after.items():
            with np.errstate(invalid="ignore"):
                moved = float(np.ptp(scores - first[number][item, kind]))
            largest[kind] = max(largest.get(kind, 0.0), moved if np.isfinite(moved) else 0.0)
    return largest


def _is_close(compared: Compared, bounds: Mapping[Kind, float]) -> bool:
    return any(not _margin(scores) > bounds[kind] for (_, kind), scores in compared.items())


def _margin(scores: Scores) -> float:
    """The best score minus the second best; nan if one is not finite."""
    second, best = np.partition(scores, -2)[-2:].tolist()
    return float(best - second) if np.isfinite(scores).all() else np.nan


def _changed(before: Compared, after: Compared) -> int:
    """The items about which another decision is made; a tie is a decision of its own."""

    def winner(scores: Scores) -> int:
        best = np.flatnonzero(scores == scores.max())
        return int(best[0]) if len(best) == 1 else -1

    return len({key[0] for key in after if winner(before[key]) != winner(after[key])})
