"""Lint, types, and the tests that changed files can affect, within a minute on two cores.

A file has changed if it differs from the last commit that this branch shares with main, or is not
committed yet. A test file is affected if it changed itself or if the modules it imports, at any
distance, include a changed one. The nearest tests run first; the rest is left to `make test` once
the time that they took last (.cache/test_seconds.json) fills the minute.

    python scripts/check_changed.py [--base REVISION]
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sycophancy.engine import imports

ROOT = Path(__file__).resolve().parents[1]
SECONDS = ROOT / ".cache" / "test_seconds.json"
BUDGET = 50.0  # seconds of tests; two workers need about half of it, and as long to start
UNKNOWN = 5.0  # seconds that a test file is taken to need before it ran once
# What a test imports by asking for a fixture of tests/conftest.py.
FIXTURES = {
    "sycophancy": "sycophancy/cli/main.py",
    "micro": "sycophancy/model/checkpoints/huggingface.py",
}

# What a file imports by a name that is made when it runs.
BY_NAME = {"sycophancy/cli/commands.py": "sycophancy/cli/*.py"}


def git(*words: str) -> list[str]:
    """The lines that git prints; none where git fails."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def changed_files(base: str | None) -> set[Path]:
    """Files that differ from `base`, by default the last commit shared with main."""
    if base is None:
        shared = git("merge-base", "HEAD", "origin/main") or git("merge-base", "HEAD", "main")
        base = shared[0] if shared else "HEAD"
    names = git("diff", "--name-only", base) + git("ls-files", "--others", "--exclude-standard")
    return {ROOT / name for name in names}


@functools.cache
def imported(path: Path) -> frozenset[Path]:
    """The files of this project that a file imports itself, test helpers and fixtures included."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    files = set(imports.imported_by(tree, path.relative_to(ROOT).parent.parts))
    if pattern := BY_NAME.get(str(path.relative_to(ROOT))):
        files |= set(ROOT.glob(pattern))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.arg) and node.arg in FIXTURES:
            files.add(ROOT / FIXTURES[node.arg])
        files |= {ROOT / "tests" / f"{name}.py" for name in names}
    return frozenset(file for file in files if file.is_file())


def distances(test: Path) -> dict[Path, int]:
    """How many imports lie between a test file and each file that it reaches."""
    reached = {test: 0}
    waiting = [test]
    for path in waiting:  # grows while it is read: nearest files first
        for file in imported(path):
            if file not in reached:
                reached[file] = reached[path] + 1
                waiting.append(file)
    return reached


def affected(changed: set[Path]) -> dict[Path, int]:
    """Test files that a change can affect, with their distance to the nearest changed file.

    A changed file that is no module, such as a template, counts as each module of the nearest
    folder above it that has modules.
    """
    modules = {path for path in changed if path.suffix == ".py"}
    for path in changed - modules:
        folders = (set(folder.glob("*.py")) for folder in path.parents if ROOT in folder.parents)
        modules |= next(filter(None, folders), set())
    if any(ROOT / "gin_configs" in path.parents for path in changed):
        modules |= set((ROOT / "sycophancy" / "config").glob("*.py"))
    result = {}
    for test in sorted((ROOT / "tests").rglob("test_*.py")):
        reached = distances(test)
        if near := [reached[path] for path in modules if path in reached]:
            result[test] = min(near)
    return result


def seconds_of(known: Mapping[str, float], test: Path) -> float:
    """What the tests of a file took last."""
    name = str(test.relative_to(ROOT))
    times = [seconds for node, seconds in known.items() if node.startswith(f"{name}::")]
    return sum(times) if times else UNKNOWN


def chosen(tests: Mapping[Path, int], known: Mapping[str, float]) -> tuple[list[Path], list[Path]]:
    """Test files that fit into the budget, nearest and fastest first; and those left out."""
    order = sorted(tests, key=lambda test: (tests[test], seconds_of(known, test)))
    run, left, spent = [], [], 0.0
    for test in order:
        seconds = seconds_of(known, test)
        fits = spent + seconds <= BUDGET
        (run if fits else left).append(test)
        spent += seconds if fits else 0.0
    return run, left


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", help="compare with this revision instead of main")
    changed = changed_files(parser.parse_args(arguments).base)
    types = subprocess.Popen(
        [sys.executable, "-m", "mypy"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    codes = [
        subprocess.run([sys.executable, "-m", "ruff", *words], cwd=ROOT, check=False).returncode
        for words in (["check", "--quiet"], ["format", "--check", "--quiet"])
    ]
    known = json.loads(SECONDS.read_text()) if SECONDS.exists() else {}
    run, left = chosen(affected(changed), known)
    print(f"{len(changed)} changed files affect {len(run) + len(left)} test files")
    if run:
        workers = ["--numprocesses", "2", "--dist", "loadfile"] if len(run) > 1 else []
        command = [sys.executable, "-m", "pytest", "--quiet", *workers, *map(str, run)]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        codes.append(0 if code == 5 else code)  # 5: every test is deselected
    output, _ = types.communicate()
    print(output, end="")
    if left:
        names = " ".join(str(test.relative_to(ROOT)) for test in left)
        print(f"not run, to stay under a minute: {names}; `make test` runs all")
    return max(*codes, types.returncode)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
