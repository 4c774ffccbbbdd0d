"""Arrays that lie beside a T5X checkpoint as zarr, one folder an array."""

from __future__ import annotations

import contextlib
import itertools
import math
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from sycophancy.errors import UserError
from sycophancy.model.checkpoints.checkpoint import FLOATS
from sycophancy.model.checkpoints.lazy_array import LazyArray

_CLOUD = {"gs": "gcs", "s3": "s3"}  # TensorStore's drivers by the scheme of an address


def kvstore(path: epath.PathLike) -> dict[str, str]:
    """TensorStore's key-value store for a folder, local or in a bucket.

    >>> kvstore("gs://bucket/some/folder")
    {'driver': 'gcs', 'bucket': 'bucket', 'path': 'some/folder/'}
    """
    address = str(path)
    scheme, separator, rest = address.partition("://")
    if not separator:
        return {"driver": "file", "path": f"{epath.Path(path).expanduser().resolve()}/"}
    if scheme not in _CLOUD:
        raise UserError(f"{address}: only local folders, gs:// and s3:// can be read")
    bucket, _, inside = rest.partition("/")
    return {"driver": _CLOUD[scheme], "bucket": bucket, "path": f"{inside.rstrip('/')}/"}


def leaf(spec: Mapping[str, Any], folder: epath.Path, name: str) -> LazyArray:
    """The array that a TensorStore spec in a checkpoint stands for, unread.

    Args:
      spec: as T5X stored it; its path counts from the checkpoint's folder.
      folder: the checkpoint.
      name: of the parameter, for messages.

    Raises:
      UserError: the array would lie outside the folder, or the spec does not say its shape and
        the array cannot be opened.
    """
    import tensorstore as ts

    # Old specs say the path beside the store, newer ones inside it; never the true bucket.
    relative = str(spec.get("path") or spec["kvstore"].get("path", "")).rstrip("/")
    if not relative or posixpath.normpath(relative) != relative or relative.startswith(("/", ".")):
        raise UserError(f"{folder}: {name} is said to lie at {relative!r}, outside the checkpoint")
    place = folder / relative
    if "://" not in str(place) and not Path(place).resolve().is_relative_to(Path(folder).resolve()):
        raise UserError(f"{place} is a link to elsewhere; copy the array into the checkpoint")
    address = kvstore(place)

    def stored() -> Any:
        # A piece that is missing is an error; the default would take it for zeros.
        found = {"driver": "zarr", "kvstore": address, "fill_missing_data_reads": False}
        return ts.open({**found, "metadata": said}, open=True, read=True)

    def read() -> Any:
        with _named(folder, name):
            return stored().result().read().result()

    metadata = spec.get("metadata", {})
    said = {name: metadata[name] for name in ("shape", "chunks") if name in metadata}
    if "shape" in said:
        return LazyArray(said["shape"], read, stored=stored)
    with _named(folder, name):
        return LazyArray(stored().result().shape, read, stored=stored)


def check_complete(leaves: Mapping[str, LazyArray], folder: epath.Path) -> None:
    """Refuses arrays of which a piece is missing or cut short; reads no more than their ends.

    Args:
      leaves: arrays by name; those that do not lie in zarr are passed over.
      folder: the checkpoint.

    Raises:
      UserError: names the array and, in a local folder, the file.
    """
    opening = {name: leaf.stored() for name, leaf in leaves.items() if leaf.stored is not None}
    for name, future in opening.items():
        with _named(folder, name):
            array = future.result()
            if tuple(array.shape) != leaves[name].shape:
                raise ValueError(f"its shape is {tuple(array.shape)}, not {leaves[name].shape}")
            if array.dtype.name not in FLOATS:
                raise ValueError(f"it is stored as {array.dtype.name}, which is not read")
            _check_pieces(array)


def _check_pieces(array: Any) -> None:
    spec = array.spec().to_json()
    if spec["kvstore"]["driver"] != "file":
        if not array.storage_statistics(query_fully_stored=True).result().fully_stored:
            raise ValueError("a piece of it is missing; reading it would take that for zeros")
        return
    metadata, folder = spec["metadata"], Path(spec["kvstore"]["path"])
    if metadata["order"] != "C" or metadata["dtype"].startswith(">"):
        raise ValueError("its numbers are in an order that T5X does not write")
    size = math.prod(metadata["chunks"]) * array.dtype.numpy_dtype.itemsize
    compressor = (metadata["compressor"] or {}).get("id")
    grid = [
        range(math.ceil(whole / part))
        for whole, part in zip(metadata["shape"], metadata["chunks"], strict=True)
    ]
    for index in itertools.product(*grid):
        piece = folder / (metadata["dimension_separator"].join(map(str, index)) or "0")
        with piece.open("rb") as file:
            end = file.seek(0, 2)
            if compressor == "gzip" and end >= 18:  # whose last four bytes say the size
                file.seek(-4, 2)
                end = int.from_bytes(file.read(4), "little")
            elif compressor is not None:
                end = size if end and compressor != "gzip" else 0
        if end != size % 2**32:
            raise ValueError(f"{piece.name} in its folder is cut short")


@contextlib.contextmanager
def _named(folder: epath.Path, name: str) -> Iterator[None]:
    """What an array's files do, as one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: {name} is incomplete: {error.filename} is missing; copy it again"
        ) from None
    except (ValueError, OSError, KeyError, TypeError, MemoryError) as error:  # TensorStore's
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder}: {name} cannot be read: {reason[:300]}; copy it again") from None
