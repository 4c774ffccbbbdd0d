"""Measures what the scorer saves by encoding a prompt once for all of its choices.

    python scripts/bench_encoding.py --prompts 20000

The network has random parameters. The prompts are random words in the lengths of the miniature's
prompts (median 45 tokens, 95 % below 120), tokenised by a SentencePiece model trained on them. The
line "shared" scores both choices of a prompt against one encoding; "separate" scores the choices
one after the other. Each round measures both, so that a busy machine slows both; the ratio printed
is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import sentencepiece
from flax import linen as nn

from sycophancy.config.schema import NetworkConfig
from sycophancy.evaluation.items import Item
from sycophancy.model.network import Transformer
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.scoring.score import score

NETWORK = NetworkConfig(
    vocab_size=512,
    emb_dim=128,
    num_heads=4,
    num_encoder_layers=3,
    num_decoder_layers=1,
    head_dim=32,
    mlp_dim=256,
    mlp_activations=("relu", "linear"),
)


def made_up_prompts(count: int, rng: np.random.Generator) -> list[str]:
    """Sentences of random words; the numbers of words are log-normal."""
    words = ["".join(rng.choice(list("abcdeimnorst"), rng.integers(2, 7))) for _ in range(250)]
    lengths = np.clip(np.exp(rng.normal(np.log(44), 0.55, count)), 4, 250).astype(int)
    return [" ".join(rng.choice(words, length)) for length in lengths]


def trained_vocabulary(texts: list[str], folder: Path) -> Vocabulary:
    """A SentencePiece vocabulary with T5's special tokens, and one token for each choice."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts[:2_000]),
        model_prefix=str(folder / "bench"),
        model_type="bpe",
        vocab_size=480,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=["(A)", "(B)"],
        minloglevel=2,
    )
    return Vocabulary(str(folder / "bench.model"))


def random_parameters(network: NetworkConfig, rng: np.random.Generator):
    """Float32 parameters of a network, normally distributed."""
    token = np.ones((1, 1), np.int32)
    shapes = jax.eval_shape(Transformer(network).init, jax.random.key(0), token, token, token)
    return jax.tree.map(
        lambda array: rng.normal(0, 0.05, array.shape).astype(np.float32),
        nn.meta.unbox(shapes)["params"],
    )


def seconds(work) -> np.ndarray:
    """Seconds of wall-clock time and of processor time, which depends less on other processes."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - start, time.process_time() - used])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    texts = made_up_prompts(options.prompts, rng)
    params = random_parameters(NETWORK, rng)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = trained_vocabulary(texts, Path(folder))

    def items(*choices: str) -> list[Item]:
        return [Item(str(i), "bench", "neutral", str(i), t, choices) for i, t in enumerate(texts)]

    def seconds_to_score(scored: list[Item]) -> np.ndarray:
        return seconds(
            lambda: score(params, NETWORK, vocabulary, scored, batch_tokens=options.batch_tokens)
        )

    both, first, second = items("(A)", "(B)"), items("(A)"), items("(B)")
    lengths = [len(ids) for ids in vocabulary.encode_batch(texts)]
    weights = sum(array.size for array in jax.tree.leaves(params))
    print(
        f"{weights / 1e6:.2f} M parameters on {jax.device_count()} {jax.default_backend()} device"
    )
    print(
        f"{len(texts)} prompts, median {np.median(lengths):.0f} tokens, "
        f"95 % below {np.quantile(lengths, 0.95):.0f}; tokenising takes "
        f"{seconds(lambda: vocabulary.encode_batch(texts))[0]:.2f} s"
    )
    print(
        "first time, with compilation: {:.1f} s, {:.1f} s of processor time".format(
            *seconds_to_score(both)
        )
    )
    seconds_to_score(first)
    rounds = np.array(
        [
            (seconds_to_score(both), seconds_to_score(first) + seconds_to_score(second))
            for _ in range(options.rounds)
        ]
    )
    clock, processor = np.median(rounds[:, 0], axis=0)
    print(
        f"shared: {clock:.1f} s, {processor:.1f} s of processor time, "
        f"{len(texts) / clock:.0f} prompts/s"
    )
    ratios = np.median(rounds[:, 1] / rounds[:, 0], axis=0)
    print("separate takes {:.2f} times as long, {:.2f} times the processor time".format(*ratios))


if __name__ == "__main__":
    main()
