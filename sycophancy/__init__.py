"""Finetune language models so that they stop telling users what they want to hear.

The names below are the library; `docs/library.md` shows each in a few lines. A name's module is
imported when the name is first used, so `import sycophancy` alone is fast.
"""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from sycophancy.errors import UserError as UserError
    from sycophancy.evaluation.items import Item as Item
    from sycophancy.evaluation.items import Prediction as Prediction
    from sycophancy.library.claims import intervention_rows as intervention_rows
    from sycophancy.library.measures import metrics as metrics
    from sycophancy.library.model import Model as Model
    from sycophancy.library.model import generate as generate
    from sycophancy.library.model import load_model as load_model
    from sycophancy.library.model import score as score
    from sycophancy.library.run import Run as Run
    from sycophancy.library.run import run as run

__version__ = "0.1.0"

_MODULES = {
    "Item": "evaluation.items",
    "Model": "library.model",
    "Prediction": "evaluation.items",
    "Run": "library.run",
    "UserError": "errors",
    "generate": "library.model",
    "intervention_rows": "library.claims",
    "load_model": "library.model",
    "metrics": "library.measures",
    "run": "library.run",
    "score": "library.model",
}


def __getattr__(name: str) -> object:
    """A name of the library, imported now."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
