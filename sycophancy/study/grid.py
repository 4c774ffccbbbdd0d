"""What has to be run for a family: each model and recipe once, and what reads it."""

from __future__ import annotations

import dataclasses

from sycophancy.study.experiments import experiments
from sycophancy.study.families import EVALUATE_ONLY, family_named


@dataclasses.dataclass(frozen=True)
class Planned:
    """One cell of a sweep.

    Attributes:
      model, recipe: names as the command line takes them; the recipe `evaluate_only` stands for
        a model that is asked and not finetuned.
      experiments: keys of the experiments that read it.
    """

    model: str
    recipe: str
    experiments: tuple[str, ...]


def cells(family: str) -> list[Planned]:
    """The cells of a family, what most experiments read first.

    Args:
      family: one of `families.FAMILIES`.

    Raises:
      UserError: there is no such family.

    >>> [cell.model for cell in cells("mini")][:3]
    ['mini_small', 'mini_base', 'mini_large']
    """
    found = family_named(family)
    readers: dict[tuple[str, str], list[str]] = {}
    for experiment in experiments(found):
        for cell in experiment.cells:
            readers.setdefault(cell, []).append(experiment.key)
    recipes = [
        found.main,
        EVALUATE_ONLY,
        found.paper_claims,
        found.balanced_claims,
        *(recipe for _, recipe in found.others),
    ]
    models = [name for size in found.sizes for name in (size.model, size.pretrained)]
    ordered = sorted(readers, key=lambda cell: (recipes.index(cell[1]), models.index(cell[0])))
    return [Planned(*cell, tuple(readers[cell])) for cell in ordered]
