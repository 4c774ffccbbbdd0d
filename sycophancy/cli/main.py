"""The command line: its commands, and what an error or a signal prints and returns."""

from __future__ import annotations

import errno
import gc
import os
import re
import signal
import sys
import typing
from typing import Annotated, Any

import typer

from sycophancy import __version__
from sycophancy.cli import completion
from sycophancy.cli.commands import Commands
from sycophancy.config.bounds import shortened, shown
from sycophancy.engine import distributed, supervision
from sycophancy.errors import UserError, did_you_mean
from sycophancy.system import compile_cache, home, terminal

app = typer.Typer(
    cls=Commands,
    help="Finetune language models so that they stop telling users what they want to hear.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Click's error about wrong usage. Typer may use its own copy of click, which has no public name.
_USAGE_ERROR: Any = typer.BadParameter.__base__
_NAME = "sycophancy"  # also under `python -m sycophancy`
_UNKNOWN = re.compile(r"No such (?P<kind>option: |command )['\"]?(?P<name>.*?)['\"]?(\.| \(|$)")
_LONGEST_WORD = 500  # most characters of a word in a message


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM, as an exception that only `main` catches."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Runs the command line; bad input prints one line on standard error, with exit code 2."""
    if completion.VARIABLE in os.environ:  # a shell waits for completions: set nothing else up
        _call_app()
        return
    from sycophancy.training.preemption import Preempted

    # JAX and TensorFlow make millions of objects that live as long as the process. With Python's
    # standard thresholds, looking through them again and again takes a fifth of a start.
    gc.set_threshold(50_000)
    terminal.take_any_text()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs at import
    home.provide()
    compile_cache.mend_when_damaged(compile_cache.keep())
    if distributed.is_shared():
        supervision.watch()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        terminal.check_names(*sys.argv)
        code = _call_app()
    except _USAGE_ERROR as error:
        _fail(_usage_message(error), 2)
    except UserError as error:
        if supervision.link and isinstance(error, distributed.UnreachableError):
            supervision.fail_with(error)
        _fail(str(error), 2)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _fail(f"{shown(error.filename)}: {error.strerror}", 2)
    except ImportError as error:
        _fail(
            f"{error}: the installation is incomplete, or a module of yours on PYTHONPATH has the "
            "name of a module that is needed",
            2,
        )
    except Preempted as stopped:
        print(f"sycophancy: {stopped}", file=sys.stderr)
        code = 0
    except _Stopped as stopped:
        print(
            "sycophancy: stopped; complete stages are kept, and the same command continues from "
            "there",
            file=sys.stderr,
            flush=True,
        )
        os._exit(stopped.code)  # at once: XLA can crash when it ends while it compiles
    except Exception as error:
        if supervision.link:
            supervision.fail_with(error)
        raise
    if lost := terminal.lost_output():
        _fail(f"the results could not be printed: {lost}", 2)
    sys.exit(code or 0)


def _call_app() -> int | None:
    """Runs the command that the process's arguments name; returns its exit code."""
    command = typer.main.get_command(app)
    return typing.cast("int | None", command(prog_name=_NAME, standalone_mode=False))


def _usage_message(error: Any) -> str:
    """The message about wrong usage; a misspelt command or option gets the most similar name."""
    text = str(error.format_message())
    if error.ctx is None or not (match := _UNKNOWN.match(text)):
        return text
    command, kind, name = error.ctx.command, match["kind"].rstrip(": "), match["name"]
    if kind == "command":
        known = command.list_commands(error.ctx)
    else:
        known = [option for parameter in command.params for option in parameter.opts]
    hint = did_you_mean(name, known)
    return f"no such {kind} {name}{hint or f'; `{error.ctx.command_path} --help` lists them'}"


def _stop(signum: int, frame: Any) -> typing.NoReturn:
    raise _Stopped(128 + signum)


def _fail(message: str, code: int) -> typing.NoReturn:
    words = (word if len(word) <= _LONGEST_WORD else shortened(word) for word in message.split())
    line = " ".join(words)
    if supervision.link:
        supervision.link.fail("user", f"ended: {line}", f"sycophancy: {line}", code)
    print(f"sycophancy: {line}", file=sys.stderr)
    sys.exit(code)
