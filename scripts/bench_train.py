"""Measures a training step beside those of torch with transformers and of T5X, in one run.

    python scripts/bench_train.py --model flan_t5_small --rows 8 --inputs 512 --targets 64
    python scripts/bench_train.py --model SMOLLM2_FOLDER --rows 4 --inputs 442 --targets 70

All trainers have the same shape, random parameters, Adafactor, dropout 0.05 and the same full rows
of random tokens. They take a step in turn, so that a busy machine slows all of them; the ratios are
medians of the rounds' ratios. Tflop/s are the operations that the model needs
(`sycophancy.plan.costs`), divided by the time of a step. `--start` also times a process of each
that imports, compiles and takes one step. torch computes in bfloat16 by autocast, as its users do;
its decoder-only models compute logits at every position, as transformers does in training.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sycophancy.plan.chips import GIB
from sycophancy.plan.costs import step_flops

DROPOUT, LEARNING_RATE = 0.05, 1e-3
Step = Callable[[], None]


def ours(options: argparse.Namespace) -> Step:
    """This project's trainer."""
    import jax

    from sycophancy.model import sharding
    from sycophancy.training.step import make_program

    config = configuration(options)
    mesh = sharding.make_mesh(sharding.resolve(config.training.mesh, config.model.network))
    program = make_program(config.model.network, config.training, mesh)
    params = sharding.put(
        random_parameters(program.state.params), sharding.shardings_of(program.state.params)
    )
    held = [program.start(params)]
    rows = batch(options, config.model.network)

    def step() -> None:
        with jax.set_mesh(mesh):
            held[0], loss = program.step(held[0], sharding.put_batch(rows, mesh))
            loss.block_until_ready()

    return step


def with_torch(options: argparse.Namespace) -> Step:
    """transformers' model and Adafactor, in eager torch."""
    import torch
    import transformers

    network = configuration(options).model.network
    if Path(options.model).is_dir():
        shape = transformers.AutoConfig.from_pretrained(options.model, attention_dropout=0.0)
        model = transformers.AutoModelForCausalLM.from_config(shape)
    else:
        like: dict[str, Any] = {
            "vocab_size": network.vocab_size,
            "d_model": network.emb_dim,
            "d_kv": network.head_dim,
            "d_ff": network.mlp_dim,
            "num_layers": network.num_encoder_layers,
            "num_decoder_layers": network.num_decoder_layers,
            "num_heads": network.num_heads,
            "dropout_rate": DROPOUT,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": network.logits_via_embedding,
            "decoder_start_token_id": 0,
        }
        shape = transformers.T5Config(**like)
        model = transformers.T5ForConditionalGeneration(shape)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimizer = transformers.Adafactor(
        model.parameters(), lr=LEARNING_RATE, relative_step=False, warmup_init=False
    )
    rows = {name: torch.tensor(array) for name, array in batch(options, network).items()}
    if "encoder_input_tokens" in rows:
        asked = {
            "input_ids": rows["encoder_input_tokens"],
            "labels": rows["decoder_target_tokens"],
        }
    else:
        # transformers shifts labels itself; the row's last target is not among its inputs.
        tokens = torch.cat([rows["decoder_input_tokens"], rows["decoder_target_tokens"][:, -1:]], 1)
        weights = torch.nn.functional.pad(rows["decoder_loss_weights"], (1, 0))
        asked = {"input_ids": tokens, "labels": torch.where(weights > 0, tokens, -100)}
    asked = {name: rows.long().to(device) for name, rows in asked.items()}
    half = options.dtype == "bfloat16"

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = model(**asked).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def with_t5x(options: argparse.Namespace) -> Step:
    """The real T5X, which docs/t5x.md installs, as gin_configs/trainers/t5x.gin sets it."""
    import gin
    import jax
    from t5x import train, utils

    from sycophancy.config import macros

    main = sys.modules["__main__"]
    main.train = train.train  # type: ignore[attr-defined]  # the gin file imports it from here
    gin.add_config_file_search_path(str(macros.root()))
    gin.parse_config_files_and_bindings(
        [f"models/{options.model}.gin", "recipes/paper.gin", "trainers/t5x.gin"],
        [
            *(text.replace("=", " = ", 1) for text in settings(options)),
            "DATA_DIR = '/nowhere'",
            "MODEL_DIR = '/nowhere'",
        ],
    )
    make = lambda name: gin.get_configurable(name)()  # noqa: E731
    partitioner = make("t5x.partitioning.PjitPartitioner")
    model = make("t5x.models.EncoderDecoderModel")
    rows = batch(options, configuration(options).model.network)
    maker = utils.TrainStateInitializer(
        optimizer_def=model.optimizer_def,
        init_fn=model.get_initial_variables,
        input_shapes={name: array.shape for name, array in rows.items()},
        partitioner=partitioner,
    )
    trainer = gin.get_configurable("t5x.trainer.Trainer")(
        model=model,
        train_state=maker.from_scratch(jax.random.PRNGKey(0)),
        partitioner=partitioner,
        eval_names=[],
        summary_dir=None,
        train_state_axes=maker.train_state_axes,
        rng=jax.random.PRNGKey(0),
    )

    def step() -> None:
        trainer.train(iter([rows]), 1).result()

    return step


TRAINERS: dict[str, Callable[[argparse.Namespace], Step]] = {
    "ours": ours,
    "torch": with_torch,
    "t5x": with_t5x,
}


def settings(options: argparse.Namespace) -> list[str]:
    """The shape of the step as bindings of macros."""
    lengths = {"inputs": options.inputs, "targets": options.targets}
    return [
        f"BATCH_SIZE={options.rows}",
        f"TASK_FEATURE_LENGTHS={lengths}",
        f"DTYPE={options.dtype!r}",
        f"DROPOUT_RATE={DROPOUT}",
        "PACKING=False",
    ]


def configuration(options: argparse.Namespace) -> Any:
    from sycophancy.config.load import load_config

    return load_config(options.model, "paper", [*settings(options), *options.set])


def random_parameters(shapes: Any) -> Any:
    import jax

    key = jax.random.key(0)
    return jax.tree.map(lambda leaf: 0.02 * jax.random.normal(key, leaf.shape), shapes)


def batch(options: argparse.Namespace, network: Any) -> dict[str, np.ndarray]:
    """Full rows of random tokens, without padding, int32."""
    from sycophancy.config.schema import DecoderConfig
    from sycophancy.training.decoder_rows import decoder_rows

    rng = np.random.default_rng(1)
    draw = lambda length: rng.integers(3, network.vocab_size, (options.rows, length), np.int32)  # noqa: E731
    inputs, targets = draw(options.inputs), draw(options.targets)
    if isinstance(network, DecoderConfig):
        length = options.inputs + options.targets
        prompts = np.full(options.rows, options.inputs)
        return decoder_rows(np.concatenate([inputs, targets], 1), prompts, length, packing=False)
    return {
        "encoder_input_tokens": inputs,
        "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": np.ones_like(targets),
    }


def peak_memory(name: str) -> float | None:
    """The most bytes that a trainer's framework held on an accelerator, or None on a CPU."""
    if name == "torch":
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def start_seconds(name: str) -> float:
    """Seconds of a process that imports, compiles and takes one step."""
    words = [sys.executable, *sys.argv, "--trainers", name, "--rounds", "0"]
    words.remove("--start")
    return seconds(lambda: subprocess.run(words, check=True, capture_output=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="flan_t5_small", help="a shipped model, or a folder")
    parser.add_argument("--trainers", default="ours,torch", help="of ours, torch and t5x")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--inputs", type=int, default=512)
    parser.add_argument("--targets", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="MACRO=VALUE, for ours")
    parser.add_argument("--start", action="store_true", help="time imports and compilation, too")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()

    names = options.trainers.split(",")
    shape = configuration(options)
    needed = step_flops(shape.model.network, shape.training)[0]
    steps: dict[str, Step] = {}
    figures: dict[str, dict[str, float]] = {name: {} for name in names}
    for name in names:
        start = time.perf_counter()
        steps[name] = TRAINERS[name](options)
        steps[name]()
        figures[name]["first step, with compilation, s"] = time.perf_counter() - start
        if options.start:
            figures[name]["a process with one step, s"] = start_seconds(name)
    rounds = [{name: seconds(steps[name]) for name in names} for _ in range(options.rounds)]
    for name in names if rounds else ():
        figures[name]["step, s"] = statistics.median(taken[name] for taken in rounds)
        ratios = (taken[name] / taken[names[0]] for taken in rounds)
        figures[name][f"times {names[0]}"] = statistics.median(ratios)
        figures[name]["Tflop/s"] = needed / figures[name]["step, s"] / 1e12
    for name in names:
        if (peak := peak_memory(name)) is not None:
            figures[name]["peak memory, GiB"] = peak / GIB
    print(
        f"{options.model}, {options.rows} rows of {options.inputs} + {options.targets} tokens, "
        f"{options.dtype}, {options.rounds} rounds"
    )
    for name, values in figures.items():
        print(f"{name:6}", "   ".join(f"{text}: {value:.3f}" for text, value in values.items()))
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options), **figures}, default=str))


if __name__ == "__main__":
    main()
