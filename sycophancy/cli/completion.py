"""Shell completion of the values of options: names of models, recipes and macros.

A shell calls these functions at each press of the Tab key, so they import nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable

VARIABLE = "_SYCOPHANCY_COMPLETE"  # a shell sets this to ask for completions


def models(incomplete: str) -> list[str]:
    """Names of shipped models that start with a text."""
    return _starting(incomplete, _shipped("model"))


def recipes(incomplete: str) -> list[str]:
    """Names of shipped recipes that start with a text."""
    return _starting(incomplete, _shipped("recipe"))


def model_lists(incomplete: str) -> list[str]:
    """Completes the last of several models with commas between."""
    return _last_of_list(incomplete, _shipped("model"))


def recipe_lists(incomplete: str) -> list[str]:
    """Completes the last of several recipes with commas between."""
    return _last_of_list(incomplete, _shipped("recipe"))


def public_sets(incomplete: str) -> list[str]:
    """Completes the last of several public evaluation sets with commas between."""
    from sycophancy.library.request import ALL, PUBLIC_SETS

    return _last_of_list(incomplete, (ALL, *PUBLIC_SETS))


def macros(incomplete: str) -> list[str]:
    """Macros that start with a text, in upper or lower case."""
    from sycophancy.config.declarations import declarations

    return _starting(incomplete.upper(), declarations())


def assignments(incomplete: str) -> list[str]:
    """Macros that start with a text, each with an equals sign."""
    return [f"{macro}=" for macro in macros(incomplete)]


def _shipped(kind: str) -> list[str]:
    from sycophancy.config.macros import shipped

    return list(shipped(kind))


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _last_of_list(incomplete: str, names: Iterable[str]) -> list[str]:
    complete, comma, last = incomplete.rpartition(",")
    return [f"{complete}{comma}{name}" for name in _starting(last, names)]
