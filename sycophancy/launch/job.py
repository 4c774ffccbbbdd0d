"""A job: the runs of a sweep, as a script that can be read, written and submitted."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from sycophancy.config.bounds import shortened
from sycophancy.errors import UserError
from sycophancy.stages.order import all_stages

STAGES = ("run", *dict.fromkeys(stage.command for stage in all_stages()))
MOST_RUNS = 10_000
GRIDS = ("sweep", "reproduce")  # many runs in one folder; --cell N is one of them
_FLAGS = {"MODEL": "--model", "RECIPE": "--recipe", "TRAINER": "--trainer", "SEED": "--seed"}
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_PLAIN = re.compile(r"[A-Za-z0-9_.,:=/@+*\[\]{}%-]+")


@dataclasses.dataclass(frozen=True)
class Run:
    """One call of sycophancy.

    Attributes:
      name: what messages call it.
      folder: where it writes, relative to where it is started, or absolute.
      arguments: what follows `sycophancy`.
    """

    name: str
    folder: str
    arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Script:
    """What would be done.

    Attributes:
      text: the script or the YAML.
      suffix: how its file's name ends.
      commands: what submits it; "{}" stands for the file.
      watch: how to see what becomes of it; JOB stands for the id.
      missing: the way out where the program that submits is absent.
      prints_id: whether the commands print the job's id and nothing else.
    """

    text: str
    suffix: str
    commands: tuple[tuple[str, ...], ...]
    watch: tuple[str, ...] = ()
    missing: str = ""
    prints_id: bool = False


def check_name(name: str) -> str:
    """The name, if every cluster takes it.

    >>> check_name("xl-2")
    'xl-2'

    Raises:
        UserError: it is not one that TPUs, SLURM and SkyPilot all take.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--name {shortened(name)}: a job's name has small letters, digits and -, begins with "
            "a letter, ends with no -, and has at most 63 characters"
        )
    return name


def check_plain(flag: str, value: str) -> str:
    """The value of an option that stands in a script as it is.

    Raises:
        UserError: it has characters that would need quoting.
    """
    if not _PLAIN.fullmatch(value):
        raise UserError(f"{flag} {value!r}: expected letters, digits and _.,:=/@+*%-, no spaces")
    return value


def check_words(words: Sequence[str]) -> tuple[str, ...]:
    """The words, if a script and a YAML file can hold each on one line.

    Raises:
        UserError: one has a line break or another character that is not printed.
    """
    for word in words:
        if not word.isprintable():
            raise UserError(
                f"{word!r}: a job's arguments have printed characters alone, no newline"
            )
    return tuple(words)


def plan_runs(name: str, arguments: Sequence[str], sweeps: Sequence[str] = ()) -> tuple[Run, ...]:
    """The runs that a sweep makes of one command; without a sweep, one.

    Every run gets a folder of its own: `--name` is added where it is missing, and lengthened by
    what was swept.

    >>> [run.arguments for run in plan_runs("a", ["run", "--model", "m"], ["SEED=0,1"])][1]
    ('run', '--model', 'm', '--seed', '1', '--name', 'a-seed1')

    Args:
      name: the job's; the run's too, unless the arguments have one.
      arguments: what follows `sycophancy`.
      sweeps: MACRO=VALUE,VALUE,...; all combinations are run.

    Raises:
      UserError: the arguments or sweeps are not such.
    """
    words = check_words(arguments)
    if not words or words[0] not in (*STAGES, *GRIDS):
        said = f"not {words[0]}" if words else "as in: -- run --model mini_base"
        raise UserError(f"after -- comes a command, one of {', '.join((*STAGES, *GRIDS))}, {said}")
    if sweeps and words[0] in GRIDS:
        raise UserError(f"--sweep: {words[0]} has many runs already; give it what varies after --")
    words, base = _take(words, "--name")
    words, out = _take(words, "--out")
    axes = [_axis(sweep) for sweep in sweeps]
    if out is not None and axes:
        raise UserError("--sweep needs a folder for each run: give --name instead of --out")
    _check_count(math.prod(len(values) for _, values in axes))
    if twice := {axis for axis, _ in axes if [a for a, _ in axes].count(axis) > 1}:
        raise UserError(f"--sweep {min(twice)} is given twice; put its values into one")
    runs = []
    for point in itertools.product(*([(axis, v) for v in values] for axis, values in axes)):
        own = "-".join([base or name, *(_label(axis, value) for axis, value in point)])
        swept = [word for axis, value in point for word in _flag(axis, value)]
        place = ["--out", out] if out is not None else ["--name", own]
        folder = out if out is not None else f"runs/{own}"
        runs.append(Run(own, folder, (*words, *swept, *place)))
    names = [run.name for run in runs]
    if same := {one for one in names if names.count(one) > 1}:
        raise UserError(f"--sweep: two runs would both be named {min(same)}; sweep other values")
    return tuple(runs)


def each_cell(run: Run, count: int) -> tuple[Run, ...]:
    """The cells of a grid as runs of their own, in the folder of all.

    >>> [cell.arguments for cell in each_cell(Run("a", "runs/a", ("reproduce",)), 2)]
    [('reproduce', '--cell', '0'), ('reproduce', '--cell', '1')]
    """
    _check_count(count)
    return tuple(
        Run(f"{run.name}-{number}", run.folder, (*run.arguments, "--cell", str(number)))
        for number in range(count)
    )


def _check_count(runs: int) -> None:
    if runs > MOST_RUNS:
        raise UserError(
            f"{runs:,} runs are too many for a job; at most {MOST_RUNS:,} are submitted"
        )


def _take(words: tuple[str, ...], flag: str) -> tuple[tuple[str, ...], str | None]:
    """The words without an option, and its last value."""
    left, found, rest = list[str](), None, iter(words)
    for word in rest:
        if word == flag:
            found = next(rest, None)
            if found is None:
                raise UserError(f"{flag} needs a value")
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
        else:
            left.append(word)
    return tuple(left), found


def _axis(sweep: str) -> tuple[str, tuple[str, ...]]:
    macro, equals, listed = sweep.partition("=")
    values = tuple(value.strip() for value in listed.split(","))
    if not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]*", macro) or not all(values):
        raise UserError(f"--sweep {sweep}: expected MACRO=VALUE,VALUE, as in --sweep SEED=0,1,2")
    check_words(values)
    return macro, values


def _label(axis: str, value: str) -> str:
    short = re.sub(r"[^a-z0-9.]+", "-", Path(value).name.removesuffix(".gin").lower()).strip("-.")
    return short if axis in ("MODEL", "RECIPE") else f"{axis.lower().replace('_', '-')}{short}"


def _flag(axis: str, value: str) -> tuple[str, str]:
    return (_FLAGS[axis], value) if axis in _FLAGS else ("--set", f"{axis}={value}")


def choose(runs: Sequence[Run]) -> str:
    """A shell function that sets `run`, `folder` and `arguments` to those of run number $1."""
    cases = "".join(
        f"    {number})\n"
        f"      run={shlex.quote(run.name)}\n"
        f"      folder={shlex.quote(run.folder)}\n"
        f"      arguments=({shlex.join(run.arguments)})\n"
        "      ;;\n"
        for number, run in enumerate(runs)
    )
    return (
        "# What is run, by number.\n"
        "# shellcheck disable=SC1003,SC2016,SC2034  # words may look odd, and some are not used\n"
        f'choose() {{\n  case "$1" in\n{cases}'
        '    *) echo "launch: there is no run $1" >&2 && return 2 ;;\n  esac\n}'
    )


def settings(**values: str | int | bool) -> str:
    """Shell variables; False is empty.

    >>> print(settings(name="a b", keep=False))
    name='a b'
    keep=''
    """
    said = {True: "yes", False: ""}
    shown = {k: said[v] if isinstance(v, bool) else str(v) for k, v in values.items()}
    check_words(tuple(shown.values()))
    return "\n".join(f"{name}={shlex.quote(value)}" for name, value in shown.items())


def fill(template: str, parts: Mapping[str, str]) -> str:
    """A file of `templates/` with each line `#@ NAME` replaced by that part."""
    lines = []
    for line in template_text(template).splitlines():
        if line.startswith("#@ "):
            line = parts[line[3:]]
        lines.append(line)
    return "\n".join(lines) + "\n"


def template_text(name: str) -> str:
    """A file of `templates/`, as it is."""
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8").rstrip("\n")


def source_folder(given: str | None) -> Path:
    """The checkout that other machines install from; a UserError where there is none."""
    folder = Path(given).absolute() if given is not None else Path(__file__).parents[2]
    for name in ("pyproject.toml", "requirements.lock"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} has no {name}: give the folder of a checkout with --source DIR"
            )
    return folder


def program() -> str:
    """This very `sycophancy`, for machines that see the same files."""
    beside = Path(sys.executable).with_name("sycophancy")
    return str(beside) if beside.exists() else "sycophancy"


def write(script: Script, path: Path) -> Path:
    """Writes the script.

    Raises:
        UserError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script.text, encoding="utf-8")
        if script.text.startswith("#!"):
            path.chmod(0o755)
    except OSError as error:
        why = error.strerror
        raise UserError(f"cannot write {path}: {why}; give another with --write") from None
    return path


def submit(script: Script, path: Path) -> int:
    """Runs the commands that submit the script, and prints the id and how to watch.

    Returns:
      The exit status of the first that failed, or 0.

    Raises:
      UserError: the program that submits is absent.
    """
    for command in script.commands:
        if shutil.which(command[0]) is None:
            raise UserError(f"{command[0]} is not here: {script.missing}")
    job = "JOB"
    if not script.prints_id:
        _say_how_to_watch(script, job)  # first: some commands end only with the run
    for command in script.commands:
        words = [str(path) if word == "{}" else word for word in command]
        print(f"launch: {shlex.join(words)}", file=sys.stderr, flush=True)
        with subprocess.Popen(
            words, stdout=subprocess.PIPE if script.prints_id else None, text=True
        ) as process:
            try:
                said, _ = process.communicate()
            except BaseException:  # told to stop: so is the script, which then cleans up
                process.terminate()
                process.wait()
                raise
        if script.prints_id:
            job = said.strip().partition(";")[0]  # "id;cluster" in a federation
            print(job)
        if process.returncode:
            return process.returncode
    if script.prints_id:
        _say_how_to_watch(script, job)
    return 0


def _say_how_to_watch(script: Script, job: str) -> None:
    for line in script.watch:
        print(f"launch: {line.replace('JOB', job)}", file=sys.stderr, flush=True)
