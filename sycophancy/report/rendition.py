"""What it takes to make the run again: command, versions, counts of the data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from sycophancy.report.reading import Reading


def reproduction(reading: Reading) -> str:
    """A command line that makes the same run."""
    return shlex.join(["sycophancy", "run", "--config", "config.gin"])


def versions(reading: Reading) -> dict[str, str]:
    """Package -> version over all stages; several if stages ran with different ones."""
    found: dict[str, list[str]] = {}
    for stage in reading.stages:
        for package, version in stage.versions.items():
            known = found.setdefault(package, [])
            if str(version) not in known:
                known.append(str(version))
    return {package: ", then ".join(known) for package, known in sorted(found.items())}


def counts(reading: Reading) -> list[tuple[str, str]]:
    """Every number of `prepare/summary.json` with its name, nested names joined by slashes."""
    return _flat(reading.prepared)


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [
            pair
            for key, inner in value.items()
            for pair in _flat(inner, f"{name} / {key}" if name else str(key))
        ]
    return [(name, f"{value:,}" if isinstance(value, int) else str(value))]
