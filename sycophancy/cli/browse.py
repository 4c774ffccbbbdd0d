"""The command `browse`: the items of a run with the answers of its models."""

from __future__ import annotations

import sys
import typing
from pathlib import Path
from typing import Annotated

import typer

from sycophancy.cli.sweep import listed

if typing.TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from sycophancy.report.browse.answers import Answer, Asked

_PIPE_WIDTH = 160  # of the table where there is no terminal
_PROMPT = 300  # most characters of a prompt in the table
_KINDS = "right-to-wrong, wrong-to-right, to-user or from-user"


def browse(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name, folder or address of a run.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME",
            help="Only this set, or all whose names start with NAME/; may be repeated.",
        ),
    ] = None,
    condition: Annotated[
        str, typer.Option(metavar="NAME", help="neutral, user_wrong, user_right or user_view.")
    ] = "",
    flipped: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help=f"Answers that finetuning turned: {_KINDS}, between the first and the last "
            "evaluation shown.",
        ),
    ] = "",
    swayed: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help=f"Answers that a user turned: {_KINDS}, compared with the same question asked "
            "without a user.",
        ),
    ] = "",
    swayed_in: Annotated[
        str,
        typer.Option(metavar="NAME", help="The evaluation that --swayed is about [the last]."),
    ] = "",
    search: Annotated[
        str, typer.Option(metavar="TEXT", help="Only items with this text in prompt or id.")
    ] = "",
    evaluations: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Whose answers to show [before,after]."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Most items [20; on the page, all]."),
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(metavar="FILE.html", help="Write a page with search and filters instead."),
    ] = None,
) -> None:
    """Show items of a run with the answers of its models, before and after finetuning."""
    from sycophancy.errors import UserError, did_you_mean
    from sycophancy.report.browse.answers import asked_items, chosen_evaluations
    from sycophancy.report.browse.selection import Selection
    from sycophancy.report.evaluations import read_evaluations

    read = read_evaluations(run)
    names = chosen_evaluations(
        read, listed("--evaluations", evaluations) if evaluations is not None else ()
    )
    if swayed_in and swayed_in not in names:
        raise UserError(
            f"--swayed-in {swayed_in}: the evaluations shown are {', '.join(names)}"
            f"{did_you_mean(swayed_in, names)}"
        )
    if flipped and len(names) == 1:
        raise UserError(f"--flipped compares two evaluations, and only {names[0]} is shown")
    asked = asked_items(read, names)
    selection = Selection(
        set_ or (), condition, flipped, swayed, swayed_in or names[-1], search.strip()
    )
    selection.check(asked)
    found = selection.of(asked)
    if page is not None:
        from sycophancy.report import pages
        from sycophancy.report.browse import page as browse_page

        pages.write(Path(page), browse_page.render(read, names, found[:limit]))
        print(page)
        return
    shown = found[: limit or 20]
    if shown:
        _show(shown, names, search.strip())
    more = "; --limit shows more, --page FILE.html all" if len(shown) < len(found) else ""
    print(f"{len(shown):,} of {len(found):,} items that fit, of {len(asked):,} in all{more}")


def _show(shown: list[Asked], names: tuple[str, ...], search: str) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(_table(shown, names, search))


def _table(shown: list[Asked], names: tuple[str, ...], search: str) -> Table:
    """One row an item; in its cells, one line a choice. `>` marks the choice that a model took."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, pad_edge=False, show_lines=True)
    table.add_column("item", ratio=3)
    table.add_column("prompt", ratio=7)
    table.add_column("choices", no_wrap=True, overflow="ellipsis", ratio=4)
    for name in names:
        table.add_column(Text(name), no_wrap=True, min_width=7)
    for one in shown:
        item = one.item
        about = [item.task, item.condition, item.item_id, *_turned(one)]
        table.add_row(
            Text("\n".join(map(_printable, about))),
            Text(_shortened(item.inputs, search)),
            _choices(one),
            *(_shares(one.answers.get(name), len(item.choices)) for name in names),
        )
    return table


def _turned(one: Asked) -> list[str]:
    lines = [f"flipped {turn}" for turn in sorted(one.flipped)]
    for name, turns in one.swayed.items():
        lines += [f"swayed {name}: {turn}" for turn in sorted(turns)]
    return lines


def _choices(one: Asked) -> Text:
    from rich.text import Text

    from sycophancy.report.run.examples import choice_words, tags

    lines = Text()
    for index, choice in enumerate(one.item.choices):
        marks = tags(one.item, index, "user")
        lines.append("\n" if index else "")
        lines.append(f"[{marks}] " if marks else "", style="bold")
        lines.append(_printable(choice_words(one.item, choice)))
    return lines


def _shares(given: Answer | None, count: int) -> Text:
    """The probability of each choice in a line of its own."""
    from rich.text import Text

    from sycophancy.report.text_format import percent

    if given is None:
        return Text("-")
    if not given.shares:
        return Text("exact" if given.is_right else "other")
    lines = Text()
    for index in range(count):
        taken = index == given.choice
        lines.append("\n" if index else "")
        mark = "> " if taken else "  "
        lines.append(f"{mark}{percent(given.shares[index])}", style="bold" if taken else "")
    return lines


def _shortened(prompt: str, search: str) -> str:
    """A prompt in few characters, around the text that was searched for."""
    text = _printable(prompt)
    if len(text) <= _PROMPT:
        return text
    place = max(0, text.casefold().find(search.casefold())) if search else 0
    start = max(0, min(place - _PROMPT // 3, len(text) - _PROMPT))
    end = start + _PROMPT
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _printable(text: str) -> str:
    """A text in one line, without characters that would steer the terminal."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
