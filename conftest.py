"""Doctests are looked for in every module but those that need a library that is not installed."""

import importlib.util
from pathlib import Path

import pytest

_NEEDS = {
    "sycophancy/export/inspect_provider.py": "inspect_ai",
    "sycophancy/export/inspect_tasks.py": "inspect_ai",
    "sycophancy/harness/adapter.py": "lm_eval",
    "sycophancy/harness/evaluation.py": "lm_eval",
    "sycophancy/harness/retention.py": "lm_eval",
}
collect_ignore = [
    path for path, module in _NEEDS.items() if importlib.util.find_spec(module) is None
]
_EXTRAS = ("tests/harness/", *_NEEDS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of what needs an extra, wherever they stand."""
    root = Path(__file__).parent
    for item in items:
        if item.path.relative_to(root).as_posix().startswith(_EXTRAS):
            item.add_marker("extras")
