"""Reads the shape of a network from the JSON of a checkpoint's metadata."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sycophancy.config.schema import DecoderConfig, Network, NetworkConfig, RopeScaling
from sycophancy.model.checkpoints.checkpoint import SIZES, check_sizes


def parse(stored: Mapping[str, Any], source: str) -> Network:
    """The network that `dataclasses.asdict` and JSON made of one; unknown names are left out.

    Args:
      stored: the fields. Only decoder-only models have `num_kv_heads`.
      source: the file, for messages.

    Raises:
      TypeError: a field is missing or has another type.
      UserError: a size is out of range.
    """
    fields = dict(stored)
    if "num_kv_heads" not in fields:
        return check_sizes(NetworkConfig(**_checked(NetworkConfig, fields)), source)
    if fields.get("rope_scaling") is not None:
        scaling = _checked(RopeScaling, fields["rope_scaling"])
        fields["rope_scaling"] = RopeScaling(**scaling)
    return check_sizes(DecoderConfig(**_checked(DecoderConfig, fields)), source)


def _checked(kind: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass, with JSON's lists as tuples.

    Raises:
      TypeError: a field has another type.
    """
    hints = get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        if field.name in stored:
            value = stored[field.name]
            found[field.name] = tuple(value) if isinstance(value, list) else value
            if field.name not in SIZES and not _fits(found[field.name], hints[field.name]):
                raise TypeError(f"{field.name} is {str(value)[:80]}")
    return found


def _fits(value: Any, hint: Any) -> bool:
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return value in arguments
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(one, arguments[0]) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint
