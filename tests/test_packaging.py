"""The wheel and the sdist are complete, the lock covers the dependencies, README shows the tree."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build(target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target]
    subprocess.run([*command, "--directory", folder], cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build("wheel", tmp_path_factory.mktemp("wheel")))


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


def test_the_wheel_carries_its_licence_and_says_so(wheel):
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    headers = wheel.read(metadata).decode().partition("\n\n")[0].splitlines()
    assert "License-Expression: Apache-2.0" in headers
    assert "License-File: LICENSE" in headers
    inside = wheel.read(metadata.replace("METADATA", "licenses/LICENSE"))
    assert inside == (ROOT / "LICENSE").read_bytes()
    for section in (b"TERMS AND CONDITIONS", b"9. Accepting Warranty", b"APPENDIX: How to apply"):
        assert section in inside
    assert not [line for line in headers if line.startswith(("Project-URL", "Home-page"))]


def test_the_sdist_carries_its_licence_and_citation(tmp_path):
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} <= names
    assert "gin_configs/recipes/paper.gin" in names


def test_the_version_is_the_same_everywhere():
    version = PROJECT["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version} - " in (ROOT / "CHANGELOG.md").read_text()
    assert f'__version__ = "{version}"' in (ROOT / "sycophancy" / "__init__.py").read_text()


def test_the_command_works_from_the_wheel_alone(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    code = (
        "import sys\n"
        "from sycophancy.cli.main import main\n"
        "from sycophancy.config import load, macros\n"
        f"assert str(macros.root()).startswith({str(tmp_path)!r}), macros.root()\n"
        "load.load_config('mini_base', 'demo')\n"
        "sys.argv = ['sycophancy', 'prepare', '--model', 'mini_base', '--recipe', 'quick',\n"
        "            '--out', 'run', '--data-sets', 'sst2']\n"
        "main()\n"
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
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["dev"], *extras["docs"]]
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
    # clu imports tensorboard, and datasets downloads by fsspec[http]; neither asks for it.
    implied = {"tensorboard", "fsspec"}
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
    """The folders in the README's tree, from its indentation."""
    text = (ROOT / "README.md").read_text().partition("## What is where")[2]
    folders: list[str] = []
    parents: list[str] = []
    for line in text.split("```")[1].splitlines():
        if line.strip():
            name = line.split()[0]
            assert name.endswith("/"), f"the tree lists folders only: {line}"
            parents = [*parents[: (len(line) - len(line.lstrip())) // 2], name]
            folders.append("".join(parents))
    return folders


def test_the_readmes_tree_fits_a_screen():
    text = (ROOT / "README.md").read_text().partition("## What is where")[2]
    lines = text.split("```")[1].splitlines()
    assert len(lines) <= 41
    assert max(map(len, lines)) <= 100


def test_the_readmes_tree_is_the_tree():
    """Every folder at the top, and every folder of the package that holds modules or models."""
    files = [Path(name) for name in tracked(".")]
    top = {f"{path.parts[0]}/" for path in files if len(path.parts) > 1}
    modules = [path for path in files if path.parts[0] == "sycophancy" and path.suffix == ".py"]
    named = set(readme_tree())
    assert len(named) == len(readme_tree())
    for folder in named:
        assert (ROOT / folder).is_dir(), folder
    assert {folder for folder in top if not folder.startswith(".")} <= named
    assert {"sycophancy/models/", *(f"{path.parent}/" for path in modules)} <= named
    assert {f"{path.parent}/" for path in files if path.suffix == ".gin"} <= named


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
