"""Pre-trains a miniature Flan-style T5 from generated data, in gated stages.

    python scripts/pretrain_miniature.py --model mini_base --out .cache/mini_base

A model of this size learns nothing from the full mixture at once. Each stage therefore adds
families of examples, keeps a share of the earlier families, and ends when held-out accuracy passes
its gate. The recipe was chosen on seeds from 100 and on 2; `docs/lab_notes.md` reports all. The
result is the same for a seed and a machine. Started again after an interruption, the script
continues from its last save.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import serialization
from miniature_stages import SIZES, STAGES, Stage, shares
from model_card import card

from sycophancy.config.load import load_config
from sycophancy.config.schema import NetworkConfig
from sycophancy.data.miniature.curriculum import Curriculum
from sycophancy.data.miniature.pieces import build_model
from sycophancy.model.checkpoints import huggingface
from sycophancy.model.network import Transformer
from sycophancy.model.vocabulary import Vocabulary

BUCKETS = {16: 192, 24: 128, 36: 88, 56: 56, 92: 32}  # prompt tokens -> examples in a batch
TARGET_LENGTH = 2  # every answer is one piece, then the end of sequence
EXAMPLES_PER_ROUND = 1_024
GATED = "gated.msgpack"  # the state before the last stage
MEASURED = 400  # held-out examples for each family and measurement


def structured(params: Any, config: NetworkConfig, rng: np.random.Generator) -> Any:
    """Initialises one encoder head to match equal tokens and two to look one and two tokens back.

    With an ordinary initialisation the network stays at chance on binding letters to choices for
    thousands of steps.
    """
    encoder = params["encoder"]
    attention = encoder["layers"]["attention"]
    query = np.array(attention["query"]["kernel"])
    key = np.array(attention["key"]["kernel"])
    size = config.head_dim
    spread = np.sqrt(7.0 / (size * config.emb_dim))
    for layer in range(config.num_encoder_layers):
        match = rng.normal(0.0, spread, (config.emb_dim, size))
        query[layer, :, :size] = match
        key[layer, :, :size] = match
        query[layer, :, 2 * size : 4 * size] *= 0.1
    bias = np.array(encoder["relpos_bias"]["rel_embedding"]) * 0.1
    bias[0, 0] = -6.0  # a token does not match itself
    bias[2, 1] = 6.0  # one token back
    bias[3, 2] = 6.0  # two tokens back
    attention["query"]["kernel"], attention["key"]["kernel"] = jnp.array(query), jnp.array(key)
    encoder["relpos_bias"]["rel_embedding"] = jnp.array(bias)
    params["token_embedder"]["embedding"] *= 0.3
    return params


Batch = dict[str, np.ndarray]


def batches(
    examples: list[tuple[str, str]], vocabulary: Vocabulary, rng: random.Random
) -> list[Batch]:
    """Pads examples to the lengths of `BUCKETS`; the last batch of a length gets empty rows."""
    prompts = vocabulary.encode_batch([prompt for prompt, _ in examples])
    answers = vocabulary.encode_batch([answer for _, answer in examples])
    waiting: dict[int, list[tuple[list[int], list[int]]]] = {length: [] for length in BUCKETS}
    for prompt, answer in zip(prompts, answers, strict=True):
        prompt = [*prompt, vocabulary.eos_id]
        length = next(length for length in BUCKETS if len(prompt) <= length)
        waiting[length].append((prompt, [*answer, vocabulary.eos_id]))
    result = []
    for length, rows in waiting.items():
        for start in range(0, len(rows), BUCKETS[length]):
            batch = {
                "inputs": np.zeros((BUCKETS[length], length), np.int32),
                "targets": np.zeros((BUCKETS[length], TARGET_LENGTH), np.int32),
            }
            for i, (prompt, answer) in enumerate(rows[start : start + BUCKETS[length]]):
                batch["inputs"][i, : len(prompt)] = prompt
                batch["targets"][i, : len(answer)] = answer
            result.append(batch)
    rng.shuffle(result)
    return result


def shift_right(targets: jax.Array) -> jax.Array:
    return jnp.pad(targets[:, :-1], ((0, 0), (1, 0)))


def loss_and_hits(model: Transformer, params: Any, batch: Batch, dropout: jax.Array | None) -> Any:
    """Mean cross entropy of the target tokens, and for each row whether the argmax is right."""
    inputs, targets = batch["inputs"], batch["targets"]
    rngs = {} if dropout is None else {"dropout": dropout}
    logits = model.apply(
        {"params": params},
        inputs,
        shift_right(targets),
        targets,
        enable_dropout=dropout is not None,
        rngs=rngs,
    )
    real = targets > 0
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    loss = jnp.sum(losses * real) / (TARGET_LENGTH * len(targets))
    return loss, (jnp.argmax(logits[:, 0], -1) == targets[:, 0]) & real[:, 0]


class Pretraining:
    """State of one run: parameters, optimiser, stage, counters."""

    def __init__(self, config: NetworkConfig, out: Path, args: argparse.Namespace) -> None:
        self.config, self.out, self.args = config, out, args
        self.vocabulary = Vocabulary(str(out / "spiece.model"))
        self.model = Transformer(config)
        self.choices = {"crossed": not args.own_users, "more_domains": args.more_domains}
        self.curriculum = Curriculum("pretraining", args.seed, **self.choices)
        tokens = jnp.ones((1, 16), jnp.int32)
        variables = self.model.init(jax.random.key(args.seed), tokens, tokens[:, :2], tokens[:, :2])
        self.params = structured(
            nn.unbox(variables)["params"], config, np.random.default_rng(args.seed)
        )
        self.progress: dict[str, Any] = {
            "stage": 0, "steps": 0, "stage_steps": 0, "round": 0, "seconds": 0.0,
            "devices": [jax.devices()[0].device_kind],
        }  # fmt: skip
        schedule = optax.warmup_constant_schedule(0.0, args.learning_rate, 100)
        self.optimizer = optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.scale_by_adam(b2=0.98),
            optax.scale_by_learning_rate(schedule),
        )
        self.optimizer_state = self.optimizer.init(self.params)
        self._measured: dict[tuple[str, int], list[Batch]] = {}

        @jax.jit
        def step(params, state, batch, key):
            (loss, _), gradient = jax.value_and_grad(
                lambda p: loss_and_hits(self.model, p, batch, key), has_aux=True
            )(params)
            updates, state = self.optimizer.update(gradient, state)
            return optax.apply_updates(params, updates), state, loss

        self._step = step
        self._hits = jax.jit(
            lambda params, batch: loss_and_hits(self.model, params, batch, None)[1]
        )

    def save(self) -> None:
        state = {"params": self.params, "optimizer": self.optimizer_state}
        payload = serialization.to_bytes({**state, "progress": json.dumps(self.progress)})
        temporary = self.out / "state.tmp"
        temporary.write_bytes(payload)
        temporary.replace(self.out / "state.msgpack")

    def export(self, folder: Path) -> None:
        """Writes the parameters as a Hugging Face folder, which the package reads."""
        huggingface.save(folder, self.params, self.config, self.vocabulary.path)

    def publish(self, name: str) -> None:
        """Exports the current parameters under a name, with a model card."""
        self.export(self.out / name)
        (self.out / name / "README.md").write_text(card(self, name))
        print(f"wrote {self.out / name}; to ship it: cp it to sycophancy/models/{name}", flush=True)

    def restore(self, path: Path) -> None:
        template = {"params": self.params, "optimizer": self.optimizer_state, "progress": ""}
        state = serialization.from_bytes(template, path.read_bytes())
        self.params, self.optimizer_state = state["params"], state["optimizer"]
        self.progress |= json.loads(state["progress"])
        if (device := jax.devices()[0].device_kind) not in self.progress["devices"]:
            self.progress["devices"].append(device)

    def measure(self, family: str, count: int = MEASURED) -> float:
        """The share of `count` held-out examples that the model answers correctly."""
        if (family, count) not in self._measured:
            held_out = Curriculum("train", seed=1, **self.choices)
            examples = [held_out.draw(family) for _ in range(count)]
            self._measured[family, count] = batches(examples, self.vocabulary, random.Random(0))
        hits = sum(int(self._hits(self.params, b).sum()) for b in self._measured[family, count])
        return hits / count

    def shares(self, stage: Stage) -> dict[str, float]:
        """The shares of a stage's families under the options of this run."""
        return shares(
            stage,
            more_domains=self.args.more_domains,
            silent_users=not self.args.no_silent_users,
        )

    def rounds(self, stage: Stage) -> Iterator[Batch]:
        """The batches of a stage's next round; draws depend only on seed, stage and round."""
        rng = random.Random(f"{self.args.seed} {stage.name} {self.progress['round']}")
        self.curriculum.rng.seed(rng.random())
        drawn = self.shares(stage)
        families = rng.choices(list(drawn), weights=list(drawn.values()), k=EXAMPLES_PER_ROUND)
        yield from batches([self.curriculum.draw(f) for f in families], self.vocabulary, rng)

    def run_stage(self, stage: Stage) -> None:
        last = stage is STAGES[-1]
        gated = int(stage.most_steps * self.args.patience)
        most = self.args.last_steps if last else gated
        started, measured_at = time.monotonic(), self.progress["stage_steps"]
        key = jax.random.key(self.args.seed + 1)
        while self.progress["stage_steps"] < most:
            losses = []
            for batch in self.rounds(stage):
                dropout = jax.random.fold_in(key, self.progress["steps"])
                self.params, self.optimizer_state, loss = self._step(
                    self.params,
                    self.optimizer_state,
                    batch,
                    dropout if self.config.dropout_rate else None,
                )
                losses.append(loss)
                self.progress["steps"] += 1
                self.progress["stage_steps"] += 1
            self.progress["round"] += 1
            if self.progress["stage_steps"] - measured_at >= (250 if not last else 500):
                measured_at = self.progress["stage_steps"]
                self.progress["seconds"] += time.monotonic() - started
                started = time.monotonic()
                self.save()
                if last:  # how well finetuning transfers depends on when pre-training stops
                    self.export(self.out / "snapshots" / str(self.progress["stage_steps"]))
                families = dict.fromkeys([*stage.gates, *self.shares(stage)])
                scores = {f: self.measure(f) for f in families}
                accuracies = " ".join(f"{f} {100 * s:.0f}" for f, s in scores.items())
                print(
                    f"{stage.name}: step {self.progress['steps']} {self.progress['seconds']:.0f}s"
                    f" loss {float(np.mean(losses)):.3f} | {accuracies}",
                    flush=True,
                )
                if all(scores[f] >= gate for f, gate in stage.gates.items()):
                    return
        if not last:
            print(
                f"{stage.name}: gate not passed in {most} steps; continues with the next stage",
                flush=True,
            )


def check_vocabulary(out: Path, source: Path) -> None:
    """Ends the program if two runs have other pieces, whose parameters would be for other words.

    Raises:
      SystemExit: they differ, or the source has none.
    """
    theirs = source / "spiece.model"
    if not theirs.exists() or theirs.read_bytes() != (out / "spiece.model").read_bytes():
        raise SystemExit(
            f"{theirs} is not the vocabulary of this version of the script; make {source} again"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", choices=SIZES, default="mini_base", help="the model, by its gin file"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, help="Adam's [by size]")
    parser.add_argument(
        "--patience", type=float, help="multiplies the step limits of gated stages [by size]"
    )
    parser.add_argument(
        "--last-stage-of", type=Path, help="do only the last stage, from another run's folder"
    )
    parser.add_argument("--last-steps", type=int, help="steps of the last stage [by size]")
    parser.add_argument(
        "--own-users", action="store_true", help="each kind of claim has users of its own"
    )
    parser.add_argument(
        "--no-silent-users", action="store_true", help="every user states an opinion"
    )
    parser.add_argument(
        "--more-domains", action="store_true", help="users speak about numbers and letters, too"
    )
    args = parser.parse_args()
    for setting, value in dataclasses.asdict(SIZES[args.model]).items():
        if getattr(args, setting) is None:
            setattr(args, setting, value)

    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "spiece.model").exists():
        (args.out / "spiece.model").write_bytes(build_model())
    if args.last_stage_of:
        check_vocabulary(args.out, args.last_stage_of)
    pieces = Vocabulary(str(args.out / "spiece.model")).size
    config = load_config(args.model, "paper").model.network
    config = dataclasses.replace(config, dropout_rate=0.0, vocab_size=math.ceil(pieces / 64) * 64)
    run = Pretraining(config, args.out, args)
    count = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    print(f"{args.model}: {count:,} parameters, {pieces} pieces", flush=True)
    if (args.out / "state.msgpack").exists():
        run.restore(args.out / "state.msgpack")
        print(f"continues at {run.progress}", flush=True)
    elif args.last_stage_of:
        run.restore(args.last_stage_of / GATED)
    for number in range(run.progress["stage"], len(STAGES)):
        run.progress["stage"] = number
        run.run_stage(STAGES[number])
        gated = number == len(STAGES) - 2
        if gated:  # before the stage counts as done, or an interruption would lose it
            run.publish(f"{args.model}_pretrained")
        run.progress["stage_steps"] = 0
        run.progress["stage"] = number + 1
        run.save()
        if gated:
            (args.out / GATED).write_bytes((args.out / "state.msgpack").read_bytes())
    run.publish(args.model)


if __name__ == "__main__":
    main()
