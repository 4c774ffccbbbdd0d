"""Where a data set's rows come from: the hub, a mirror on disk, the miniature or a user's files.

An origin gives the columns as they are published, and the names of the labels. `sources` maps these
names to the labels of the protocol.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sycophancy.config.schema import DataConfig
from sycophancy.data import file_rows, hub, miniature
from sycophancy.data.bad_rows import BadRows
from sycophancy.data.catalog import FileRows, HubRows, Source
from sycophancy.data.published import Published, check_columns, read_parquet
from sycophancy.errors import UserError

Split = Literal["train", "validation"]

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?")  # as the hub names parts of a split


def publishes_validation(source: Source, config: DataConfig) -> bool:
    """Whether there is a split for held-out rows; a mirror may lack the file."""
    rows = source.rows
    if isinstance(rows, FileRows) or rows.validation is None or config.origin != "mirror":
        return bool(rows.validation)
    return bool(mirror_files(rows, config, rows.validation))


def published_split(source: Source, split: Split) -> str:
    """What the origin calls a split, as in `validation_matched`; a user's files have our names."""
    if isinstance(source.rows, FileRows):
        return split
    return source.rows.train if split == "train" else source.rows.validation or "validation"


def read_published(
    source: Source, config: DataConfig, split: Split, bad: BadRows
) -> list[Published]:
    """Reads a split, file by file: a user's files if the source has some, else by the origin.

    Args:
      source: the data set. The miniature stands in for the 17 alone, so that a user's own data set
        on the hub is then read from the hub.
      config: names the origin.
      split: which split to read.
      bad: counts rows read, and the rows of a user's files that cannot be used.

    Raises:
      UserError: the split cannot be read or a column is missing; the message names data set, file
        and the way out.
    """
    rows = source.rows
    if isinstance(rows, FileRows):
        paths = rows.train if split == "train" else rows.validation
        return [file_rows.read_file(source, path, bad) for path in paths]
    name = published_split(source, split)
    if config.origin == "mirror":
        paths = tuple(mirror_files(rows, config, name))
        if not paths:
            raise UserError(_not_in_mirror(source.name, rows, config, name))
        published = [read_parquet(source, path) for path in paths]
    elif config.origin == "miniature" and source.described_in is None:
        published = [_from_miniature(source, split)]
    else:
        published = [_from_hub(source, rows, name)]
    bad.read += sum(part.table.num_rows for part in published)
    if source.described_in is None:
        return published
    return [file_rows.with_label_text(part) for part in published]


def mirror_files(rows: HubRows, config: DataConfig, split: str) -> list[Path]:
    """The files in which a mirror keeps a split; none if it lacks the split.

    The place is `<owner>__<name>/<config or default>/<split>.parquet`, or the same with the hub's
    shard names (`<split>-00000-of-00002.parquet`). A data set without configurations may also lie
    as the hub's repositories have it: in `data/`, in `plain_text/` or at the top.

    Args:
      rows: the data set on the hub.
      config: names the mirror.
      split: the hub's name of the split.

    Raises:
      UserError: a shard is missing, or the files of two versions lie side by side.
    """
    folder = _mirror_folder(rows, config)
    places = [rows.config] if rows.config else ["default", "data", "plain_text", "."]
    for place in places:
        if paths := split_files(folder / place, split, ("parquet",)):
            return paths
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


def _mirror_folder(rows: HubRows, config: DataConfig) -> Path:
    if config.mirror is None:
        raise UserError("origin 'mirror' needs a folder; pass --data-mirror DIR")
    return Path(config.mirror) / rows.hub_id.replace("/", "__")


def _not_in_mirror(name: str, rows: HubRows, config: DataConfig, split: str) -> str:
    folder = _mirror_folder(rows, config)
    expected = folder / (rows.config or "default") / f"{split}.parquet"
    others = []
    with contextlib.suppress(OSError):
        others = sorted(str(path.relative_to(folder)) for path in folder.glob("**/*.parquet"))
    seen = f" ({folder} holds {', '.join(others[:3])})" if others else ""
    return (
        f"data set {name!r}: {expected} does not exist{seen}; put it there, whole or as the"
        f" hub's shards ({split}-00000-of-00001.parquet), or choose data sets that the mirror has"
    )


def _from_hub(source: Source, rows: HubRows, split: str) -> Published:
    copy = rows.download
    hub_id = copy.hub_id if copy else rows.hub_id
    label = copy.label if copy else source.label
    data = hub.load_split(
        f"data set {source.name!r}",
        hub_id,
        name=None if copy else rows.config,
        split=split,
        revision=copy.revision if copy else rows.revision,
        remedy="check the network, or keep it as parquet and pass --data-mirror DIR",
    )
    where = f"{hub_id} {split}"
    check_columns(source, data.column_names, label, where)
    names = getattr(data.features[label], "names", None)
    table = data.data.table.select([*source.texts, label])
    return Published(table, label, tuple(names) if names else None, where)


def _from_miniature(source: Source, split: Split) -> Published:
    table = miniature.data_set(source.name, split)
    names = tuple(name for name, _ in source.labels)  # the miniature follows the hub's order
    return Published(table, source.label, names, f"miniature {source.name} {split}")
