"""Imports this project's package `tasks`, even if Python finds another module of that name first.

Projects that finetune with T5X often have a `tasks.py` of their own on PYTHONPATH. This project's
package is then loaded from its file under another name, and the other module is not affected.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import sycophancy

__all__ = ["tasks"]

_FILE = Path(sycophancy.__file__).resolve().parents[1] / "tasks" / "__init__.py"
_OTHER_NAME = "sycophancy_tasks"


def _load() -> ModuleType:
    for name in ("tasks", _OTHER_NAME):
        module = sys.modules.get(name)
        if module is not None and _is_ours(getattr(module, "__file__", None)):
            return module
    try:
        spec = importlib.util.find_spec("tasks")
    except ValueError:  # a module that was made in memory has no spec
        spec = None
    if spec is not None and _is_ours(spec.origin):
        import tasks as package  # as a statement, because `engine.imports` reads the source

        return package
    return _load_from_file()


def _load_from_file() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        _OTHER_NAME, _FILE, submodule_search_locations=[str(_FILE.parent)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_OTHER_NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_OTHER_NAME]
        raise
    return module


def _is_ours(file: str | None) -> bool:
    return file is not None and Path(file).resolve() == _FILE


if TYPE_CHECKING:
    import tasks
else:
    tasks = _load()
