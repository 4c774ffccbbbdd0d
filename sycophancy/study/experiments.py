"""The table of all experiments: the paper's, and some beyond it.

Each experiment is data: what the paper found, the claims that decide whether a sweep agrees, and
the pictures. The runs that they need (`grid`), their verdicts (`verdicts`) and their pages
(`report.study`) follow from this table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from sycophancy.study import beyond, paper, retention
from sycophancy.study.claims import Experiment
from sycophancy.study.families import Family


def experiments(family: Family, measures: Collection[str] = ()) -> tuple[Experiment, ...]:
    """Every experiment for one family: the paper's in its order, then those beyond it.

    Args:
      family: whose sizes and recipes.
      measures: names of measures that runs have; MMLU and BIG-Bench Hard are an experiment only if
        they are among them.
    """
    variants = retention.measured_variants(measures)
    given = dict(family.given)
    table = (
        paper.survey_sizes(family),
        paper.addition_sizes(family),
        paper.surveys(family),
        paper.addition(family),
        paper.filtration(family),
        paper.neutral_surveys(family),
        paper.ratios(family),
        paper.steps(family),
        retention.instructions(family, variants),
        *((retention.abilities(family, variants),) if variants else ()),
        beyond.claim_mode(family),
        beyond.filter_balance(family),
        beyond.no_opinions(family),
        beyond.sampling(family),
        beyond.wording(family),
        beyond.expertise(family),
        beyond.true_claims(family),
        beyond.formats(family),
    )
    return tuple(dataclasses.replace(one, given=given.get(one.key, "")) for one in table)
