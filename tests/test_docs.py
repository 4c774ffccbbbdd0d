"""What the documents name exists: files, commands, options, settings, modules, links."""

import ast
import importlib.util
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from test_imports import LAYERS

from sycophancy.cli.main import app
from sycophancy.config.load import macro_types
from sycophancy.evaluation import naming, units

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "sycophancy" / "models").glob("*/README.md")),
]
RECIPES = sorted((ROOT / "gin_configs").rglob("*.gin"))
GENERATED = {"settings.md", "changelog.md", "contributing.md", "security.md"}
CODE_FOLDERS = ("sycophancy", "tasks", "scripts", "gin_configs", "tests", ".ci")

FOREIGN_OPTIONS = {"--gin", "--no-deps", "--multiprocess_gpu"}  # of pip and T5X
FOREIGN_SETTINGS = {"GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "TRAIN_STEPS"}  # of glibc and T5X
PLACEHOLDERS = {"NAME", "MACRO", "THIS_REPOSITORY", "USER_ID", "HOST_OF_PROCESS_0"}


def source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def comment_text(path: Path) -> str:
    """The comments of a gin file, as text."""
    lines = [line.strip() for line in source(path).splitlines()]
    return "\n".join(line.lstrip("# ") for line in lines if line.startswith("#"))


def prose(path: Path) -> str:
    return comment_text(path) if path.suffix == ".gin" else source(path)


def code(path: Path) -> Iterator[str]:
    """Code spans, and the lines of code blocks; a line that ends in a backslash goes on."""
    text = prose(path)
    if path.suffix == ".gin":
        yield from text.replace("\\\n", " ").splitlines()
        return
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()
    text = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`]+)`", text):
        yield " ".join(span.split())


def everywhere(pages: list[Path] = [*PAGES, *RECIPES]) -> list[pytest.param]:  # noqa: B006
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


@pytest.mark.parametrize("page", everywhere())
def test_every_path_that_a_document_names_exists(page):
    named = rf"(?<![\w/.-])(?:{'|'.join(CODE_FOLDERS)}|docs)/[\w./*-]*[\w*/]"
    text = prose(page).replace("--model sycophancy/", "--model ")  # a provider's name, no path
    for path in re.findall(named, text):
        assert list(ROOT.glob(path)), path


@pytest.mark.parametrize("page", everywhere())
def test_no_document_holds_marks_of_an_unfinished_merge(page):
    assert not re.search(r"^(?:<{7}|={7}|>{7})(?: |$)", source(page), re.MULTILINE)


@pytest.mark.parametrize("page", everywhere())
def test_every_make_target_that_a_document_names_exists(page):
    targets = set(re.findall(r"^([\w-]+)(?: [\w-]+)*:", source(ROOT / "Makefile"), re.MULTILINE))
    targets |= set(re.findall(r"^[\w-]+ ([\w-]+):", source(ROOT / "Makefile"), re.MULTILINE))
    for line in code(page):
        for target in re.findall(r"(?:^|[;&] *)make ([a-z][\w-]*)", line):
            assert target in targets, line


def commands() -> Iterator[tuple[str, set[str]]]:
    """The name of every command with its options."""
    waiting = [("", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        options = {text for option in command.params for text in option.opts}
        options |= {text for option in command.params for text in option.secondary_opts}
        yield name, options | {"--help", "-h"}
        if isinstance(command, typer.core.TyperGroup):
            context = command.context_class(command)
            waiting += [
                (f"{name} {child}".strip(), command.get_command(context, child))
                for child in command.list_commands(context)
            ]


COMMANDS = dict(commands())


def check_command(words: list[str]) -> None:
    """Fails unless a command line, without the program's name, has a known command and options."""
    if not words or not re.match(r"[a-z|-]+$", words[0]):
        return  # the program's name alone, or a sentence about it
    named = words[0].split("|")
    rest = words[1:]
    if named == ["launch"] and rest and re.match(r"[a-z|]+$", rest[0]):
        named, rest = [f"launch {target}" for target in rest[0].split("|")], rest[1:]
    if named[0].startswith("-"):
        named, rest = [""], words
    options = set.intersection(*(COMMANDS[name] for name in named))
    if "--" in rest:  # launch: what follows is another command
        check_command(rest[rest.index("--") + 1 :])
        rest = rest[: rest.index("--")]
    for word in rest:
        if word.startswith("-") and not re.match(r"-\d", word):
            assert word.partition("=")[0] in options, f"{' '.join(named)} has no {word}"


@pytest.mark.parametrize("page", everywhere())
def test_every_command_and_option_that_a_document_names_exists(page):
    for line in code(page):
        line = re.sub(r"\s#\s.*", "", line)
        for words in re.findall(r"(?:^|/|[;&] *|\$ )sycophancy( [^;&]*|)", line):
            try:
                check_command(re.sub(r"\"[^\"]*\"|'[^']*'", "QUOTED", words).split())
            except KeyError as error:
                pytest.fail(f"there is no command {error}: {line}")


@pytest.mark.parametrize("page", everywhere(PAGES))
def test_every_option_that_stands_alone_belongs_to_a_command(page):
    known = set.union(*COMMANDS.values()) | FOREIGN_OPTIONS
    for line in code(page):
        if (option := re.match(r"--[\w-]+", line)) and page.name not in ("pods.md",):
            assert option.group() in known, line


def words_of_the_code() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *CODE_FOLDERS, "Makefile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    words: set[str] = set()
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".gin", ".sh", "") and path.is_file() and path != Path(__file__):
            words |= set(re.findall(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", source(path)))
    return words


def test_every_setting_that_a_document_names_exists():
    macros = set(macro_types()) | PLACEHOLDERS | FOREIGN_SETTINGS
    words = words_of_the_code() | macros
    of_t5x = "".join(source(path) for path in RECIPES if path.parent.name == "trainers")
    unknown = set()
    for page in [*PAGES, *RECIPES]:
        text = prose(page)
        for name in re.findall(r"--set ['\"]?([A-Z_]+)=", text):
            if name not in macros:
                unknown.add(f"{page.name}: --set {name}")
        for name in re.findall(r"--gin\.([A-Z_]+)", text):
            if name not in macros and not re.search(rf"\b{name}\b", of_t5x):
                unknown.add(f"{page.name}: --gin.{name}")
        for name in re.findall(r"(?<![\w/$-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![\w-])", text):
            if name not in words:
                unknown.add(f"{page.name}: {name}")
    assert not unknown


def definitions(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(module.read_bytes()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.If):
            names |= {alias.name for alias in ast.walk(node) if isinstance(alias, ast.alias)}
    return names


@pytest.mark.parametrize("page", everywhere())
def test_every_module_and_function_that_a_document_names_exists(page):
    for name in re.findall(r"(?<![\w./])(?:sycophancy|tasks)(?:\.\w+)+", prose(page)):
        if name.endswith((".py", ".mine")):  # a file's name, and what a contributor adds
            continue
        place = ROOT
        parts = name.split(".")
        while parts and ((place / parts[0]).is_dir() or (place / f"{parts[0]}.py").is_file()):
            place = place / parts.pop(0)
        module = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        assert not parts or parts[0] in definitions(module), f"{page.name}: {name}"


def layers() -> list[list[str]]:
    """The packages in each layer of the diagram, from the highest to the lowest."""
    page = source(ROOT / "docs" / "architecture.md").partition("## Layers")[2]
    blocks = re.split(r"^ -+$", page.split("```")[1], flags=re.MULTILINE)
    return [re.findall(r"^ (\w+)", block, re.MULTILINE) for block in blocks]


def test_the_diagram_of_layers_has_every_package():
    packages = {path.parent.name for path in (ROOT / "sycophancy").glob("*/__init__.py")}
    assert sorted(name for layer in layers() for name in layer) == sorted(packages | {"errors"})


def test_the_diagram_has_the_layers_that_the_imports_follow():
    """`tests/test_imports.py` checks every import against them."""
    heights = [
        [LAYERS.index(f"sycophancy.{name}") for name in layer] for layer in reversed(layers())
    ]
    for lower, upper in itertools.pairwise(heights):
        assert max(lower) < min(upper)


def anchor(heading: str) -> str:
    """The anchor that MkDocs and code hosts give a heading."""
    text = re.sub(r"[^\w\s-]", "", heading.strip().lower().replace("`", ""))
    return re.sub(r"\s+", "-", text)


@pytest.mark.parametrize("page", everywhere(PAGES))
def test_every_link_within_the_documents_resolves(page):
    text = re.sub(r"^```\w*\n.*?^```", "", source(page), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        name, _, fragment = target.partition("#")
        if name in GENERATED and page.parent.name == "docs":
            continue
        path = page.parent / name if name else page
        assert path.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)", source(path), re.MULTILINE)
            assert fragment in map(anchor, headings), target


def test_the_reference_has_every_name_of_the_library():
    tree = ast.parse(source(ROOT / "sycophancy" / "__init__.py"))
    (checking,) = (node for node in tree.body if isinstance(node, ast.If))
    names = {node.name for node in ast.walk(checking) if isinstance(node, ast.alias)}
    described = re.findall(r"^::: sycophancy\.(\w+)$", source(ROOT / "docs/api.md"), re.MULTILINE)
    assert sorted(described) == sorted(names)


def test_every_measure_has_a_section_and_every_section_a_measure():
    sections = re.findall(r"^### `(\w+)`$", source(ROOT / "docs" / "metrics.md"), re.MULTILINE)
    assert len(set(sections)) == len(sections)
    assert set(sections) == set(naming.MEASURES)
    assert set(naming.COMPONENTS) | set(units.UNITS) <= set(naming.MEASURES)
    text = source(ROOT / "docs" / "metrics.md")
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        name = section.partition("`\n")[0].strip("`")
        unit = re.search(r"\n\n(\w+):", section)
        assert unit and unit[1].lower() == units.unit_of(name), name


def test_every_page_is_in_the_navigation_of_the_site():
    navigation = source(ROOT / "mkdocs.yml").partition("\nnav:")[2].partition("\n\n")[0]
    listed = set(re.findall(r": (\S+\.md)", navigation))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert listed == pages | GENERATED


@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="needs the extra `docs`")
def test_the_site_builds_without_a_warning_and_loads_nothing_from_other_hosts(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {page.stem for page in pages} >= {"index", "quick_start", "settings", "api", "glossary"}
    for page in pages:
        html = source(page)
        loaded = re.findall(r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"?([^\"\s>]+)", html)
        for tag in re.findall(r"<link\b[^>]*>", html):
            if not re.search(r"rel=\"?(?:canonical|prev|next|alternate)", tag):
                loaded += re.findall(r"href=\"?([^\"\s>]+)", tag)
        assert not [address for address in loaded if re.match(r"(?:https?:)?//", address)], page
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", source(sheet)), sheet
