"""Where a data set's rows come from: the hub, a mirror on disk or the miniature.

An origin gives the columns as they are published, and the names of the labels. What they mean is
for `sources` to say.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from sycophancy.config.schema import DataConfig
from sycophancy.data import columns, hub
from sycophancy.data.catalog import Source
from sycophancy.errors import UserError

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?")  # as the hub names parts of a split


@dataclasses.dataclass(frozen=True)
class Published:
    """A split as published, or one file of it.

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
    return bool(mirror_files(source, config, source.validation))


def read_published(source: Source, config: DataConfig, split: str) -> list[Published]:
    """Reads a split from the configured origin, file by file.

    Args:
      source: the data set.
      config: says which origin.
      split: the hub's name of the split.

    Raises:
      UserError: the split cannot be had or a column is missing; the message names data set, file
        and the way out.
    """
    if config.origin == "hub":
        return [_from_hub(source, split)]
    if config.origin == "mirror":
        paths = mirror_files(source, config, split)
        if not paths:
            raise UserError(_not_in_mirror(source, config, split))
        return [_from_mirror(source, path) for path in paths]
    return [_from_miniature(source, split)]


def mirror_files(source: Source, config: DataConfig, split: str) -> list[Path]:
    """The files in which a mirror keeps a split; none if it lacks the split.

    The place is `<owner>__<name>/<config or default>/<split>.parquet`, or the same with the hub's
    shard names (`<split>-00000-of-00002.parquet`). A data set without configurations may also lie
    as the hub's repositories have it: in `data/`, in `plain_text/` or at the top.

    Raises:
      UserError: a shard is missing, or the files of two versions lie side by side.
    """
    folder = _mirror_folder(source, config)
    places = [source.config] if source.config else ["default", "data", "plain_text", "."]
    for place in places:
        if found := split_files(folder / place, split, ("parquet",)):
            return found
    return []


def split_files(folder: Path, split: str, endings: Sequence[str]) -> list[Path]:
    """The files of a split in a folder: one, or all of the hub's shards in their order.

    Raises:
      UserError: as `mirror_files`.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    whole = [name for name in names if name in {f"{split}.{ending}" for ending in endings}]
    shards: dict[int, dict[int, str]] = {}  # by the number of shards that the names speak of
    for name in names:
        stem, _, ending = name.rpartition(".")
        match = _SHARD.fullmatch(stem.removeprefix(split))
        if match and stem.startswith(split) and ending in endings:
            parts = shards.setdefault(int(match[2]), {})
            if int(match[1]) in parts:
                whole += [parts[int(match[1])], name]
            parts[int(match[1])] = name
    if len(whole) + len(shards) > 1:
        first = [*whole, *(next(iter(parts.values())) for parts in shards.values())]
        raise UserError(
            f"{folder} holds split {split!r} more than once ({' and '.join(first)}); keep one"
        )
    for count, parts in shards.items():
        missing = [index for index in range(count) if index not in parts]
        if missing:
            raise UserError(
                f"{folder} lacks {split}-{missing[0]:05}-of-{count:05} ({len(parts)} of {count}"
                f" shards of split {split!r} are there); copy all of them"
            )
        return [folder / parts[index] for index in range(count)]
    return [folder / name for name in whole]


def _mirror_folder(source: Source, config: DataConfig) -> Path:
    if config.mirror is None:
        raise UserError("origin 'mirror' needs a folder; pass --data-mirror DIR")
    return Path(config.mirror) / source.hub_id.replace("/", "__")


def _not_in_mirror(source: Source, config: DataConfig, split: str) -> str:
    folder = _mirror_folder(source, config)
    expected = folder / (source.config or "default") / f"{split}.parquet"
    others = []
    with contextlib.suppress(OSError):
        others = sorted(str(path.relative_to(folder)) for path in folder.glob("**/*.parquet"))
    seen = f" ({folder} holds {', '.join(others[:3])})" if others else ""
    return (
        f"data set {source.name!r}: {expected} does not exist{seen}; put it there, whole or as the"
        f" hub's shards ({split}-00000-of-00001.parquet), or choose data sets that the mirror has"
    )


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
    try:
        with columns.open_parquet(path) as (file, schema):
            _check_columns(source, schema.names, source.label, str(path))
            table = columns.read(file, [*source.texts, source.label], path)
            return Published(table, source.label, _class_label_names(schema, source), str(path))
    except UserError as error:
        prefix = f"data set {source.name!r}: "
        raise UserError(f"{prefix}{str(error).removeprefix(prefix)}") from error


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
        names = metadata["info"]["features"][source.label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _check_columns(source: Source, present: Sequence[str], label: str, where: str) -> None:
    columns.check_names(present, [*source.texts, label], f"data set {source.name!r}: {where}")
