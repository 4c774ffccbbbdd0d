"""The reference of all settings, as lines for a terminal and as a Markdown page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

from sycophancy.config.conversion import as_gin, describe
from sycophancy.config.declarations import GROUPS, Declaration, declarations
from sycophancy.config.macros import Setting
from sycophancy.config.markers import (
    ByContent,
    Label,
    MeasuredOnly,
    Operational,
    RelativeToGinFile,
)
from sycophancy.errors import UserError, did_you_mean

_TITLES = {
    "network": "the network's shape and precision",
    "model": "the checkpoint to start from",
    "data": "what `prepare` reads and writes",
    "training": "how the model is finetuned",
    "run": "the run as a whole",
}
_NOTES = {
    Operational: "Changes how a run proceeds, not its result: no stage is run again.",
    MeasuredOnly: "Changes what is measured: checkpoints are kept.",
    ByContent: "Counts by the content of the files: moving them runs no stage again.",
    RelativeToGinFile: "In a gin file, paths are relative to that file.",
    Label: "A name for people: no stage is run again.",
}
_INDENT = " " * 4
_WIDTH = 100


def find(macro: str) -> Declaration:
    """The declaration of a macro, in upper or lower case.

    Raises:
        UserError: there is no such macro; the message suggests a similar one.
    """
    known = declarations()
    if macro.upper() not in known:
        raise UserError(
            f"unknown macro '{macro}'{did_you_mean(macro.upper(), known)}; "
            "`sycophancy settings` lists all"
        )
    return known[macro.upper()]


def lines(chosen: Iterable[Declaration] | None = None) -> list[str]:
    """Describes settings for a terminal, by group.

    Args:
        chosen: the settings to describe; by default all.
    """
    chosen = list(declarations().values() if chosen is None else chosen)
    written: list[str] = []
    for group in GROUPS:
        members = [declared for declared in chosen if declared.group == group]
        if members:
            written += ["", f"{group}: {_TITLES[group].replace('`', '')}"]
        for declared in members:
            written += [
                "",
                f"  {declared.macro}: {describe(declared.annotation)}; {_default(declared)}",
            ]
            for text in (declared.help, *_notes(declared)):
                written += textwrap.wrap(
                    text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT
                )
    return written[1:]


def markdown() -> str:
    """The reference page of all settings, in Markdown."""
    written = [
        "# Settings",
        "",
        "Every setting of a run is a gin macro. A model's gin file, a recipe's gin file, and",
        "`--set MACRO=VALUE` set it, in this order; the last one wins. `sycophancy settings MACRO`",
        "describes one setting, and `sycophancy settings --model MODEL --recipe RECIPE` shows the",
        "value of each setting and the place that set it. A setting without a default must be set;",
        "the shipped models set all of these. This page is the output of",
        "`sycophancy settings --markdown`.",
    ]
    for group in GROUPS:
        written += [
            "",
            f"## {group.capitalize()}: {_TITLES[group]}",
            "",
            "| macro | value | default | what it decides |",
            "|---|---|---|---|",
        ]
        for declared in declarations().values():
            if declared.group == group:
                default = "" if declared.is_required else f"`{as_gin(declared.default)}`"
                text = " ".join([declared.help, *_notes(declared)])
                cells = (f"`{declared.macro}`", describe(declared.annotation), default, text)
                written.append(f"| {' | '.join(cells)} |")
    return "\n".join(written) + "\n"


def resolved_lines(settings: Mapping[str, Setting]) -> list[str]:
    """Shows values as lines of a gin file, each with the place that set it as a comment."""
    assignments = {macro: f"{macro} = {as_gin(item.value)}" for macro, item in settings.items()}
    width = min(48, max(map(len, assignments.values()), default=0))
    return [f"{assignments[macro]:<{width}}  # {settings[macro].origin}" for macro in settings]


def _default(declared: Declaration) -> str:
    return "no default" if declared.is_required else f"default {as_gin(declared.default)}"


def _notes(declared: Declaration) -> list[str]:
    return [note for marker, note in _NOTES.items() if declared.has(marker)]
