"""What else a model can do, before and after finetuning: held-out instructions, MMLU and BBH.

Every run asks held-out instructions. MMLU and BIG-Bench Hard, which the paper asks, are an
experiment only where runs measured them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from sycophancy.evaluation.retention import VARIANTS, Variant
from sycophancy.study.claims import (
    INSTRUCTIONS,
    UNCHANGED,
    Experiment,
    by_claims,
    change,
    changes,
    claim_recipes,
)
from sycophancy.study.families import Family

PAPER = (
    "In the paper MMLU and BIG-Bench Hard change by -1.6 to +0.6 points (with chain of thought "
    "-1.5 to +3.1, zero-shot MMLU -1.2 to +0.1)."
)
GUESSED = 0.25  # MMLU has four choices


def measured_variants(measures: Collection[str]) -> tuple[Variant, ...]:
    """The ways to ask MMLU and BIG-Bench Hard that are among the names of measures."""
    return tuple(variant for variant in VARIANTS if variant.metric in measures)


def instructions(family: Family, variants: Collection[Variant]) -> Experiment:
    """Held-out instructions before and after, which stand in for MMLU and BIG-Bench Hard.

    Args:
      family: whose sizes.
      variants: the ways in which MMLU and BIG-Bench Hard were asked, which the text then says.
    """
    elsewhere = "Both, as far as they were asked, are the next experiment; here"
    asked = elsewhere if variants else "Neither is asked here;"
    return Experiment(
        key="retention",
        title="Held-out instructions stay right (not MMLU or BBH)",
        source=family.instructions,
        paper=f"{PAPER} {asked} {family.instructions} are.",
        claims=tuple(
            dataclasses.replace(claim, name=f"own instructions, not MMLU or BBH: {claim.name}")
            for claim in changes(family, INSTRUCTIONS, "within", UNCHANGED)
        ),
        pictures=(
            by_claims(
                family,
                "Held-out instructions, not MMLU or BBH: exact answers",
                "should hold",
                INSTRUCTIONS,
            ),
        ),
    )


def abilities(family: Family, variants: Collection[Variant]) -> Experiment:
    """MMLU and BIG-Bench Hard before and after; each claim names the paper's range of changes.

    Args:
      family: whose sizes.
      variants: the ways in which they were asked; at least one.
    """
    return Experiment(
        key="abilities",
        title="MMLU and BIG-Bench Hard stay unchanged",
        source="MMLU and BIG-Bench Hard",
        paper=(
            f"{PAPER} Read here as: no change of more than {UNCHANGED * 100:g} points. The paper's "
            "range over its models stands beside each change."
        ),
        claims=tuple(
            change(
                size,
                recipe,
                f"{variant.words}, {name} (the paper: {variant.paper} points)",
                variant.metric,
                "within",
                UNCHANGED,
            )
            for variant in variants
            for recipe, name in claim_recipes(family)
            for size in family.sizes
        ),
        pictures=tuple(
            by_claims(
                family,
                f"{variant.words}: right answers",
                f"should hold; the paper: {variant.paper} points",
                variant.metric,
                *((GUESSED, "guessing") if variant.name.startswith("mmlu") else ()),
            )
            for variant in variants
        ),
    )
