"""The runs that the experiments of a family need: each model and recipe once."""

from __future__ import annotations

import dataclasses

from sycophancy.study.experiments import experiments
from sycophancy.study.families import EVALUATE_ONLY, family_named


@dataclasses.dataclass(frozen=True)
class Planned:
    """One cell of a sweep.

    Attributes:
      model, recipe: names as the command line takes them; the recipe `evaluate_only` stands for
        a model that is evaluated and not finetuned.
      experiments: keys of the experiments that read its results.
    """

    model: str
    recipe: str
    experiments: tuple[str, ...]


def cells(family: str) -> list[Planned]:
    """The cells of a family; those that most experiments read come first.

    Args:
      family: one of `families.FAMILIES`.

    Raises:
      UserError: no family has that name.

    >>> [cell.model for cell in cells("mini")][:3]
    ['mini_small', 'mini_base', 'mini_large']
    """
    known = family_named(family)
    readers: dict[tuple[str, str], list[str]] = {}
    for experiment in experiments(known):
        for cell in experiment.cells:
            readers.setdefault(cell, []).append(experiment.key)
    recipes = [
        known.main,
        EVALUATE_ONLY,
        known.paper_claims,
        known.balanced_claims,
        *(recipe for _, recipe in known.others),
    ]
    models = [name for size in known.sizes for name in (size.model, size.pretrained)]
    ordered = sorted(readers, key=lambda cell: (recipes.index(cell[1]), models.index(cell[0])))
    return [Planned(*cell, tuple(readers[cell])) for cell in ordered]
