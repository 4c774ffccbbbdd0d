"""The modules of this project that a module imports, read from its source without running it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("sycophancy", "tasks")


@functools.cache
def parent_folder() -> Path:
    """The folder that contains the project's packages."""
    return Path(__file__).resolve().parents[2]


def closure(*modules: str) -> set[Path]:
    """The source files of modules and of everything of this project that they import.

    Imports inside functions count; imports under `if TYPE_CHECKING` do not, because they have
    no effect while the program runs. A package counts with its `__init__.py`.

    Args:
        modules: dotted names, such as `sycophancy.data.prepare`.

    Raises:
        ModuleNotFoundError: this project has no such module.
    """
    files: set[Path] = set()
    waiting = []
    for module in modules:
        if _file(module) is None:
            raise ModuleNotFoundError(f"there is no module {module}", name=module)
        waiting += list(_with_parents(module))
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            waiting += _imported_by(path)
    return files


def _with_parents(module: str) -> Iterator[Path]:
    """The files that Python runs to import a module; none for a module of another project."""
    parts = module.split(".")
    if parts[0] in PACKAGES:
        names = (".".join(parts[: end + 1]) for end in range(len(parts)))
        yield from (path for name in names if (path := _file(name)))


@functools.cache  # the program's own files stay while it runs
def _file(module: str) -> Path | None:
    place = parent_folder().joinpath(*module.split("."))
    return next(
        (path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None
    )


@functools.cache
def _imported_by(path: Path) -> frozenset[Path]:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    return imported_by(tree, path.relative_to(parent_folder()).parent.parts)


def imported_by(tree: ast.AST, package: tuple[str, ...] = ()) -> frozenset[Path]:
    """The files of this project that a piece of source imports directly.

    Args:
        tree: the source.
        package: the names of its package, for relative imports.
    """
    return frozenset(file for name in _names(tree, package) for file in _with_parents(name))


def _names(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """The dotted names imported below a node; `from a import b` may mean the module `a.b`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):  # no expression holds an import
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _names(other, package)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = package[: len(package) - child.level + 1] if child.level else ()
            origin = ".".join((*base, *(child.module or "").split("."))).strip(".")
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in child.names)
        else:
            yield from _names(child, package)
