"""A job: one or more runs, as a script that can be read, written to a file and submitted."""

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

MOST_RUNS = 10_000
GRIDS = ("sweep", "reproduce")  # commands of many runs in one folder; --cell N selects one
COMMANDS = ("run", *dict.fromkeys(stage.command for stage in all_stages()), *GRIDS)
_FLAGS = {"MODEL": "--model", "RECIPE": "--recipe", "TRAINER": "--trainer", "SEED": "--seed"}
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_T5X = re.compile(r"(--trainer[ =]|\bTRAINER\s*=\s*['\"]?)t5x\b")
_PLAIN = re.compile(r"[A-Za-z0-9_.,:=/@+*\[\]{}%-]+")


@dataclasses.dataclass(frozen=True)
class Run:
    """One call of `sycophancy`.

    Attributes:
        name: its name in messages.
        folder: the run's folder, absolute or relative to the folder in which the call is made.
        arguments: the words that follow `sycophancy`.
    """

    name: str
    folder: str
    arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Script:
    """A job's script and how it is submitted.

    Attributes:
        text: the script, or the YAML file.
        suffix: of its file's name.
        commands: the commands that submit it; "{}" stands for the file.
        watch: lines that say how to watch and end the job; JOB stands for its id.
        missing: what to do if the program that submits is not installed.
        prints_id: True if the commands print the job's id and nothing else.
    """

    text: str
    suffix: str
    commands: tuple[tuple[str, ...], ...]
    watch: tuple[str, ...] = ()
    missing: str = ""
    prints_id: bool = False


def check_name(name: str) -> str:
    """Returns the name if every kind of cluster accepts it.

    >>> check_name("xl-2")
    'xl-2'

    Raises:
        UserError: TPUs, SLURM or SkyPilot would refuse it.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--name {shortened(name)}: a job's name has small letters, digits and -, begins with "
            "a letter, ends with no -, and has at most 63 characters"
        )
    return name


def check_plain(flag: str, value: str) -> str:
    """Returns the value of an option that a script contains without quotes.

    Raises:
        UserError: it contains characters that need quotes.
    """
    if not _PLAIN.fullmatch(value):
        raise UserError(f"{flag} {value!r}: expected letters, digits and _.,:=/@+*%-, no spaces")
    return value


def check_words(words: Sequence[str]) -> tuple[str, ...]:
    """Returns the words if a script and a YAML file can contain each on one line.

    Raises:
        UserError: a word contains a line break or another character that is not printable.
    """
    for word in words:
        if not word.isprintable():
            raise UserError(
                f"{word!r}: a job's arguments contain only printable characters, no newline"
            )
    return tuple(words)


def plan_runs(name: str, arguments: Sequence[str], sweeps: Sequence[str] = ()) -> tuple[Run, ...]:
    """The runs of one command: one for each combination of swept values.

    Every run has a folder of its own: `--name` is added where it is missing, and the swept values
    are appended to it.

    >>> [run.arguments for run in plan_runs("a", ["run", "--model", "m"], ["SEED=0,1"])][1]
    ('run', '--model', 'm', '--seed', '1', '--name', 'a-seed1')

    Args:
        name: of the job, and of the run if the arguments give none.
        arguments: the words that follow `sycophancy`.
        sweeps: MACRO=VALUE,VALUE,... each.

    Raises:
        UserError: the arguments or sweeps have another form.
    """
    words = check_words(arguments)
    if not words or words[0] not in COMMANDS:
        example = f"not {words[0]}" if words else "as in: -- run --model mini_base"
        raise UserError(f"after -- comes a command, one of {', '.join(COMMANDS)}, {example}")
    if sweeps and words[0] in GRIDS:
        raise UserError(f"--sweep: {words[0]} has many runs already; set their options after --")
    words, base = _take(words, "--name")
    words, out = _take(words, "--out")
    axes = [_axis(sweep) for sweep in sweeps]
    if out is not None and axes:
        raise UserError("--sweep needs a folder for each run: give --name instead of --out")
    _check_count(math.prod(len(values) for _, values in axes))
    macros = [macro for macro, _ in axes]
    if repeated := {macro for macro in macros if macros.count(macro) > 1}:
        raise UserError(f"--sweep {min(repeated)} is given twice; put all its values into one")
    runs = []
    for point in itertools.product(*([(macro, v) for v in values] for macro, values in axes)):
        run_name = "-".join([base or name, *(_label(macro, value) for macro, value in point)])
        swept = [word for macro, value in point for word in _flag(macro, value)]
        folder_option = ["--out", out] if out is not None else ["--name", run_name]
        folder = out if out is not None else f"runs/{run_name}"
        runs.append(Run(run_name, folder, (*words, *swept, *folder_option)))
    names = [run.name for run in runs]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise UserError(
            f"--sweep: two runs would both be named {min(repeated)}; sweep other values"
        )
    return tuple(runs)


def in_bucket(runs: Sequence[Run], bucket: str) -> tuple[Run, ...]:
    """The runs that are named, as runs whose folders lie in a bucket, where that is possible.

    >>> in_bucket([Run("a", "runs/a", ("run", "--name", "a"))], "gs://b/x")[0].arguments
    ('run', '--out', 'gs://b/x/a')

    Args:
        runs: of one job.
        bucket: address of the bucket, or of a folder in it.
    """
    return tuple(
        dataclasses.replace(
            run,
            folder=f"{bucket.rstrip('/')}/{run.name}",
            arguments=(*run.arguments[:-2], "--out", f"{bucket.rstrip('/')}/{run.name}"),
        )
        if run.folder == f"runs/{run.name}" and not trains_with_t5x(run)
        else run
        for run in runs
    )


def trains_with_t5x(run: Run) -> bool:
    """Whether a call names T5X as the trainer.

    Its hosts have to install it, and the run's folder must be local or mounted.

    >>> trains_with_t5x(Run("a", "runs/a", ("run", "--set", "TRAINER='t5x'")))
    True
    """
    return _T5X.search(" ".join(run.arguments)) is not None


def each_cell(run: Run, count: int) -> tuple[Run, ...]:
    """The cells of a grid as runs of their own, which share the grid's folder.

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
    """The words without an option, and the option's last value."""
    others, value, rest = list[str](), None, iter(words)
    for word in rest:
        if word == flag:
            value = next(rest, None)
            if value is None:
                raise UserError(f"{flag} needs a value")
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
        else:
            others.append(word)
    return tuple(others), value


def _axis(sweep: str) -> tuple[str, tuple[str, ...]]:
    macro, equals, listed = sweep.partition("=")
    values = tuple(value.strip() for value in listed.split(","))
    if not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]*", macro) or not all(values):
        raise UserError(f"--sweep {sweep}: expected MACRO=VALUE,VALUE, as in --sweep SEED=0,1,2")
    check_words(values)
    return macro, values


def _label(macro: str, value: str) -> str:
    short = re.sub(r"[^a-z0-9.]+", "-", Path(value).name.removesuffix(".gin").lower()).strip("-.")
    return short if macro in ("MODEL", "RECIPE") else f"{macro.lower().replace('_', '-')}{short}"


def _flag(macro: str, value: str) -> tuple[str, str]:
    return (_FLAGS[macro], value) if macro in _FLAGS else ("--set", f"{macro}={value}")


def choose(runs: Sequence[Run]) -> str:
    """A shell function that sets `run`, `folder` and `arguments` for run number $1."""
    cases = "".join(
        f"    {number})\n"
        f"      run={shlex.quote(run.name)}\n"
        f"      folder={shlex.quote(run.folder)}\n"
        f"      arguments=({shlex.join(run.arguments)})\n"
        "      ;;\n"
        for number, run in enumerate(runs)
    )
    return (
        "# Selects a run by its number.\n"
        "# shellcheck disable=SC1003,SC2016,SC2034  # any words are allowed, and some are unused\n"
        f'choose() {{\n  case "$1" in\n{cases}'
        '    *) echo "launch: there is no run $1" >&2 && return 2 ;;\n  esac\n}'
    )


def settings(**values: str | int | bool) -> str:
    """Assignments of shell variables; False is the empty text.

    >>> print(settings(name="a b", keep=False))
    name='a b'
    keep=''
    """
    flags = {True: "yes", False: ""}
    texts = {k: flags[v] if isinstance(v, bool) else str(v) for k, v in values.items()}
    check_words(tuple(texts.values()))
    return "\n".join(f"{name}={shlex.quote(text)}" for name, text in texts.items())


def fill(template: str, parts: Mapping[str, str]) -> str:
    """A file of `templates/` in which `parts[NAME]` replaces each line `#@ NAME`."""
    lines = []
    for line in template_text(template).splitlines():
        if line.startswith("#@ "):
            line = parts[line[3:]]
        lines.append(line)
    return "\n".join(lines) + "\n"


def template_text(name: str) -> str:
    """The text of a file of `templates/`."""
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8").rstrip("\n")


def source_folder(given: str | None) -> Path:
    """The checkout that other machines install.

    Raises:
        UserError: the folder is no checkout.
    """
    folder = Path(given).absolute() if given is not None else Path(__file__).parents[2]
    for name in ("pyproject.toml", "requirements.lock"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} has no {name}: give the folder of a checkout with --source DIR"
            )
    return folder


def program() -> str:
    """The path of this installation's `sycophancy`, for machines that see the same files."""
    beside = Path(sys.executable).with_name("sycophancy")
    return str(beside) if beside.exists() else "sycophancy"


def write(script: Script, path: Path) -> Path:
    """Writes the script to a file.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script.text, encoding="utf-8")
        if script.text.startswith("#!"):
            path.chmod(0o755)
    except OSError as error:
        reason = error.strerror
        raise UserError(f"cannot write {path}: {reason}; name another with --write") from None
    return path


def submit(script: Script, path: Path) -> int:
    """Runs the commands that submit the script, and prints the job's id and how to watch it.

    Returns:
        The exit status of the first command that failed, or 0.

    Raises:
        UserError: the program that submits is not installed.
    """
    for command in script.commands:
        if shutil.which(command[0]) is None:
            raise UserError(f"{command[0]} is not installed here: {script.missing}")
    job = "JOB"
    if not script.prints_id:
        _print_how_to_watch(script, job)  # first, as some commands end only when the run ends
    for command in script.commands:
        words = [str(path) if word == "{}" else word for word in command]
        print(f"launch: {shlex.join(words)}", file=sys.stderr, flush=True)
        with subprocess.Popen(
            words, stdout=subprocess.PIPE if script.prints_id else None, text=True
        ) as process:
            try:
                output, _ = process.communicate()
            except BaseException:  # this process is stopped: the script must stop and clean up
                process.terminate()
                process.wait()
                raise
        if script.prints_id:
            job = output.strip().partition(";")[0]  # "id;cluster" in a federation
            print(job)
        if process.returncode:
            return process.returncode
    if script.prints_id:
        _print_how_to_watch(script, job)
    return 0


def _print_how_to_watch(script: Script, job: str) -> None:
    for line in script.watch:
        print(f"launch: {line.replace('JOB', job)}", file=sys.stderr, flush=True)
