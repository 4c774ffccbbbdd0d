"""The commands of the command line. Each is imported when it is called, so `--help` is quick."""

from __future__ import annotations

import importlib
import inspect
import textwrap
from typing import Any

import typer
from typer.core import TyperGroup

from sycophancy.stages.order import by_command

# Commands that take the options of a run, besides those of the stages.
_OF_RUNS = {
    "run": "Run every stage, from the data to the report.",
    "export": "Write a run's evaluation sets as tasks of another library.",
}
# All others, and what the list says of each; the module of its name has it.
_OTHERS = {
    "browse": "Show items of a run with the answers of its models.",
    "compare": "Compare evaluations of runs: each measure with its interval.",
    "convert": "Write a checkpoint in another format.",
    "doctor": "Check whether this machine has all that a run needs.",
    "generate": "Print what a model writes after each prompt.",
    "harness": "Run tasks of the LM evaluation harness on a model.",
    "plan": "Tell whether a run fits a TPU slice, and how long it takes.",
    "push": "Upload a run's finetuned model to the Hugging Face hub.",
    "sweep": "Run models x recipes x seeds, then write one report.",
    "reproduce": "Run the paper's experiments and those beyond it.",
    "settings": "Describe the settings of a run: types, limits, defaults.",
    "launch": "Run elsewhere: a TPU slice, SLURM, SkyPilot, or several processes here.",
}


class Commands(TyperGroup):
    """All commands, none of them imported before it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the help."""
        return list(_descriptions())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name, or None."""
        if cmd_name not in _descriptions():
            return None
        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        if cmd_name in _OTHERS:
            module = importlib.import_module(f"sycophancy.cli.{cmd_name}")
            if hasattr(module, "app"):
                app = module.app
            else:
                app.command(cmd_name)(getattr(module, cmd_name))
        else:
            from sycophancy.cli.stages import command

            app.command(cmd_name, help=_descriptions()[cmd_name])(command(cmd_name))
        return typer.main.get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the names and what each command does."""
        descriptions = _descriptions()
        limit = formatter.width - 6 - max(map(len, descriptions))
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, textwrap.shorten(text.partition("\n\n")[0], limit, placeholder="..."))
                    for name, text in descriptions.items()
                ]
            )


def _descriptions() -> dict[str, str]:
    stages = {
        name: inspect.getdoc(type(members[-1])) or "" for name, members in by_command().items()
    }
    return {**stages, **_OF_RUNS, **_OTHERS}
