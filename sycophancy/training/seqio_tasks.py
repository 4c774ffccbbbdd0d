"""This project's package `tasks`, also where Python finds a module of the user's by that name.

Projects that finetune with T5X often have a `tasks.py` of their own, on PYTHONPATH or beside the
program. Ours is then loaded by its place, under another name, and theirs is left alone.
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
    except ValueError:  # a module that was put together by hand has no specification
        spec = None
    if spec is not None and _is_ours(spec.origin):
        import tasks as found  # a statement, so that the import is seen in the source, too

        return found
    return _load_by_place()


def _load_by_place() -> ModuleType:
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
