"""Where a data set's rows come from: the hub, a mirror on disk or the miniature.

An origin gives the columns as they are published, and the names of the labels. What they mean is
for `sources` to say.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sycophancy.config import DataConfig
from sycophancy.data import hub
from sycophancy.data.catalog import Source
from sycophancy.errors import UserError


@dataclasses.dataclass(frozen=True)
class Published:
    """A split as published.

    Attributes:
      table: the columns, those of the source's texts and its label among them.
      label: the label's column.
      label_names: per label number its name; None if the column holds names itself.
      where: file or hub address, for messages.
    """

    table: pa.Table
    label: str
    label_names: tuple[str, ...] | None
    where: str


def publishes_validation(source: Source, config: DataConfig) -> bool:
    """Whether the origin has the split for held-out rows; a mirror may lack the file."""
    if config.origin != "mirror":
        return True
    return mirror_file(source, config, source.validation).is_file()


def read_published(source: Source, config: DataConfig, split: str) -> Published:
    """Reads a split from the configured origin.

    Args:
      source: the data set.
      config: says which origin.
      split: the hub's name of the split.

    Raises:
      UserError: the split cannot be had or a column is missing; the message names data set, file
        and the way out.
    """
    if config.origin == "hub":
        return _from_hub(source, split)
    if config.origin == "mirror":
        return _from_mirror(source, mirror_file(source, config, split))
    return _from_miniature(source, split)


def mirror_file(source: Source, config: DataConfig, split: str) -> Path:
    """Where a mirror keeps a split: `<owner>__<name>/<config or default>/<split>.parquet`."""
    if config.mirror is None:
        raise UserError("origin 'mirror' needs a folder; pass --data-mirror DIR")
    folder = Path(config.mirror) / source.hub_id.replace("/", "__")
    return folder / (source.config or "default") / f"{split}.parquet"


def _from_hub(source: Source, split: str) -> Published:
    place = source.download
    hub_id = place.hub_id if place else source.hub_id
    label = place.label if place else source.label
    rows = hub.load_split(
        f"data set {source.name!r}",
        hub_id,
        name=None if place else source.config,
        split=split,
        revision=place.revision if place else source.revision,
        remedy="check the network, or keep it as parquet and pass --data-mirror DIR",
    )
    where = f"{hub_id} {split}"
    _check_columns(source, rows.column_names, label, where)
    names = getattr(rows.features[label], "names", None)
    return Published(
        table=rows.data.table.select([*source.texts, label]),
        label=label,
        label_names=tuple(names) if names else None,
        where=where,
    )


def _from_mirror(source: Source, path: Path) -> Published:
    if not path.is_file():
        raise UserError(
            f"data set {source.name!r}: {path} does not exist; put it there or choose data sets"
            " that the mirror has"
        )
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_columns(source, schema.names, source.label, str(path))
            table = file.read([*source.texts, source.label])
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"data set {source.name!r}: {path} is not readable as parquet ({reason}); write it anew"
        ) from error
    return Published(table, source.label, _class_label_names(schema, source), str(path))


def _from_miniature(source: Source, split: str) -> Published:
    from sycophancy.data import miniature

    table = miniature.data_set(source.name, "train" if split == "train" else "validation")
    where = f"miniature {source.name} {split}"
    _check_columns(source, table.column_names, source.label, where)
    names = tuple(name for name, _ in source.labels)  # the miniature follows the hub's order
    return Published(table, source.label, names, where)


def _class_label_names(schema: pa.Schema, source: Source) -> tuple[str, ...] | None:
    """Label names that `datasets` writes into a parquet file's metadata."""
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(metadata["info"]["features"][source.label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def _check_columns(source: Source, columns: list[str], label: str, where: str) -> None:
    for column in (*source.texts, label):
        if column not in columns:
            raise UserError(
                f"data set {source.name!r}: {where} has no column {column!r} (it has"
                f" {', '.join(columns)}); use a copy with the hub's columns"
            )
