"""Measures scoring beside the LM evaluation harness, with the same weights in one run.

    python scripts/bench_score.py --model SMOLLM2_FOLDER --prompts 200
    python scripts/bench_score.py --model flan_t5_small --vocabulary spiece.model --prompts 500

Prompts are the paper's sums, with two choices each. `--model` is a Hugging Face folder, or with
`--vocabulary` a shipped T5's shape, which gets random parameters. The harness asks transformers and
torch (`lm_eval.models.huggingface.HFLM`). Both score all prompts in turn, so that a busy machine
slows both. Seconds are of wall-clock time and of processor time; ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sycophancy.config.load import load_config
from sycophancy.config.schema import NetworkConfig
from sycophancy.data import addition
from sycophancy.evaluation.items import Item

Scores = list[tuple[float, ...]]


def random_folder(model: str, vocabulary: str, folder: Path) -> Path:
    """A Hugging Face folder of a shipped model's shape, with random parameters."""
    import jax

    from sycophancy.model import sharding
    from sycophancy.model.checkpoints import huggingface

    network = load_config(model, "paper").model.network
    assert isinstance(network, NetworkConfig)
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0.0, 0.05, leaf.shape).astype(np.float32),
        sharding.sharded_params(network, mesh),
    )
    huggingface.save(folder, params, network, vocabulary)
    return folder


def ours(folder: str, bindings: list[str], items: list[Item]) -> Callable[[], Scores]:
    """This project's scorer, which asks in the harness's way: without a chat template."""
    from sycophancy.stages.scores import load_language_model

    config = load_config(folder, "paper", ["CHAT='raw'", *bindings])
    model = load_language_model(config, config.model)
    return lambda: [found.log_likelihoods for found in model.score(items, continuations=True)]


def harness(folder: str, dtype: str, rows: int, items: list[Item]) -> Callable[[], Scores]:
    """The harness's own class."""
    import torch
    import transformers
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    decoder = load_config(folder, "paper").model.is_decoder
    family = transformers.AutoModelForCausalLM if decoder else transformers.AutoModelForSeq2SeqLM
    network = family.from_pretrained(folder, dtype=dtype)
    if not decoder:  # the harness would tie the output layer of a T5 1.1 to its embedding
        network.config.tie_word_embeddings = False
    model = HFLM(
        pretrained=network.to("cuda" if torch.cuda.is_available() else "cpu").eval(),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        backend="causal" if decoder else "seq2seq",
        batch_size=rows,
        max_length=2_048,
    )
    requests = [
        Instance("loglikelihood", {}, (item.inputs, choice), 0)
        for item in items
        for choice in item.choices
    ]

    def score() -> Scores:
        found = [value for value, _ in model.loglikelihood(requests, disable_tqdm=True)]
        return list(zip(found[::2], found[1::2], strict=True))

    return score


def seconds(work: Callable[[], Scores]) -> tuple[np.ndarray, Scores]:
    start, used = time.perf_counter(), time.process_time()
    found = work()
    return np.array([time.perf_counter() - start, time.process_time() - used]), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--vocabulary", help="T5's spiece.model; --model is then a shipped name")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch-rows", type=int, default=16, help="of the harness")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="MACRO=VALUE, for ours")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()

    items = [
        dataclasses.replace(item, choices=tuple(f" {choice}" for choice in item.choices))
        for item in itertools.islice(addition.build_items(0), options.prompts)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.model
        if options.vocabulary:
            folder = str(random_folder(folder, options.vocabulary, Path(temporary) / "model"))
        scorers = {
            "ours": ours(folder, options.set, items),
            "harness": harness(folder, options.dtype, options.batch_rows, items),
        }
        first = {name: seconds(score) for name, score in scorers.items()}
        rounds = [
            {name: seconds(score)[0] for name, score in scorers.items()}
            for _ in range(options.rounds)
        ]
    difference = np.abs(np.array(first["ours"][1]) / np.array(first["harness"][1]) - 1).max()
    print(
        f"{options.model}, {len(items)} prompts with two choices, harness in {options.dtype}; "
        f"largest relative difference of a log-likelihood: {difference:.1e}"
    )
    figures: dict[str, dict[str, float]] = {}
    for name in scorers:
        clock, processor = np.median([taken[name] for taken in rounds], axis=0)
        ratios = np.array([taken[name] / taken["ours"] for taken in rounds])
        figures[name] = {
            "first time, s": first[name][0][0],
            "prompts a second": len(items) / clock,
            "processor seconds": processor,
            "times ours": statistics.median(ratios[:, 0]),
            "times ours, processor": statistics.median(ratios[:, 1]),
        }
        shown = (f"{text}: {value:.2f}" for text, value in figures[name].items())
        print(f"{name:8}", "   ".join(shown))
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options), **figures}, default=str))


if __name__ == "__main__":
    main()
