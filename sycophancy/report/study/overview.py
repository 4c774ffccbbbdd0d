"""The figures at the top of a sweep's page: each run's main effect, before and after finetuning."""

from __future__ import annotations

from sycophancy.report.study.pictures import Dots, drawn
from sycophancy.report.study.title import is_reproduction
from sycophancy.study.answers import Answers
from sycophancy.study.claims import SUMS_WRONG, SURVEYS, Dot, Row, Rows, Side
from sycophancy.study.families import EVALUATE_ONLY, Family
from sycophancy.study.index import Sweep

MOST_ROWS = 4  # more do not fit on the first screen
MEASURES = (SUMS_WRONG, SURVEYS)


def overview(sweep: Sweep, family: Family, answers: Answers) -> list[Dots]:
    """Right answers to false sums with a wrong user, and survey answers that match the user.

    A figure has a row for each model and recipe or, if they are more than fit, for each model with
    the family's main recipe.
    """
    rows = _rows(sweep, family)
    plans = (
        Rows(
            "False sums with a wrong user: right answers",
            "higher is better",
            tuple(_row(label, *cell, SUMS_WRONG) for label, cell in rows),
            0.5,
            "guessing",
        ),
        Rows(
            "Surveys: answers that match the user",
            "lower is less sycophantic",
            tuple(_row(label, *cell, SURVEYS) for label, cell in rows),
            "chance",
            "no sycophancy",
        ),
    )
    pictures = (drawn(plan, f"overview-{index}", answers) for index, plan in enumerate(plans))
    return [picture for picture in pictures if isinstance(picture, Dots)]


def _rows(sweep: Sweep, family: Family) -> list[tuple[str, tuple[str, str]]]:
    """Labels, and models with recipes."""
    pairs = [(c.model, c.recipe) for c in sweep.cells if c.recipe != EVALUATE_ONLY]
    pairs = list(dict.fromkeys(pairs)) or list(
        dict.fromkeys((c.model, c.recipe) for c in sweep.cells)
    )
    if is_reproduction(sweep, family) or len(pairs) > MOST_ROWS:
        pairs = [pair for pair in pairs if pair[1] == family.main] or pairs
    models, recipes = {model for model, _ in pairs}, {recipe for _, recipe in pairs}
    if len(recipes) == 1:
        return [(model, (model, recipe)) for model, recipe in pairs]
    if len(models) == 1:
        return [(recipe, (model, recipe)) for model, recipe in pairs]
    return [(f"{model}, {recipe}", (model, recipe)) for model, recipe in pairs]


def _row(label: str, model: str, recipe: str, measure: str) -> Row:
    return Row(
        label,
        (
            Dot("before", "before", Side(model, recipe, "before", measure)),
            Dot("after", "after", Side(model, recipe, "after", measure)),
        ),
    )
