"""Where the data and the models of a sweep come from: one statement for all its runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sycophancy.config import macros
from sycophancy.config.load import load_config
from sycophancy.errors import UserError
from sycophancy.report.origin import is_generated, origin
from sycophancy.report.text_format import joined
from sycophancy.study import lineages
from sycophancy.study.index import Cell

_CHECKPOINT = "INITIAL_CHECKPOINT_PATH"


def label_of_cells(cells: Iterable[Cell]) -> str:
    """The origin of the data and the models of a sweep, in a few words."""
    origins = [origin(settings) for settings in _settings(list(cells))]
    models = list(dict.fromkeys(one.model for one in origins))
    words = joined(list(dict.fromkeys(one.data for one in origins)))
    if models == ["miniature model"]:
        return f"{words}, miniature models"
    return f"{words}, {joined(models)}"


def origin_of_cells(cells: Iterable[Cell]) -> list[str]:
    """The origin in full: each sentence once, after the models that it holds for if not for all.

    If seeds start from lineages, the last sentence says so.
    """
    cells = list(cells)
    models_by_sentence: dict[str, dict[str, None]] = {}
    for cell, settings in zip(cells, _settings(cells), strict=True):
        for sentence in origin(settings).sentences:
            models_by_sentence.setdefault(sentence, {})[cell.model] = None
    models = {cell.model for cell in cells}
    sentences = [
        sentence if len(some) == len(models) else f"{joined(list(some))}: {sentence}"
        for sentence, some in models_by_sentence.items()
    ]
    if cells and all(map(_is_lineage, cells)):
        sentences.append(
            "Each seed starts from checkpoints of its own, pre-trained from that seed. So means "
            "and intervals over seeds are about pre-training and finetuning together."
        )
    return sentences


def instructions_are_generated(cells: Iterable[Cell]) -> bool:
    """Whether every cell's instructions come from the miniature's generated world."""
    return all(is_generated(s) and not s.get("INSTRUCTIONS") for s in _settings(list(cells)))


def _settings(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Each cell's macros: those of its model with the paper's recipe, and its own changes.

    A lineage counts as the shipped miniature of its size, which is lineage 0.
    """
    usual = {model: _usual(model) for model in {cell.model for cell in cells}}
    found = []
    for cell in cells:
        own = dict(cell.settings)
        if _is_lineage(cell):
            del own[_CHECKPOINT]
        found.append(usual[cell.model] | own)
    return found


def _is_lineage(cell: Cell) -> bool:
    return lineages.is_checkpoint(str(cell.settings.get(_CHECKPOINT)), cell.model, cell.seed)


def _usual(model: str) -> dict[str, Any]:
    """A shipped model's macros with the paper's recipe; only the name of another model."""
    try:
        text = load_config(model, "paper").operative
    except UserError:
        return {"MODEL_NAME": model}
    return {name: entry.value for name, entry in macros.read_text(text, model).items()}
