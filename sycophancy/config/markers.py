"""Markers for the annotation of a setting, beside its limits and its help text."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Macro:
    """The setting's gin macro, where it is not the field's name in upper case."""

    name: str


@dataclasses.dataclass(frozen=True)
class SameAs:
    """The field takes the value of a macro that a field of another class declares."""

    macro: str


@dataclasses.dataclass(frozen=True)
class Operational:
    """The setting decides how a run proceeds, not what comes out."""


@dataclasses.dataclass(frozen=True)
class MeasuredOnly:
    """The setting decides what a model is asked, and nothing that it is trained on."""


@dataclasses.dataclass(frozen=True)
class ByContent:
    """The setting names files, which count by their content and not by their place."""


@dataclasses.dataclass(frozen=True)
class RelativeToGinFile:
    """The setting holds paths that are relative to the gin file that sets it."""


@dataclasses.dataclass(frozen=True)
class Renamed:
    """Values that earlier versions had under other names, as pairs of old and new."""

    values: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Label:
    """The setting is a name for people."""
