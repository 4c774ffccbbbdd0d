"""The title of a sweep's page: what was run and, for a reproduction, how much of it agrees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sycophancy.report.study.sections import COUNTED, Section, counted
from sycophancy.report.text_format import joined
from sycophancy.study import grid
from sycophancy.study.families import EVALUATE_ONLY, FAMILIES, Family
from sycophancy.study.index import Sweep

PAPER = "Wei et al. 2023"
NAMED = 4  # most models or recipes that a title names; more are counted


def is_reproduction(sweep: Sweep, family: Family) -> bool:
    """Whether a sweep has every run that the paper's experiments need on a family."""
    if family.name not in FAMILIES:
        return False
    planned = {(cell.model, cell.recipe) for cell in grid.cells(family.name)}
    return planned <= {(cell.model, cell.recipe) for cell in sweep.cells}


def title(sweep: Sweep, family: Family, sections: Sequence[Section]) -> str:
    """What was run, in one line.

    A reproduction's title counts the experiments that agree with the paper; another sweep is named
    by its models, recipes and seeds.
    """
    if not is_reproduction(sweep, family):
        return f"Sweep: {scope(sweep)}"
    models = [size.model for size in family.sizes]
    run = [s for s in sections if s.is_papers and s.outcome.counts_as_run]
    agree = sum(section.outcome.verdict == "agree" for section in run)
    noun = "experiment" if len(run) == 1 else "experiments"
    result = f"{agree} of {len(run)} {noun} agree{'s' if agree == 1 else ''}"
    return f"Reproduction of {PAPER} on {listed(models, 'models')}: {result}"


def scope(sweep: Sweep) -> str:
    """The models, recipes and seeds of a sweep in words."""
    models = listed(_distinct(cell.model for cell in sweep.cells), "models")
    recipes = _distinct(cell.recipe for cell in sweep.cells if cell.recipe != EVALUATE_ONLY)
    seeds = len({cell.seed for cell in sweep.cells})
    each = " each" if len({(cell.model, cell.recipe) for cell in sweep.cells}) > 1 else ""
    parts = [models]
    if recipes:
        noun = "recipe" if len(recipes) == 1 else "recipes"
        few = len(recipes) <= NAMED
        parts.append(f"{noun} {joined(recipes)}" if few else f"{len(recipes)} recipes")
    parts.append(f"{seeds} seed{'s' if seeds != 1 else ''}{each}")
    return ", ".join(parts)


def verdict_counts(sections: Sequence[Section]) -> str:
    """How many experiments of the paper agree, disagree or are undecided, and how many beyond it.

    Returns:
      A sentence without its full stop; empty if no experiment was run.
    """
    parts = []
    for papers, whose in ((True, "of the paper"), (False, "beyond the paper")):
        run = [s for s in sections if s.is_papers == papers and s.outcome.counts_as_run]
        if run:
            verdicts = [section.outcome.verdict for section in run]
            noun = "experiment" if len(run) == 1 else "experiments"
            words = counted({name: verdicts.count(name) for name in COUNTED})
            parts.append(f"of {len(run)} {noun} {whose} that were run, {words}")
    sentence = "; ".join(parts)
    return sentence[:1].upper() + sentence[1:]


def listed(names: Sequence[str], noun: str) -> str:
    """A few names in words, or how many they are.

    >>> listed(["mini_base", "mini_large"], "models"), listed(list("abcdef"), "models")
    ('mini_base and mini_large', '6 models')
    """
    return joined(names) if len(names) <= NAMED else f"{len(names)} {noun}"


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
