"""The command `settings`: the reference of all macros, or the values that a run would have."""

from __future__ import annotations

from typing import Annotated

import typer

from sycophancy.cli import completion
from sycophancy.errors import UserError


def settings(
    macro: Annotated[
        str | None,
        typer.Argument(
            metavar="[MACRO]", help="Describe this macro alone.", autocompletion=completion.macros
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference page in Markdown.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Show the values of a run with this model, and the place that set each.",
            autocompletion=completion.models,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="With --model: the run's recipe [paper].",
            autocompletion=completion.recipes,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="MACRO=VALUE",
            help="With --model: set a macro; may be repeated.",
            autocompletion=completion.assignments,
        ),
    ] = None,
) -> None:
    """Describe the settings of a run: types, limits, defaults."""
    from sycophancy.config import reference

    if model is None and (recipe is not None or set_):
        flag = "--set" if recipe is None else "--recipe"
        raise UserError(f"{flag} needs --model beside it, as in --model mini_base")
    if markdown:
        if macro is not None or model is not None:
            raise UserError(
                "--markdown prints the page of all settings; leave MACRO and --model out"
            )
        print(reference.markdown(), end="")
        return
    declared = None if macro is None else reference.find(macro)
    if model is None:
        print(*reference.lines(None if declared is None else [declared]), sep="\n")
        return
    from sycophancy.config.load import resolve

    resolved = resolve(model, recipe or "paper", set_ or ())
    if declared is not None:
        resolved = {declared.macro: resolved[declared.macro]}
    print(*reference.resolved_lines(resolved), sep="\n")
