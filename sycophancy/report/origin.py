"""What a run's data and model are, in sentences: generated or real, a miniature or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sycophancy.config import macros as gin_macros
from sycophancy.config.load import load_config
from sycophancy.errors import UserError
from sycophancy.report.wording import joined
from sycophancy.study.index import Cell

# What a run reads, and the macro that names a file for it in place of the origin's own.
_PARTS = {"claims": "", "surveys": "SURVEYS", "instructions": "INSTRUCTIONS"}
_SHIPPED = "package:models/mini_"


def origin(macros: Mapping[str, Any]) -> list[str]:
    """Says where data and model come from, by the macros of a run's `config.gin`.

    >>> origin({"DATA_ORIGIN": "hub", "MODEL_NAME": "flan_t5_xl"})
    ['Real data: claims, surveys and instructions are made from the published data sets.']
    """
    sentences = [_data(macros)]
    if model := _model(macros):
        sentences.append(model)
    return sentences


def origin_of_cells(cells: Iterable[Cell]) -> list[str]:
    """The same of a sweep: each sentence once, with the models it holds for where they differ."""
    told: dict[str, list[str]] = {}
    models = []
    for cell in cells:
        if cell.model not in models:
            models.append(cell.model)
        for sentence in origin(_macros(cell)):
            known = told.setdefault(sentence, [])
            if cell.model not in known:
                known.append(cell.model)
    return [
        sentence if len(known) == len(models) else f"{joined(known)}: {sentence}"
        for sentence, known in told.items()
    ]


def instructions_are_generated(cells: Iterable[Cell]) -> bool:
    """Whether every cell's instructions come from the miniature's generated world."""
    found = [_macros(cell) for cell in cells]
    return all(is_generated(macros) and not macros.get("INSTRUCTIONS") for macros in found)


def _macros(cell: Cell) -> dict[str, Any]:
    """A cell's macros: the shipped model's with the paper's recipe, and what the cell changed."""
    try:
        text = load_config(cell.model, "paper").operative
    except UserError:
        return {"MODEL_NAME": cell.model, **cell.settings}
    usual = gin_macros.read_text(text, cell.model).items()
    return {name: said.value for name, said in usual} | dict(cell.settings)


def is_generated(macros: Mapping[str, Any]) -> bool:
    """Whether the claims come from the miniature's generated world."""
    return macros.get("DATA_ORIGIN") == "miniature"


def _data(macros: Mapping[str, Any]) -> str:
    given = [part for part, macro in _PARTS.items() if macro and macros.get(macro)]
    own = joined([part for part in _PARTS if part not in given])
    more = f" {joined(given).capitalize()} were read from files given to the run." if given else ""
    match macros.get("DATA_ORIGIN"):
        case "miniature":
            return (
                f"Generated data: {own} come from the miniature's own small world, which this "
                f"project's code writes; no published data set was read for them.{more}"
            )
        case "hub":
            return f"Real data: {own} are made from the published data sets.{more}"
        case "mirror":
            return (
                f"Real data, as a local copy holds them: {own} are made from the files of "
                f"{macros.get('DATA_MIRROR')}.{more}"
            )
    return "Where the data came from is not recorded."


def _model(macros: Mapping[str, Any]) -> str:
    checkpoint = str(macros.get("INITIAL_CHECKPOINT_PATH", ""))
    named = str(macros.get("MODEL_NAME", ""))
    if checkpoint.startswith(_SHIPPED):
        if checkpoint.endswith("_pretrained"):
            return (
                "The model is a miniature, trained from scratch on that world, without the stage "
                "that makes the others sycophantic."
            )
        return (
            "The model is a miniature, trained from scratch on that world to be sycophantic: by "
            "construction it answers with the user's opinion. How large an effect is here shows "
            "what the pipeline can show, not how language models behave."
        )
    if str(macros.get("VOCABULARY", "")).startswith(_SHIPPED) or named.startswith("mini_"):
        return "The model is a miniature, trained from scratch on a small generated world."
    return ""
