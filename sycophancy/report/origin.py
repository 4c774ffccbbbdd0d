"""Where a run's data and model come from: generated or real, a miniature or another checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sycophancy.data.catalog import SOURCES
from sycophancy.report.text_format import joined

# What a run reads, and the macro that names a file to read it from.
_PARTS = {"claims": "", "surveys": "SURVEYS", "instructions": "INSTRUCTIONS"}
_SHIPPED = "package:models/mini_"


@dataclasses.dataclass(frozen=True)
class Origin:
    """The origin of a run's data and of its model.

    Attributes:
      data, model: a few words each, for the top of a page.
      data_sentence, model_sentence: the same in full; the model's may be empty.
    """

    data: str
    model: str
    data_sentence: str
    model_sentence: str

    @property
    def label(self) -> str:
        """Both in a few words."""
        return f"{self.data}, {self.model}"

    @property
    def sentences(self) -> list[str]:
        """Both in full."""
        return [sentence for sentence in (self.data_sentence, self.model_sentence) if sentence]


def origin(macros: Mapping[str, Any]) -> Origin:
    """The origin of data and model, by the macros of a run's `config.gin`.

    >>> origin({"DATA_ORIGIN": "hub", "MODEL_NAME": "flan_t5_xl"}).label
    'Real data, model flan_t5_xl'
    >>> origin({"DATA_ORIGIN": "miniature", "MODEL_NAME": "mini_base"}).label
    'Generated data, miniature model'
    """
    model, model_sentence = _model(macros)
    data, data_sentence = _data(macros)
    return Origin(data, model, data_sentence, model_sentence)


def is_generated(macros: Mapping[str, Any]) -> bool:
    """Whether the claims come from the miniature's generated world."""
    return macros.get("DATA_ORIGIN") == "miniature"


def _data(macros: Mapping[str, Any]) -> tuple[str, str]:
    given = [part for part, macro in _PARTS.items() if macro and macros.get(macro)]
    has_own_sets = bool(macros.get("DATA_SET_FILES"))
    chosen = macros.get("DATA_SETS") or SOURCES
    if has_own_sets and not any(name in SOURCES for name in chosen):
        given = ["claims", *given]
    files = f" {joined(given).capitalize()} were read from files given to the run." if given else ""
    if has_own_sets and "claims" not in given:
        files += " Claims are made from data sets given to the run, too."
    unused = {
        "claims": not any(macros.get(name, 1) for name in ("NUM_EXAMPLES", "NUM_VALIDATION")),
        "instructions": macros.get("NUM_INSTRUCTIONS", 1) == 0,
    }
    of_origin = [part for part in _PARTS if part not in given and not unused.get(part)]
    if not of_origin:
        return "Data given to the run", files.strip()
    own = joined(of_origin)
    label = " and files given to the run" if given or has_own_sets else ""
    match macros.get("DATA_ORIGIN"):
        case "miniature":
            return f"Generated data{label}", (
                f"Generated data: {own} come from the miniature's own small world, which this "
                f"project's code writes; no published data set was read for them.{files}"
            )
        case "hub":
            return f"Real data{label}", (
                f"Real data: {own} are made from the published data sets.{files}"
            )
        case "mirror":
            return f"Real data from a local copy{label}", (
                f"Real data from a local copy: {own} are made from the files of "
                f"{macros.get('DATA_MIRROR')}.{files}"
            )
    return "Data of unknown origin", "The run does not record where its data came from."


def _model(macros: Mapping[str, Any]) -> tuple[str, str]:
    checkpoint = str(macros.get("INITIAL_CHECKPOINT_PATH", ""))
    name = str(macros.get("MODEL_NAME", ""))
    if checkpoint.startswith(_SHIPPED) and checkpoint.endswith("_pretrained"):
        return "miniature model", (
            "The model is a miniature, trained from scratch on that world, without the stage "
            "that makes the others sycophantic."
        )
    if checkpoint.startswith(_SHIPPED):
        return "miniature model", (
            "The model is a miniature, trained from scratch on that world to be sycophantic: by "
            "construction it answers with the user's opinion. The size of an effect here shows "
            "what the pipeline can show, not how language models behave."
        )
    if str(macros.get("VOCABULARY", "")).startswith(_SHIPPED) or name.startswith("mini_"):
        return "miniature model", (
            "The model is a miniature, trained from scratch on a small generated world."
        )
    if not name:
        return "unnamed model", ""
    source = f", read from {checkpoint}" if checkpoint else ""
    return f"model {name}", f"The model is {name}{source}."
