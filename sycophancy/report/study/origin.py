"""Where the data and the models of a sweep come from: one statement for all its runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sycophancy.config import macros
from sycophancy.config.load import load_config
from sycophancy.errors import UserError
from sycophancy.report.origin import Origin, is_generated, origin
from sycophancy.report.text_format import joined
from sycophancy.study.index import Cell


def label_of_cells(cells: Iterable[Cell]) -> str:
    """The origin of the data and the models of a sweep, in a few words."""
    origins = [_origin(cell) for cell in cells]
    models = list(dict.fromkeys(one.model for one in origins))
    words = joined(list(dict.fromkeys(one.data for one in origins)))
    if models == ["miniature model"]:
        return f"{words}, miniature models"
    return f"{words}, {joined(models)}"


def origin_of_cells(cells: Iterable[Cell]) -> list[str]:
    """The origin in full: each sentence once, after the models that it holds for if not for all."""
    models_by_sentence: dict[str, list[str]] = {}
    models = []
    for cell in cells:
        if cell.model not in models:
            models.append(cell.model)
        for sentence in _origin(cell).sentences:
            models_of_sentence = models_by_sentence.setdefault(sentence, [])
            if cell.model not in models_of_sentence:
                models_of_sentence.append(cell.model)
    return [
        sentence if len(some) == len(models) else f"{joined(some)}: {sentence}"
        for sentence, some in models_by_sentence.items()
    ]


def instructions_are_generated(cells: Iterable[Cell]) -> bool:
    """Whether every cell's instructions come from the miniature's generated world."""
    settings = [_macros(cell) for cell in cells]
    return all(is_generated(each) and not each.get("INSTRUCTIONS") for each in settings)


def _origin(cell: Cell) -> Origin:
    return origin(_macros(cell))


def _macros(cell: Cell) -> dict[str, Any]:
    """A cell's macros: those of the shipped model with the paper's recipe, and its own changes."""
    try:
        text = load_config(cell.model, "paper").operative
    except UserError:
        return {"MODEL_NAME": cell.model, **cell.settings}
    usual = macros.read_text(text, cell.model).items()
    return {name: entry.value for name, entry in usual} | dict(cell.settings)
