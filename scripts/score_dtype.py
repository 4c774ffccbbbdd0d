"""Measures what scoring in bfloat16 changes: by how much margins move, and what is decided.

    sycophancy prepare --model mini_base --recipe demo --name demo
    python scripts/score_dtype.py runs/demo --model mini_base --every 4

Scores every Nth claim and every Nth held-out question of a prepared run three times: in float32, in
bfloat16 alone, and in bfloat16 with close decisions repeated in float32 (`SCORE_DTYPE`). With
`--vocabulary`, the network has the model's shape and random parameters.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
from flax import linen as nn

from sycophancy.config.load import load_config
from sycophancy.evaluation.items import Item, Prediction, read_items
from sycophancy.evaluation.limits import MAX_PROMPT_TOKENS
from sycophancy.evaluation.metrics import compute_metrics
from sycophancy.model.checkpoints.formats import load_checkpoint
from sycophancy.model.sharding import module
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.scoring.answers import answer
from sycophancy.scoring.decisions import decide
from sycophancy.scoring.filtration import filtration_items
from sycophancy.scoring.score import read_questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", default="mini_base")
    parser.add_argument("--vocabulary", default="", help="random parameters, and this vocabulary")
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--sample", type=int, default=256)
    options = parser.parse_args()
    model = load_config(options.model, "demo").model
    vocabulary = Vocabulary(options.vocabulary or model.vocabulary)
    if options.vocabulary:
        tokens = np.ones((1, 2), np.int32)
        drawn = jax.jit(module(model.network).init)(jax.random.key(0), *[tokens] * 3)
        params: Any = jax.tree.map(np.asarray, nn.unbox(drawn["params"]))
    else:
        params = load_checkpoint(model)
    claims = filtration_items(pq.read_table(options.run / "prepare" / "intervention.parquet"))
    files = sorted((options.run / "prepare" / "evaluation").glob("*.parquet"))
    held_out = [item for file in files for item in read_items(file)]
    for name, items in (("filtration", claims), ("evaluation", held_out)):
        questions = dict.fromkeys((item.task, item.pair_id) for item in items)
        chosen = set(list(questions)[:: options.every])
        asked = [
            item
            for item in items
            if (item.task, item.pair_id) in chosen and is_comparable(item, vocabulary)
        ]
        print(f"{options.model}, {name}, {len(asked):,} items", flush=True)
        measure(params, model.network, vocabulary, asked, options.sample)


def is_comparable(item: Item, vocabulary: Vocabulary) -> bool:
    """Whether all choices have equally many tokens, or are free text."""
    return item.free_text or len({len(c) for c in vocabulary.encode_batch(item.choices)}) == 1


def measure(
    params: Any, network: Any, vocabulary: Vocabulary, items: Sequence[Item], sample: int
) -> None:
    """Prints what the three ways to score have in common."""
    asked = [read_questions(items, vocabulary, MAX_PROMPT_TOKENS) for _ in range(3)]
    in_float32, alone, mixed = (list(questions.values()) for questions in asked)
    answer(params, network, in_float32)
    answer(params, network, alone, dtype="bfloat16")
    decide(
        params,
        network,
        mixed,
        dtype="bfloat16",
        sample=sample,
        on_rescoring=lambda report: print(f"  {report}"),
    )
    exact, rounded, repeated = (
        [questions[item.inputs].prediction(item) for item in items] for questions in asked
    )
    moved = np.array(
        [
            np.ptp(np.subtract(a.log_likelihoods, b.log_likelihoods))
            for a, b in zip(exact, rounded, strict=True)
            if len(a.log_likelihoods) > 1
        ]
    )
    print(
        f"  margins of sums moved by {np.sqrt(np.mean(moved**2)):.3f} (root mean square), "
        f"{np.quantile(moved, 0.99):.3f} (99%), {moved.max():.3f} at most"
    )
    for name, predictions in (("bfloat16 alone", rounded), ("repeated", repeated)):
        print(f"  other decisions than float32's, {name}: {differing(items, exact, predictions)}")
    metrics = compute_metrics(items, exact), compute_metrics(items, repeated)
    shares = {
        name: abs(metric.value - metrics[1][name].value) / (metric.high - metric.low)
        for name, metric in metrics[0].items()
        if metric.value != metrics[1][name].value and metric.high - metric.low > 1e-3
    }
    worst = sorted(shares, key=lambda name: -shares[name])[:3]
    print(f"  metrics that differ: {', '.join(sorted({n.split('/')[-1] for n in shares}))}")
    print(
        f"  by {np.median(list(shares.values())):.1%} of the interval's width (median), "
        f"{np.quantile(list(shares.values()), 0.95):.1%} (95%)"
    )
    for name in worst:
        before, after = metrics[0][name], metrics[1][name]
        print(
            f"  {name}: {before.value:.4f} ({before.low:.4f} to {before.high:.4f}), then "
            f"{after.value:.4f}"
        )


def differing(items: Sequence[Item], one: Sequence[Prediction], other: Sequence[Prediction]) -> int:
    """The items about which two lists of predictions decide otherwise, by their sums."""
    return sum(
        a.choice != b.choice if len(item.choices) > 1 else a.greedy != b.greedy
        for item, a, b in zip(items, one, other, strict=True)
    )


if __name__ == "__main__":
    main()
