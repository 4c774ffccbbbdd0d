"""The import graph of the project: no circles, and every import points to a lower layer.

`pytest -s tests/test_imports.py` prints the graph by package.
"""

from __future__ import annotations

import ast
import collections
import functools
import graphlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from sycophancy.engine import imports as engine_imports

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sycophancy", "tasks")

# From the bottom to the top; a module belongs to the longest name that it starts with. A module
# may import its own layer and the layers below.
LAYERS = (
    "sycophancy.errors",
    "sycophancy.system",
    "sycophancy.storage",
    "sycophancy.config",
    "sycophancy.evaluation",
    "sycophancy.data",
    "sycophancy.model",
    "sycophancy.config.load",  # which opens a checkpoint that --model names
    "tasks",
    "sycophancy.scoring",
    "sycophancy.harness",
    "sycophancy.training",
    "sycophancy.engine",
    "sycophancy.report",
    "sycophancy.stages",
    "sycophancy.export",
    "sycophancy.library",
    "sycophancy.study",
    "sycophancy.report.study",
    "sycophancy.plan",
    "sycophancy.launch",
    "sycophancy.cli",
    "sycophancy.__main__",
)
# The root package has no layer: all modules may read its version, and it loads the public interface
# on demand.
ROOT_PACKAGE = "sycophancy"

Graph = dict[str, set[str]]


@functools.cache
def modules() -> dict[str, Path]:
    """The source file of every module of the project."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def graph(*, module_level: bool) -> Graph:
    """The modules that each module imports.

    Args:
        module_level: leave out imports inside functions. Imports under `if TYPE_CHECKING` never
            count, because they do not run.
    """
    return {
        name: set(imported(ast.parse(path.read_bytes()), name, module_level)) - {name}
        for name, path in modules().items()
    }


def imported(tree: ast.AST, importer: str, module_level: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(node, importer)
            for alias in node.names:
                module = f"{origin}.{alias.name}"
                if module in modules() or origin in modules():
                    yield module if module in modules() else origin
        else:
            yield from imported(node, importer, module_level)


def absolute(node: ast.ImportFrom, importer: str) -> str:
    """The module that `from ... import` names, for relative imports too."""
    if not node.level:
        return node.module or ""
    package = importer.split(".")
    if modules()[importer].name != "__init__.py":
        package = package[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def layer(module: str) -> int:
    fitting = [prefix for prefix in LAYERS if f"{module}.".startswith(f"{prefix}.")]
    assert fitting, f"{module} belongs to no layer; add it to LAYERS"
    return LAYERS.index(max(fitting, key=len))


def edges() -> list[tuple[str, str]]:
    """Each importer with a module that it imports, at module level or inside a function."""
    return [
        (importer, module)
        for importer, imports in sorted(graph(module_level=False).items())
        for module in sorted(imports)
        if ROOT_PACKAGE not in (importer, module)
    ]


def test_no_module_takes_part_in_a_circle_of_imports():
    """Not even through imports inside functions, except those of the root package."""
    below = {
        name: imports - {ROOT_PACKAGE}
        for name, imports in graph(module_level=False).items()
        if name != ROOT_PACKAGE
    }
    for name, imports in (("at module level", graph(module_level=True)), ("anywhere", below)):
        try:
            graphlib.TopologicalSorter(imports).prepare()
        except graphlib.CycleError as error:
            pytest.fail(f"{name}: {' -> '.join(error.args[1])}")


def test_every_import_points_to_its_own_layer_or_below():
    """Imports inside functions count too: they decide what a module can do without."""
    upwards = [
        f"{importer} imports {module}"
        for importer, module in edges()
        if layer(importer) < layer(module)
    ]
    assert not upwards, "\n".join(upwards)


def test_nothing_imports_the_command_line_but_the_module_that_starts_it():
    importers = {
        importer
        for importer, module in edges()
        if f"{module}.".startswith("sycophancy.cli.") and not importer.startswith("sycophancy.cli")
    }
    assert importers == {"sycophancy.__main__"}


def test_the_engine_reads_the_same_imports():
    """A stage's code is the closure of its imports; the engine's reader finds the same modules."""
    everything = graph(module_level=False)
    for start in ("sycophancy.data.prepare", "sycophancy.training.trainer", "tasks"):
        reached, waiting = set(), [start]
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += everything[module]
                waiting += [parent for parent in parents(module) if parent in modules()]
        assert engine_imports.closure(start) == {modules()[module] for module in reached}


def parents(module: str) -> Iterator[str]:
    """The packages that Python imports before a module."""
    parts = module.split(".")
    return itertools.accumulate(parts[:-1], lambda path, name: f"{path}.{name}")


def test_the_graph_by_package():
    """Prints which package imports which, in the order of the layers."""
    packages: dict[str, set[str]] = collections.defaultdict(set)
    for importer, module in edges():
        packages[LAYERS[layer(importer)]].add(LAYERS[layer(module)])
    print()
    for package in LAYERS:
        names = sorted(packages[package] - {package}, key=LAYERS.index)
        print(f"{package:24} -> {', '.join(names) or 'no other package'}")
    assert packages["sycophancy.cli"]
