"""The paired permutation test: would changes be as large if before and after were exchanged?"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom

from sycophancy.evaluation.intervals import Sample

DRAWS = 20_000  # more ways to exchange than this are drawn and not listed

_CHUNK = 50_000  # random signs at once: few enough for a processor's cache
_SLACK = 1e-9  # statistics that differ by less are equal

Signs = tuple[Float[np.ndarray, "kinds columns"], Int[np.ndarray, " kinds"]]


def permutation_test(before: Sample, after: Sample, *, draws: int = DRAWS, seed: int = 0) -> float:
    """The two-sided p-value of "the two models answer each question alike but for chance".

    Under this hypothesis, the two models' outcomes on a question (a cluster) may be exchanged. The
    p-value is the share, among all ways to exchange them on some of the questions, of those where
    the measure changes by at least as much as it did. The measure is computed anew each time, so
    means, means over strata, and rates whose denominators differ (flips) are all tested by their
    own value. Questions on which nothing changed do not matter. For one 0/1 outcome a question,
    this is McNemar's exact test.

    Up to `draws` different results of exchanging are listed, and the p-value is exact. Otherwise
    exchanges are drawn, and the p-value is (1 + the number at least as large) / (1 + `draws`),
    which is never too small. An exchange that leaves one side without an item that counts is taken
    as at least as large.

    Args:
      before, after: outcomes of the same items in the same order.
      draws: see above.
      seed: of the random draws.

    Source: R. A. Fisher, The Design of Experiments (1935), section 21; for measures of language
    models: R. Dror et al., The hitchhiker's guide to testing statistical significance in natural
    language processing, ACL 2018; the drawn p-value: B. Phipson and G. K. Smyth, Permutation
    p-values should never be zero, Statistical Applications in Genetics and Molecular Biology 9
    (2010).
    """
    strata = [_sums(before, after, stratum) for stratum in np.unique(before.strata)]
    totals = [total for total, _ in strata]
    as_asked = [differences.sum(axis=0)[None] for _, differences in strata]
    observed = abs(float(_statistic(as_asked, totals)[0]))
    kinds = [_kinds(differences) for _, differences in strata]
    ways = math.prod(count + 1 for _, counts in kinds for count in counts.tolist())
    if ways <= draws:
        sums, chances = _listed(kinds)
        return float(min(1.0, chances[_at_least(_statistic(sums, totals), observed)].sum()))
    rng = np.random.default_rng(seed)
    large = _at_least(_statistic([_drawn(kind, draws, rng) for kind in kinds], totals), observed)
    return (1 + int(large.sum())) / (1 + draws)


def _sums(
    before: Sample, after: Sample, stratum: object
) -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, "clusters columns"]]:
    """Outcomes and weights of a stratum: their sums over both sides, and each cluster's change."""
    inside = before.strata == stratum
    names, cluster = np.unique(before.clusters[inside], return_inverse=True)
    first, second = (
        np.stack(
            [
                np.bincount(cluster, column, len(names))
                for column in ((side.values * side.weights)[inside], side.weights[inside])
            ],
            axis=1,
        )
        for side in (before, after)
    )
    return (first + second).sum(axis=0), second - first


def _kinds(differences: Float[np.ndarray, "clusters columns"]) -> Signs:
    """The different changes of clusters but for their sign, and how many clusters have each."""
    moved = differences[(differences != 0).any(axis=1)]
    negative = (moved[:, 0] < 0) | ((moved[:, 0] == 0) & (moved[:, 1] < 0))
    moved = np.where(negative[:, None], -moved, moved)
    return np.unique(moved, axis=0, return_counts=True)


def _statistic(
    sums: list[Float[np.ndarray, "ways columns"]], totals: list[Float[np.ndarray, " columns"]]
) -> Float[np.ndarray, " ways"]:
    """After minus before, where `sums` are the signed sums of the clusters' changes."""
    changes = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for signed, total in zip(sums, totals, strict=True):
            after, before = (total + signed).T, (total - signed).T
            changes.append(after[0] / after[1] - before[0] / before[1])
    return np.mean(changes, axis=0)


def _at_least(
    statistic: Float[np.ndarray, " ways"], observed: float
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return ~(np.abs(statistic) < observed - _SLACK * max(1.0, observed))


def _listed(
    kinds: list[Signs],
) -> tuple[list[Float[np.ndarray, "ways columns"]], Float[np.ndarray, " ways"]]:
    """The signed sums of each stratum in every different way, and the chance of each way."""
    sums = np.zeros((1, len(kinds), 2))
    chances = np.ones(1)
    for stratum, (rows, counts) in enumerate(kinds):
        for row, count in zip(rows, counts.tolist(), strict=True):
            up = np.arange(count + 1)
            step = np.zeros((count + 1, len(kinds), 2))
            step[:, stratum] = (2 * up - count)[:, None] * row
            sums = (sums[:, None] + step[None]).reshape(-1, len(kinds), 2)
            chances = np.outer(chances, binom.pmf(up, count, 0.5)).ravel()
    return list(sums.transpose(1, 0, 2)), chances


def _drawn(kind: Signs, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draws columns"]:
    """The signed sums of a stratum with random signs."""
    rows, counts = kind
    if not len(rows) or (counts > 1).any():
        return (2.0 * rng.binomial(counts, 0.5, size=(draws, len(rows))) - counts) @ rows
    sums = np.empty((draws, 2))
    step = max(1, _CHUNK // len(rows))
    for start in range(0, draws, step):
        size = min(step, draws - start), -(-len(rows) // 8)
        coins = np.unpackbits(rng.integers(256, size=size, dtype=np.uint8), axis=1, count=len(rows))
        sums[start : start + step] = (2.0 * coins - 1.0) @ rows
    return sums
