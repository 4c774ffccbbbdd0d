"""Rows of the intervention: a random opinion of a simulated user on a claim, and the claim's truth.

A prompt states the opinion and asks about the claim; its target is the claim's truth. All draws for
a row depend on the seed and the row's content alone, and a sample consists of the rows with the
smallest draws. So the order of rows, their sharding and the number of processes change no row, and
a larger sample contains the smaller one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sycophancy.config.schema import ClaimMode, Sampling
from sycophancy.data import claims, draws, personas, prompts
from sycophancy.data.sources import Texts
from sycophancy.evaluation.items import Condition, Item

SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("dataset", pa.string()),
        ("inputs", pa.string()),
        ("inputs_without_opinion", pa.string()),
        ("targets", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("answer", pa.int32()),
        ("claim_is_true", pa.bool_()),
        ("user_agrees", pa.bool_()),
    ]
)

BATCH = 10_000  # rows built and written at a time


@dataclasses.dataclass(frozen=True)
class Claimed:
    """Texts with their claims, in the order of the sample; every field has shape (rows,).

    Attributes:
      dataset: names of the data sets.
      hashes: content hashes, shape (rows, 2).
      claim: text of the claims.
      is_true: whether each claim is true.
    """

    dataset: pa.Array
    hashes: draws.Hashes
    claim: pa.Array
    is_true: NDArray[np.bool_]


def sample(
    pools: Sequence[draws.Hashes], count: int, sampling: Sampling, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Chooses rows; fewer than asked for if the pools hold fewer.

    Args:
      pools: content hashes of each data set's rows.
      count: how many rows in all.
      sampling: `uniform` draws every row of every pool with the same probability, as the paper
        does. `balanced` draws the same number from each pool; where a pool has too few rows, the
        other pools give more.
      seed: the run's seed.

    Returns:
      Index of the pool and index of the row in the pool, in random order; shape (rows,) each.
    """
    sizes = [len(pool) for pool in pools]
    hashes = np.concatenate([*pools, draws.content_hashes([])])
    ranks = draws.words(hashes, seed, "sample")
    pool_of = np.repeat(np.arange(len(pools)), sizes)
    row_of = np.concatenate([np.arange(size) for size in sizes] or [np.arange(0)])
    rows = np.arange(len(hashes))
    if sampling == "balanced":
        ends = np.cumsum(sizes)
        parts = zip(ends - sizes, ends, _quotas(sizes, count), strict=True)
        rows = np.concatenate(
            [_smallest(rows[start:end], hashes, ranks, quota) for start, end, quota in parts]
        )
    rows = _smallest(rows, hashes, ranks, count)
    return pool_of[rows], row_of[rows]


def claimed_batches(
    texts: Sequence[Texts],
    chosen: tuple[NDArray[np.int64], NDArray[np.int64]],
    seed: int,
    mode: ClaimMode,
) -> Iterator[Claimed]:
    """Makes the claims of the chosen rows, in their order, `BATCH` at a time.

    Args:
      texts: the data sets, in the order of the pools.
      chosen: the result of `sample`.
      seed: the run's seed.
      mode: how claims are made false, see `claims`.
    """
    pool_of, row_of = chosen
    for start in range(0, len(pool_of), BATCH):
        part = slice(start, start + BATCH)
        yield _claimed(texts, pool_of[part], row_of[part], seed, mode)


def build_rows(
    claimed: Claimed,
    seed: int,
    user_agrees: NDArray[np.bool_] | None = None,
    *,
    opinions: bool = True,
) -> pa.Table:
    """Builds rows by `SCHEMA`.

    Args:
      claimed: the claims.
      seed: the run's seed.
      user_agrees: the users' opinions, shape (rows,). If None, each user agrees with probability
        1/2, independently of all else.
      opinions: if False, `inputs` have no user, as `inputs_without_opinion`; all other columns,
        `user_agrees` too, are the same as with opinions.
    """
    if user_agrees is None:
        user_agrees = draws.coins(claimed.hashes, seed, "opinion")
    agree_is_first = draws.coins(claimed.hashes, seed, "choice order")
    answer = (claimed.is_true != agree_is_first).astype(np.int32)
    persona = personas.draw_personas(claimed.hashes, seed)
    tail = pc.if_else(pa.array(agree_is_first), prompts.TAIL, prompts.TAIL_SWAPPED)
    inputs = prompts.fill(
        prompts.INTERVENTION,
        name=persona.name,
        age=persona.age,
        school1=persona.school1,
        school2=persona.school2,
        opinion=pc.if_else(pa.array(user_agrees), prompts.AGREE, prompts.DISAGREE),
        claim=claimed.claim,
        tail=tail,
    )
    without_opinion = prompts.fill(
        prompts.INTERVENTION_WITHOUT_OPINION, claim=claimed.claim, tail=tail
    )
    rows = len(answer)
    letters = pa.array(prompts.LETTERS)
    choices = pa.ListArray.from_arrays(
        pa.array(np.arange(rows + 1, dtype=np.int32) * 2),
        letters.take(pa.array(np.tile([0, 1], rows))),
    )
    return pa.table(
        [
            pa.array(draws.hexadecimal(claimed.hashes), pa.string()),
            claimed.dataset,
            inputs if opinions else without_opinion,
            without_opinion,
            letters.take(pa.array(answer)),
            choices,
            pa.array(answer),
            pa.array(claimed.is_true),
            pa.array(user_agrees),
        ],
        schema=SCHEMA,
    )


def build_items(claimed: Claimed, seed: int) -> Iterator[Item]:
    """Asks each claim three ways: without a user, with one who is wrong, with one who is right."""
    wrong = build_rows(claimed, seed, ~claimed.is_true).to_pylist()
    right = build_rows(claimed, seed, claimed.is_true).to_pylist()
    for user_wrong, user_right in zip(wrong, right, strict=True):
        answer = user_wrong["answer"]
        asked: tuple[tuple[Condition, str, tuple[int, ...]], ...] = (
            ("neutral", user_wrong["inputs_without_opinion"], ()),
            ("user_wrong", user_wrong["inputs"], (1 - answer,)),
            ("user_right", user_right["inputs"], (answer,)),
        )
        pair = f"intervention/{user_wrong['example_id']}"
        for condition, inputs, user_choices in asked:
            yield Item(
                item_id=f"{pair}/{condition}",
                task="intervention",
                condition=condition,
                pair_id=pair,
                inputs=inputs,
                choices=prompts.LETTERS,
                answer=answer,
                user_choices=user_choices,
            )


def _claimed(
    texts: Sequence[Texts],
    pool_of: NDArray[np.int64],
    row_of: NDArray[np.int64],
    seed: int,
    mode: ClaimMode,
) -> Claimed:
    """Makes the claims of each data set at once, then restores the order of the sample."""
    places, datasets, hashes, text, truth = [], [], [], [], []
    for pool in np.unique(pool_of):
        place = np.flatnonzero(pool_of == pool)
        part = texts[pool].select(row_of[place])
        drawn = claims.draw_claims(
            claims.quote(list(part.columns)),
            part.labels,
            part.source.label_names,
            part.hashes,
            seed,
            mode,
        )
        places.append(place)
        datasets.append(pa.repeat(part.source.name, len(place)))
        hashes.append(part.hashes)
        text.append(drawn.text)
        truth.append(drawn.is_true)
    order = np.argsort(np.concatenate(places))
    indices = pa.array(order)
    return Claimed(
        dataset=pa.concat_arrays(datasets).take(indices),
        hashes=np.concatenate(hashes)[order],
        claim=pa.concat_arrays(text).take(indices),
        is_true=np.concatenate(truth)[order],
    )


def _smallest(
    rows: NDArray[np.int64], hashes: draws.Hashes, ranks: draws.Words, count: int
) -> NDArray[np.int64]:
    """The `count` rows with the smallest ranks, in their order; equal ranks go by hash."""
    if 0 < count < len(rows):
        limit = np.partition(ranks[rows], count - 1)[count - 1]
        rows = rows[ranks[rows] <= limit]
    order = np.lexsort((hashes[rows, 1], hashes[rows, 0], ranks[rows]))
    return rows[order[:count]]


def _quotas(sizes: Sequence[int], count: int) -> list[int]:
    """Divides `count` evenly among pools; a pool gives at most the rows that it has.

    >>> _quotas([1, 10, 10], 12)
    [1, 6, 5]
    """
    quotas = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda pool: sizes[pool])
    for done, pool in enumerate(order):
        share = -(-(count - sum(quotas)) // (len(order) - done))
        quotas[pool] = min(sizes[pool], share)
    return quotas
