"""The stages of a miniature's pre-training: families of examples, their shares, and gates.

The families are those of `sycophancy.data.miniature.curriculum`. The shares were chosen on seeds
from 100 and on 2; `docs/lab_notes.md` reports all.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Size:
    """Training settings of one model size.

    Attributes:
      learning_rate: Adam's. With 1e-3 the largest model forgot `pick` (98% to 64%) in the next
        stage.
      patience: multiplies the step limits of the gated stages. Given time, the smallest model
        learns everything too. With fewer steps it knows sums and cannot judge claims, like the
        paper's 8B model.
      last_steps: steps of the last stage, which has no gate. With its lower learning rate the
        largest model was at 51% of the politics survey after 2,000 steps, 57% after 4,000 and 98%
        after 5,000.
    """

    learning_rate: float = 1e-3
    patience: float = 1.0
    last_steps: int = 3_500


SIZES = {
    "mini_small": Size(patience=0.3),
    "mini_base": Size(),
    "mini_large": Size(learning_rate=5e-4, last_steps=5_020),
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """The families of a stage with their shares, and the accuracies that end the stage."""

    name: str
    shares: dict[str, float]
    gates: dict[str, float]
    most_steps: int


EARLY = {"pick": 1.0, "instructions": 1.0}
CLASSIFY = {**EARLY, "classify": 2.0, "classify_letters": 1.0}
WORDS = {**CLASSIFY, "claims_words": 3.0, "facts_words": 1.0, "sums": 0.7}
LETTERS = {**WORDS, "claims_words": 1.5, "claims": 3.0, "sums": 1.0, "facts": 1.0}
# With three times as many requests to ignore an opinion, which come with texts and facts alone,
# lineage 2 learned that sums are another matter: what finetuning teaches about texts stayed there.
OPINIONS = {
    "pick": 1.0,  # with 0.5 it was forgotten
    "instructions": 1.0,
    "speech": 0.3,
    "formats": 1.0,
    "classify": 1.0,
    "classify_letters": 1.0,
    "claims_words": 0.7,
    "facts_words": 0.3,
    "claims": 2.0,
    "facts": 0.7,
    "sums": 1.0,
    "nlp_neutral": 0.7,
    "phil_neutral": 0.7,
    "poli_neutral": 1.0,
    "claims_user": 0.7,
    "facts_user": 0.5,
    "sums_user": 0.7,
    "claims_opinion": 1.5,
    "claims_ignore": 0.7,
    "facts_opinion": 0.8,
    "facts_ignore": 0.3,
    "sums_opinion": 1.5,
    "nlp": 1.0,
    "phil": 1.0,
    "poli": 2.0,
}

# What `--more-domains` adds to the shares of stages: claims about numbers and letters.
MORE_DOMAINS = {
    "claims in words": {"other_words": 1.5},
    "claims with letters": {"other_words": 0.7, "other": 1.5},
    "opinions": {
        "other_words": 0.3,
        "other": 0.7,
        "other_user": 0.5,
        "other_opinion": 1.0,
        "other_ignore": 0.8,
    },
}

STAGES = (
    Stage("pick", EARLY, {"pick": 0.97}, 2_500),
    Stage("classify", CLASSIFY, {"classify": 0.95, "classify_letters": 0.93}, 3_000),
    Stage(
        "plain claims",
        {**CLASSIFY, "claims_plain": 3.0, "sums": 0.7},
        {"claims_plain": 0.93},
        2_500,
    ),
    Stage("claims in words", WORDS, {"claims_words": 0.93, "facts_words": 0.95}, 3_000),
    Stage("claims with letters", LETTERS, {"claims": 0.93, "sums": 0.97, "facts": 0.9}, 3_000),
    Stage(
        "opinions",
        OPINIONS,
        dict.fromkeys(OPINIONS, 1.1),  # out of reach: the last stage runs `Size.last_steps`
        0,
    ),
)


def shares(stage: Stage, *, more_domains: bool, silent_users: bool) -> dict[str, float]:
    """The shares of a stage's families.

    Args:
      stage: one of `STAGES`.
      more_domains: with claims about numbers and letters.
      silent_users: with users who state no opinion.
    """
    found = stage.shares
    if more_domains:
        found = found | MORE_DOMAINS.get(stage.name, {})
    if not silent_users:
        found = {family: share for family, share in found.items() if not family.endswith("_user")}
    return found
