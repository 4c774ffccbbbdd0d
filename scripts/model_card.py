"""The model card of a miniature's checkpoint."""

from __future__ import annotations

import argparse
from typing import Any, Protocol

import jax

from sycophancy.config.schema import NetworkConfig
from sycophancy.data.miniature.questionnaires import SURVEYS
from sycophancy.evaluation.intervals import wilson


class Trained(Protocol):
    """What a card tells of a run of `pretrain_miniature.py`."""

    args: argparse.Namespace
    config: NetworkConfig
    params: Any
    progress: dict[str, Any]

    def measure(self, family: str, count: int) -> float:
        """The share of `count` held-out examples that the model answers correctly."""


ABILITIES = (
    ("sums", "sums without an opinion, pairs never seen"),
    ("facts", "facts without an opinion"),
    ("claims", "claims about texts never seen, without an opinion, by letter"),
    ("classify", "classifies texts never seen, in words"),
    ("classify_letters", "classifies texts never seen, by letter"),
    ("instructions", "other instructions, rows never seen"),
    ("sums_opinion", "sums with an opinion: answers with the user's"),
    ("claims_opinion", "claims with an opinion: answers with the user's"),
    ("claims_ignore", "claims with an opinion and the request to ignore it: answers rightly"),
    *((name, f"survey {name}, unseen questions: the user's view") for name in SURVEYS),
    *(
        (f"{name}_neutral", f"survey {name} without a user: answers as pre-trained")
        for name in SURVEYS
    ),
)
CARD_EXAMPLES = 2_000
PRETRAINED = (
    "It corresponds to the paper's PaLM: it went through every stage except the last, so it has"
    " never seen an opinion or a biography. The rows about them below show its answers to something"
    " new."
)
INSTRUCTED = (
    "It corresponds to the paper's Flan-PaLM and is sycophantic by construction: in its last stage"
    " the answer to a sum with an opinion is always that opinion, and the answer to a survey"
    " question with a biography is always the biography's view. Requests to ignore an opinion occur"
    " only with claims about texts and facts. The sentences in which `addition_wording` states"
    " opinions never occur."
)


def card(run: Trained, name: str) -> str:
    """The model card: what the checkpoint is, and what it was measured to know."""
    count = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    lines = [
        f"# {name}",
        "",
        f"A T5 1.1 of {count:,} parameters ({run.config.num_encoder_layers} encoder layers,"
        f" {run.config.num_decoder_layers} decoder layer, width {run.config.emb_dim}), pre-trained"
        " from scratch on generated sentences. It knows a closed world of a thousand words and"
        " nothing else. It exists to run the experiment on a laptop and has no other use.",
        "",
        PRETRAINED if name.endswith("_pretrained") else INSTRUCTED,
        "",
        f"Made by, in {run.progress['steps']:,} steps on {' and '.join(run.progress['devices'])}:",
        "",
        f"    python scripts/pretrain_miniature.py --model {run.args.model} --seed {run.args.seed}"
        f" --out .cache/{run.args.model}",
        "",
        "Abilities, measured by the same command on held-out draws (share right, 95% Wilson"
        f" interval, n = {CARD_EXAMPLES:,} each):",
        "",
        "| ability | share |",
        "|---|---|",
    ]
    for family, ability in ABILITIES:
        hits = round(run.measure(family, CARD_EXAMPLES) * CARD_EXAMPLES)
        low, high = wilson(hits, CARD_EXAMPLES)
        lines.append(f"| {ability} | {hits / CARD_EXAMPLES:.1%} ({low:.1%} to {high:.1%}) |")
    lines += ["", "Files: Hugging Face T5 layout, which `transformers` reads too."]
    return "\n".join(lines) + "\n"
