"""Families of models that differ only in size, and the recipes of their experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from sycophancy.errors import UserError

EVALUATE_ONLY = "evaluate_only"


@dataclasses.dataclass(frozen=True)
class Size:
    """One size of a family.

    Attributes:
      label: its name in pictures.
      model: the instruction-tuned model, which stands for the paper's Flan-PaLM.
      pretrained: the model before instruction tuning, which stands for PaLM; None if unknown.
    """

    label: str
    model: str
    pretrained: str | None = None


@dataclasses.dataclass(frozen=True)
class Family:
    """The sizes of a model, smallest first, and the recipes of its experiments.

    Attributes:
      main: the recipe that all others are compared with.
      paper_claims: the recipe with the paper's claims, which are false if they contain `not`.
      balanced_claims: the recipe with claims that `not` does not decide.
      ablated: position of the one size that the smaller ablations run on.
      others: pairs of what a recipe changes and the recipe; absent ones are not run.
      instructions: its held-out instructions in words; they replace the paper's MMLU and
        BIG-Bench Hard.
      given: keys of experiments whose outcome follows from how its models were made, and why.
    """

    name: str
    sizes: tuple[Size, ...]
    main: str
    paper_claims: str
    balanced_claims: str
    ablated: int
    others: tuple[tuple[str, str], ...] = ()
    instructions: str = "held-out rows of the runs' own instruction data, not MMLU or BBH"
    given: tuple[tuple[str, str], ...] = ()

    def recipe(self, part: str) -> str | None:
        """The recipe that changes one part, or None."""
        return dict(self.others).get(part)


_PARTS = (
    "no_filtration",
    "filter_balance",
    "ratio_1_0",
    "ratio_1_1",
    "ratio_0_1",
    "steps",
    "no_opinions",
    "balanced_sampling",
)


def _others(folder: str) -> tuple[tuple[str, str], ...]:
    return tuple((part, f"{folder}/{part}") for part in _PARTS)


FAMILIES = {
    "mini": Family(
        name="mini",
        sizes=tuple(
            Size(size, f"mini_{size}", f"mini_{size}_pretrained")
            for size in ("small", "base", "large")
        ),
        main="demo",
        paper_claims="ablations/paper_claims",
        balanced_claims="demo",
        ablated=1,
        others=_others("ablations"),
        instructions="the model's own held-out instructions, not MMLU or BBH",
        given=(
            (
                "fig2",
                "Before its last stage, a miniature has never seen an opinion or a biography, and "
                "that stage teaches every size to follow them.",
            ),
        ),
    ),
    "flan_t5": Family(
        name="flan_t5",
        sizes=tuple(
            Size(size, f"flan_t5_{size}", f"t5_{size}_lm_adapt")
            for size in ("small", "base", "large", "xl", "xxl")
        ),
        main="paper",
        paper_claims="paper",
        balanced_claims="balanced",
        ablated=2,
        others=_others("paper_ablations"),
    ),
}


def family_named(name: str) -> Family:
    """The family with a name.

    Raises:
      UserError: no family has it.
    """
    if name not in FAMILIES:
        raise UserError(f"no family {name!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def family_of(cells: Iterable[tuple[str, str]]) -> Family:
    """The family that most models of a sweep belong to.

    Models of no family become a family of their own, in the order of the sweep. If the sweep lacks
    the family's main recipe, the first recipe that no experiment uses replaces it.

    Args:
      cells: models and recipes, in order.

    Raises:
      UserError: there are no cells.
    """
    pairs = list(cells)
    models = list(dict.fromkeys(model for model, recipe in pairs if recipe != EVALUATE_ONLY))
    recipes = list(dict.fromkeys(recipe for _, recipe in pairs if recipe != EVALUATE_ONLY))
    if not pairs:
        raise UserError("the sweep has no cells")

    def known(family: Family) -> int:
        own = {name for size in family.sizes for name in (size.model, size.pretrained)}
        return sum(model in own for model, _ in pairs)

    family = max(FAMILIES.values(), key=known)
    if not known(family):
        sizes = tuple(Size(model, model) for model in models or [pairs[0][0]])
        family = dataclasses.replace(
            FAMILIES["mini"],
            name="models of no family",
            sizes=sizes,
            ablated=len(sizes) // 2,
            instructions=Family.instructions,
        )
    taken = {family.paper_claims, family.balanced_claims, *dict(family.others).values()}
    free = [recipe for recipe in recipes if recipe not in taken]
    if family.main in recipes or not free:
        return family
    balanced = free[0] if family.balanced_claims == family.main else family.balanced_claims
    paper = free[0] if family.paper_claims == family.main else family.paper_claims
    return dataclasses.replace(family, main=free[0], paper_claims=paper, balanced_claims=balanced)
