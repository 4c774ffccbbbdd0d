"""What is shipped is complete, what is locked is enough, and the README tells the tree."""

import re
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", folder], cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def tracked(folder: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def test_the_wheel_holds_all_of_the_package(wheel):
    inside = set(wheel.namelist())
    for name in (*tracked("sycophancy"), *tracked("tasks")):
        assert name in inside
    for name in tracked("gin_configs"):
        assert f"sycophancy/{name}" in inside
    assert not any(name.startswith(("tests/", "runs/", "docs/")) for name in inside)


def test_the_command_works_from_the_wheel_alone(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    code = (
        "import sys; from sycophancy import config, macros, cli\n"
        f"assert str(macros.root()).startswith({str(tmp_path)!r}), macros.root()\n"
        "config.load_config('mini_base', 'demo')\n"
        "sys.argv = ['sycophancy', 'prepare', '--model', 'mini_base', '--recipe', 'quick',\n"
        "            '--out', 'run', '--data-sets', 'sst2']\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "prepare" / "intervention.parquet").exists()


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (p.split("==") for p in pins)}


def test_the_lock_covers_what_is_asked_and_within_its_ranges():
    pins = locked()
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_the_lock_names_no_place():
    assert not re.search(r"://|--|file:|@", (ROOT / "requirements.lock").read_text())


def test_every_dependency_has_a_reason():
    text = (ROOT / "docs" / "architecture.md").read_text().partition("## Dependencies")[2]
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        for requirement in map(Requirement, group):
            assert re.search(rf"^\|[^|]*\b{re.escape(requirement.name)}\b", text, re.MULTILINE)


def test_every_dependency_is_used():
    modules = "".join(
        (ROOT / name).read_text()
        for name in (*tracked("sycophancy"), *tracked("tasks"))
        if name.endswith(".py")
    )
    implied = {"tensorboard"}  # clu imports it and does not ask for it
    for requirement in map(Requirement, PROJECT["dependencies"]):
        if requirement.name in implied:
            continue
        known = {
            "gin-config": "gin",
            "huggingface-hub": "huggingface_hub",
            "orbax-checkpoint": "orbax",
        }
        module = known.get(requirement.name, requirement.name)
        assert re.search(rf"^\s*(import|from) {module}\b", modules, re.MULTILINE), module


def readme_tree() -> list[str]:
    """The paths in the README's tree, from its indentation."""
    text = (ROOT / "README.md").read_text().partition("## What is where")[2]
    paths: list[str] = []
    parents: list[str] = []
    for line in text.split("```")[1].splitlines():
        if name := line.strip().split("  ")[0].split(" ")[0]:
            parents = parents[: (len(line) - len(line.lstrip())) // 2]
            paths.append("".join([*parents, name]))
            if name.endswith("/"):
                parents.append(name)
    return paths


def test_the_readme_names_no_file_that_is_not_there():
    for path in readme_tree():
        assert list(ROOT.glob(path)), path


def test_the_readme_names_every_module_of_the_package():
    named = readme_tree()
    folders = {str(Path(path).parent) for path in named if path.endswith(".py")}
    for name in tracked("sycophancy"):
        path = Path(name)
        if path.suffix == ".py" and path.name != "__init__.py" and str(path.parent) in folders:
            assert name in named, name  # a folder whose files the tree lists must list them all
    for folder in {f"{Path(name).parent}/" for name in tracked("sycophancy")}:
        assert any(fnmatch(folder, f"{path}*") and path.count("/") > 1 for path in named) or (
            folder == "sycophancy/"
        ), folder


def test_every_hint_to_install_an_extra_works_in_a_checkout():
    """The package is on no index, so `pip install 'sycophancy[gpu]'` finds nothing."""
    named = set()
    for name in (*tracked("sycophancy"), *tracked("docs"), *tracked("scripts"), "README.md"):
        if Path(name).suffix in (".py", ".md", ".sh", ".toml"):
            text = (ROOT / name).read_text()
            assert not re.search(r"sycophancy\[\w+\]", text), name
            named |= set(re.findall(r"pip install -e '\.\[(\w+)\]'", text))
    assert {"gpu", "tpu", "plan"} <= named <= set(PROJECT["optional-dependencies"])


def test_make_runs_with_nothing_installed_but_python():
    shown = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "-m venv .venv" in shown
    assert "--requirement requirements.lock" in shown
    assert "sycophancy run --model mini_base --recipe demo --name demo" in shown


def test_make_says_which_python_it_wants():
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "PYTHON=", ".venv/installed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "3.11, 3.12 or 3.13" in done.stderr


def test_the_gate_is_a_program():
    gate = ROOT / ".ci" / "run"
    assert gate.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", gate], check=True)
