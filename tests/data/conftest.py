"""Small published data sets on disk, in the layout of a mirror."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from sycophancy.config.schema import DataConfig
from sycophancy.data.catalog import SOURCES, Source

# Busy machines are slow, and a run of the tests leaves nothing behind.
settings.register_profile("data", deadline=None, database=None, derandomize=True)
settings.load_profile("data")

Publish = Callable[..., Path]


def class_label_table(columns: dict[str, list[Any]], label: str, names: list[str]) -> pa.Table:
    """A table as `datasets` writes it: label numbers, their names in the metadata."""
    table = pa.table({**columns, label: pa.array(columns[label], pa.int64())})
    features = {label: {"names": names, "_type": "ClassLabel"}}
    metadata = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": metadata})


def hub_names(source: Source) -> list[str]:
    return [name for name, _ in source.labels]


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


@pytest.fixture
def config(mirror: Path) -> DataConfig:
    return DataConfig(origin="mirror", mirror=str(mirror))


@pytest.fixture
def publish(mirror: Path) -> Publish:
    """Writes a split of a data set into the mirror; texts default to numbered ones."""

    def write(
        name: str,
        labels: list[Any],
        texts: list[Any] | None = None,
        split: str = "train",
        **how: Any,
    ) -> Path:
        source = SOURCES[name]
        texts = (
            [f"{name} {split} text {row}" for row in range(len(labels))] if texts is None else texts
        )
        columns: dict[str, list[Any]] = {}
        for field in source.texts:
            columns[field] = [
                text if isinstance(text, str) or text is None else text[field] for text in texts
            ]
        columns[source.label] = labels
        table = class_label_table(columns, source.label, how.get("names") or hub_names(source))
        if "change" in how:
            table = how["change"](table)
        path = mirror / source.rows.hub_id.replace("/", "__") / (source.rows.config or "default")
        path.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path / f"{split}.parquet")
        return path / f"{split}.parquet"

    return write
