"""The stage `retention_rows`: decides which other abilities a run asks, and keeps their rows.

The first process decides alone. Every process, before and after finetuning, then reads the rows
from the run folder, so all ask the same ones, also where a run is continued without the hub.
"""

from __future__ import annotations

import importlib.util
import json
import typing
from pathlib import Path
from typing import Any, ClassVar

from sycophancy.engine.stage import Check, Counts, Inputs, Stage
from sycophancy.errors import UserError
from sycophancy.system import json_files, paths

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config
    from sycophancy.data.retention_rows import Family, Rows
    from sycophancy.engine.progress import Meter
    from sycophancy.engine.run_folder import RunFolder

AUTO = "auto"
PACKAGE = "lm_eval"
INSTALL = "pip install -e '.[harness]'"
ROWS, SUMMARY = "rows.parquet", "summary.json"
NAMES = {"mmlu": "MMLU", "bbh": "BIG-Bench Hard"}


def installed() -> bool:
    """Whether the LM evaluation harness is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def check_retention(config: Config, run: RunFolder) -> None:
    """Refuses RETENTION where the harness or a file that it needs is missing.

    Raises:
        UserError: as above; never for 'auto', which does without.
    """
    if AUTO in config.retention or not config.retention:
        return
    if not installed():
        raise UserError(
            f"RETENTION {' and '.join(config.retention)} needs the LM evaluation harness, which "
            f"is not installed: {INSTALL}, or --retention none"
        )
    for family in config.retention:
        _read(config, typing.cast("Family", family))


class RetentionRows(Stage):
    """Keep the questions that the retention stages ask."""

    name = "retention_rows"
    command = "retention"
    settings = frozenset({"RETENTION"})
    checks: ClassVar[tuple[Check, ...]] = (check_retention,)
    on_devices = False

    def applies(self, config: Config) -> bool:
        return bool(config.retention)

    def inputs(self, config: Config, run: RunFolder) -> Inputs:
        """The rows on this machine, and the version of the harness.

        Without the harness, a run that has rows keeps them: nothing has changed.
        """
        from sycophancy.data import retention_rows

        version = _version() or _summary(run).get("harness") or "not installed"
        return {
            "the LM evaluation harness": str(version),
            **retention_rows.local_files(config.data.mirror, config.bbh_folder),
        }

    def work(self, config: Config, run: RunFolder, out: Any, meter: Meter) -> Counts:
        from sycophancy.data import retention_rows

        rows, notes = _decide(config)
        retention_rows.write(out / ROWS, rows)
        counts = {family: retention_rows.questions(own) for family, own in rows.items()}
        summary = {"harness": _version() if rows else None, "questions": counts}
        paths.write_atomically(out / SUMMARY, json.dumps(summary, indent=1))
        return {"questions": sum(counts.values()), "notes": notes}


def kept_files(run: RunFolder) -> dict[str, Path]:
    """What the stage wrote: the rows, and the version of the harness that asks them."""
    folder = Path(run.stage(RetentionRows.name))
    return {f"{RetentionRows.name}/{name}": folder / name for name in (ROWS, SUMMARY)}


def kept_rows(run: RunFolder) -> dict[Family, Rows]:
    """The rows of each ability that the run asks; empty if it asks none.

    Raises:
        UserError: the file is damaged, or the harness is not installed in this process.
    """
    from sycophancy.data import retention_rows

    rows = retention_rows.read(Path(run.stage(RetentionRows.name)) / ROWS)
    if rows and not installed():
        raise UserError(
            f"this run asks {' and '.join(NAMES[family] for family in rows)}, and the LM "
            f"evaluation harness is not installed here: {INSTALL}, or --retention none"
        )
    return rows


def _decide(config: Config) -> tuple[dict[Family, Rows], list[str]]:
    """The rows of each ability that can be asked, and notes on what is left out.

    Raises:
        UserError: something is missing, and RETENTION is not 'auto'.
    """
    auto = AUTO in config.retention
    wanted = tuple(NAMES) if auto else config.retention
    if auto and not installed():
        return {}, [
            "MMLU and BIG-Bench Hard are not measured: the LM evaluation harness is not "
            f"installed ({INSTALL})"
        ]
    found: dict[Family, Rows] = {}
    notes = []
    for family in typing.cast("tuple[Family, ...]", wanted):
        name = NAMES[family]
        try:
            rows = _read(config, family)
        except UserError as error:
            if not auto:
                raise
            notes.append(f"{name} is not measured: {error}; --retention {family} tries again")
            continue
        known = _subjects(family)
        found[family] = {subject: rows[subject] for subject in known if subject in rows}
        if absent := [subject for subject in known if subject not in rows]:
            shown = f"{', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''}"
            notes.append(
                f"{name}: {len(absent)} of {len(known)} subjects have no rows and are left out "
                f"({shown})"
            )
    return found, notes


def _read(config: Config, family: Family) -> Rows:
    from sycophancy.data import retention_rows

    if family == "mmlu":
        return retention_rows.read_mmlu(config.data.mirror)
    return retention_rows.read_bbh(config.data.mirror, config.bbh_folder, _subjects(family))


def _subjects(family: Family) -> list[str]:
    from sycophancy.harness.retention import subjects

    return subjects(family)


def _version() -> str | None:
    from importlib import metadata

    return metadata.version(PACKAGE) if installed() else None


def _summary(run: RunFolder) -> dict[str, Any]:
    return json_files.read_object(run.stage(RetentionRows.name) / SUMMARY)[0] or {}
