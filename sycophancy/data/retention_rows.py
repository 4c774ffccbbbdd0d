"""The rows of MMLU and BIG-Bench Hard: from a mirror, a folder of files, or the hub.

A subject without rows is left out; the caller says so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from sycophancy.data import hub
from sycophancy.errors import UserError
from sycophancy.evaluation.items import read_table

MMLU, MMLU_CONFIG = "cais/mmlu", "all"
BBH = "SaylorTwift/bbh"  # what the harness reads
MMLU_SPLITS = ("dev", "test")  # examples, and questions
MMLU_COLUMNS = ("question", "choices", "answer", "subject")
BBH_COLUMNS = ("input", "target")

# Rows as a run keeps them; `row` is a JSON object.
SCHEMA = pa.schema([(name, pa.string()) for name in ("family", "subject", "split", "row")])

Family = Literal["mmlu", "bbh"]
Rows = dict[str, dict[str, list[dict[str, Any]]]]  # subject -> split -> rows


def mmlu_files(mirror: str) -> dict[str, Path]:
    """Split -> its file in a mirror, whether it exists or not."""
    folder = _in_mirror(mirror, MMLU) / MMLU_CONFIG
    return {split: folder / f"{split}.parquet" for split in MMLU_SPLITS}


def bbh_files(mirror: str | None, folder: str | None, subjects: Sequence[str]) -> dict[str, Path]:
    """Subject -> its file, of the subjects that a folder or a mirror has."""
    if folder is not None:
        files = {subject: Path(folder) / f"{subject}.json" for subject in subjects}
    else:
        place = _in_mirror(mirror or "", BBH)
        files = {subject: place / subject / "test.parquet" for subject in subjects}
    return {subject: path for subject, path in files.items() if path.is_file()}


def local_files(mirror: str | None, folder: str | None) -> dict[str, Path]:
    """The files on this machine that rows are read from, by their names in a manifest."""
    files = list(mmlu_files(mirror).values()) if mirror is not None else []
    if folder is not None:
        files += sorted(Path(folder).glob("*.json"))
    elif mirror is not None:
        files += sorted(_in_mirror(mirror, BBH).glob("*/test.parquet"))
    return {
        f"other abilities: {'/'.join(path.parts[-2:])}": path for path in files if path.is_file()
    }


def questions(rows: Rows) -> int:
    """The number of rows that are asked, without the examples.

    >>> questions({"anatomy": {"dev": [{}, {}], "test": [{}]}})
    1
    """
    return sum(len(splits["test"]) for splits in rows.values())


def write(path: Path, rows: Mapping[Family, Rows]) -> None:
    """Writes the rows of all abilities to a file by `SCHEMA`, in their order."""
    lines = [
        {"family": family, "subject": subject, "split": split, "row": json.dumps(row)}
        for family, subjects in rows.items()
        for subject, splits in subjects.items()
        for split, own in splits.items()
        for row in own
    ]
    pq.write_table(pa.Table.from_pylist(lines, SCHEMA), path)


def read(path: Path) -> dict[Family, Rows]:
    """Reads what `write` wrote.

    Raises:
      UserError: the file is missing or damaged.
    """
    found: dict[Family, Rows] = {}
    for line in read_table(path, SCHEMA).to_pylist():
        subjects = found.setdefault(cast("Family", line["family"]), {})
        splits = subjects.setdefault(line["subject"], {})
        splits.setdefault(line["split"], []).append(json.loads(line["row"]))
    return found


def read_mmlu(mirror: str | None) -> Rows:
    """The rows of every subject that has examples and questions.

    Raises:
      UserError: a file is missing or damaged, or the hub does not answer.
    """
    found: Rows = defaultdict(lambda: {split: [] for split in MMLU_SPLITS})
    for split in MMLU_SPLITS:
        if mirror is not None:
            table = _read_parquet(mmlu_files(mirror)[split], MMLU_COLUMNS)
        else:
            table = _from_hub("MMLU", MMLU, MMLU_CONFIG, split, "--data-mirror DIR")
        for row in table.select(MMLU_COLUMNS).to_pylist():
            found[row["subject"]][split].append(row)
    return {subject: splits for subject, splits in sorted(found.items()) if all(splits.values())}


def read_bbh(mirror: str | None, folder: str | None, subjects: Sequence[str]) -> Rows:
    """The rows of every task that the folder or the mirror has; the hub has all.

    Raises:
      UserError: there is no file, one is damaged, or the hub does not answer.
    """
    if mirror is None and folder is None:
        tables = {
            subject: _from_hub("BIG-Bench Hard", BBH, subject, "test", "--bbh DIR")
            for subject in subjects
        }
        return {name: {"test": table.to_pylist()} for name, table in tables.items()}
    files = bbh_files(mirror, folder, subjects)
    if not files:
        expected = Path(folder) / "TASK.json" if folder else _in_mirror(mirror or "", BBH)
        raise UserError(
            f"there is no row of BIG-Bench Hard: {expected} does not exist, for none of its "
            f"{len(subjects)} tasks such as {subjects[0]}; name the folder with --bbh DIR"
        )
    return {subject: {"test": _read_bbh_file(path)} for subject, path in files.items()}


def _in_mirror(mirror: str, hub_id: str) -> Path:
    return Path(mirror) / hub_id.replace("/", "__")


def _read_bbh_file(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = _read_parquet(path, BBH_COLUMNS).to_pylist()
        return rows
    try:
        examples = json.loads(path.read_text(encoding="utf-8"))["examples"]
        rows = [{name: str(example[name]) for name in BBH_COLUMNS} for example in examples]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no task of BIG-Bench Hard: expected a JSON object whose `examples` have "
            f"`input` and `target` ({type(error).__name__}: {hub.one_line(error)})"
        ) from error
    if not rows:
        raise UserError(f"{path} has no examples; remove it, or copy it again")
    return rows


def _read_parquet(path: Path, names: Sequence[str]) -> pa.Table:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; put it there, or choose another --retention"
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read as parquet ({hub.one_line(error)})") from error
    if missing := [name for name in names if name not in table.column_names]:
        raise UserError(f"{path} has no column {missing[0]!r} (it has {table.column_names})")
    return table.select(names)


def _from_hub(what: str, hub_id: str, config: str, split: str, flag: str) -> pa.Table:
    remedy = f"name a copy with {flag}, or choose another --retention"
    return hub.load_split(what, hub_id, remedy=remedy, name=config, split=split).data.table
