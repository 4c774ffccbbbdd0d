"""The losses of a finetuning, read from the journal `finetune/metrics.jsonl`.

A line of the journal has a `step` and either the training loss of the steps since the last such
line (`loss`), or the losses on held-out rows (`validation_loss`). Journals of earlier versions have
no validation lines.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sycophancy.errors import UserError
from sycophancy.system import json_files

LOSS, EXACT_MATCH = "validation_loss", "validation_exact_match"


@dataclasses.dataclass(frozen=True)
class Validation:
    """The losses on held-out rows at one step.

    Attributes:
      loss: nats a target token, over the training mixture.
      exact_match: share of rows whose every target token is the likeliest; None if not recorded.
      by_kind: kind of row, such as `intervention` -> its loss and its exact match.
    """

    step: int
    loss: float
    exact_match: float | None = None
    by_kind: Mapping[str, tuple[float, float | None]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Losses:
    """The losses of a finetuning in order of steps.

    Attributes:
      training: (step, loss) pairs.
      validation: one entry for each validation.
    """

    training: Sequence[tuple[int, float]] = ()
    validation: Sequence[Validation] = ()


def read_losses(path: Path) -> Losses:
    """Reads a journal; the losses are empty if the file does not exist.

    A last line that a kill cut short is skipped, and so are losses that are not finite. If a step
    has two lines, the later one counts.

    Raises:
      UserError: the file cannot be read, or another line is damaged; the message names the line.
    """
    if not path.is_file():
        return Losses()
    training: dict[int, float] = {}
    validation: dict[int, Validation] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    for number, line in enumerate(lines, 1):
        entry, reason = json_files.parse_object(line)
        if entry is None:
            if number == len(lines):
                continue
            raise UserError(f"{path}:{number}: the line {reason}; finetune again")
        try:
            if "step" not in entry:
                continue
            step = int(entry["step"])
            if "loss" in entry and math.isfinite(loss := float(entry["loss"])):
                training[step] = loss
            if LOSS in entry and math.isfinite(float(entry[LOSS])):
                validation[step] = _validation(step, entry)
        except (TypeError, ValueError, OverflowError):
            raise UserError(
                f"{path}:{number}: step and losses should be numbers: {line.decode()}"
            ) from None
    return Losses(sorted(training.items()), [validation[step] for step in sorted(validation)])


def _validation(step: int, entry: Mapping[str, Any]) -> Validation:
    by_kind = {}
    for name in entry:
        kind, _, measure = name.rpartition("/")
        if kind and measure == LOSS:
            match = entry.get(f"{kind}/{EXACT_MATCH}")
            by_kind[kind] = float(entry[name]), None if match is None else float(match)
    match = entry.get(EXACT_MATCH)
    return Validation(step, float(entry[LOSS]), None if match is None else float(match), by_kind)
