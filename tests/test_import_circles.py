"""No module of this project imports itself by way of others, not even inside a function."""

import ast
import graphlib

from sycophancy.engine import imports


def test_there_are_no_import_circles():
    """A package's `__init__.py` is left out, because every module of the package runs it."""
    root = imports.parent_folder()
    graph = {}
    for package in imports.PACKAGES:
        for file in (root / package).rglob("*.py"):
            tree = ast.parse(file.read_bytes())
            imported = imports.imported_by(tree, file.relative_to(root).parent.parts)
            graph[file] = {other for other in imported if other.name != "__init__.py"} - {file}
    assert len(graph) > 100
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which has the circle
