"""Doctests are looked for in every module but those that need a library that is not installed."""

import importlib.util

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
