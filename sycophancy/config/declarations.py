"""Every setting of a run as data, read from the fields of `schema`'s dataclasses."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Annotated, TypeVar

from sycophancy.config.conversion import Annotation, Value
from sycophancy.config.markers import ByContent, Label, Macro, MeasuredOnly, Operational, SameAs
from sycophancy.config.schema import (
    Config,
    DataConfig,
    ModelConfig,
    NetworkConfig,
    TrainingConfig,
)

T = TypeVar("T")

# In the order of `config.gin`.
GROUPS: Mapping[str, type] = {
    "network": NetworkConfig,
    "model": ModelConfig,
    "data": DataConfig,
    "training": TrainingConfig,
    "run": Config,
}


@dataclasses.dataclass(frozen=True)
class Declaration:
    """One setting.

    Attributes:
        macro: its name in gin files and for `--set`.
        group: the key of `GROUPS` whose class declares it.
        annotation: its type with limits, markers and help text.
        default: its value where nothing sets it; `dataclasses.MISSING` if it must be set.
        help: what it decides.
    """

    macro: str
    group: str
    annotation: Annotation
    default: Value
    help: str

    @property
    def is_required(self) -> bool:
        """Whether the setting has no default."""
        return self.default is dataclasses.MISSING

    def has(self, marker: type) -> bool:
        """Whether the declaration carries a marker of this class."""
        return _marker(self.annotation, marker) is not None


@functools.cache
def declarations() -> Mapping[str, Declaration]:
    """All settings by macro, in the order in which `config.gin` lists them."""
    declared = {}
    order = []
    for group, owner in GROUPS.items():
        fields = {field.name: field for field in dataclasses.fields(owner)}
        for name, macro in macros_by_field(owner).items():
            order.append(macro)
            annotation = _annotations(owner)[name]
            if _marker(annotation, SameAs) is None:
                declared[macro] = Declaration(
                    macro, group, annotation, fields[name].default, _help(annotation)
                )
    return {macro: declared[macro] for macro in dict.fromkeys(order)}


@functools.cache
def macros_by_field(owner: type) -> Mapping[str, str]:
    """The macro that fills each field of a dataclass; fields that are no settings are left out."""
    macros = {}
    for name, annotation in _annotations(owner).items():
        if (same := _marker(annotation, SameAs)) is not None:
            macros[name] = same.macro
        elif _help(annotation):
            named = _marker(annotation, Macro)
            macros[name] = named.name if named is not None else name.upper()
    return macros


def result_settings(owner: type) -> frozenset[str]:
    """The macros of a dataclass whose values decide a result.

    Operational settings, names for people and settings that count by the content of their files
    are left out.
    """
    return frozenset(
        macro
        for macro in macros_by_field(owner).values()
        if not any(declarations()[macro].has(role) for role in (Operational, ByContent, Label))
    )


@functools.cache
def _annotations(owner: type) -> Mapping[str, Annotation]:
    hints = typing.get_type_hints(owner, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(owner)}


def _marker(annotation: Annotation, kind: type[T]) -> T | None:
    return next((item for item in _metadata(annotation) if isinstance(item, kind)), None)


def _help(annotation: Annotation) -> str:
    return _marker(annotation, str) or ""


def _metadata(annotation: Annotation) -> tuple[object, ...]:
    is_annotated = typing.get_origin(annotation) is Annotated
    return typing.get_args(annotation)[1:] if is_annotated else ()


# The settings that decide how a run proceeds, not what comes out.
OPERATIONAL_SETTINGS = frozenset(
    macro for macro, declared in declarations().items() if declared.has(Operational)
)

# The settings that no checkpoint depends on, although they decide what a stage before it writes.
MEASURED_SETTINGS = frozenset(
    macro for macro, declared in declarations().items() if declared.has(MeasuredOnly)
)

# The macro of each field of the network's shape, which a checkpoint determines; the others concern
# training.
NETWORK_SHAPE = {
    field: macro
    for field, macro in macros_by_field(NetworkConfig).items()
    if macro not in {"DROPOUT_RATE", "DTYPE", "REMAT_POLICY"}
}
