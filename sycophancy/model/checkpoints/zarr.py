"""The arrays that T5X stores beside a checkpoint in zarr's format, one folder for each array."""

from __future__ import annotations

import contextlib
import itertools
import math
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epath
from numpy.typing import ArrayLike

from sycophancy.errors import UserError
from sycophancy.model.checkpoints.checkpoint import FLOATS
from sycophancy.model.checkpoints.lazy_array import LazyArray
from sycophancy.system.paths import is_address

if TYPE_CHECKING:
    import tensorstore as ts

_CLOUD = {"gs": "gcs", "s3": "s3"}  # TensorStore's driver for each scheme of an address


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


def lazy_array(spec: Mapping[str, Any], folder: epath.Path, name: str) -> LazyArray:
    """The array that a TensorStore spec in a checkpoint describes, unread.

    Args:
      spec: as T5X stored it, decoded from JSON; its path is relative to the checkpoint's folder.
      folder: the checkpoint.
      name: the parameter's name, for messages.

    Raises:
      UserError: the spec's path leads out of the folder; or the spec lacks the shape, and the array
        cannot be opened.
    """
    import tensorstore as ts

    # Old specs have the path beside `kvstore`, newer ones inside it. The bucket is never right.
    relative = str(spec.get("path") or spec["kvstore"].get("path", "")).rstrip("/")
    if not relative or posixpath.normpath(relative) != relative or relative.startswith(("/", ".")):
        raise UserError(
            f"{folder}: the checkpoint says that {name} lies at {relative!r}, outside its folder"
        )
    place = folder / relative
    if not is_address(place) and not Path(place).resolve().is_relative_to(Path(folder).resolve()):
        raise UserError(f"{place} is a link to elsewhere; copy the array into the checkpoint")
    address = kvstore(place)

    metadata = spec.get("metadata", {})
    layout = {key: metadata[key] for key in ("shape", "chunks") if key in metadata}

    def open_store() -> ts.Future[ts.TensorStore]:
        # A missing chunk is an error; by default TensorStore would read it as zeros.
        store = {"driver": "zarr", "kvstore": address, "fill_missing_data_reads": False}
        return ts.open({**store, "metadata": layout}, open=True, read=True)

    def read() -> ArrayLike:
        with _one_line_errors(folder, name):
            values: ArrayLike = open_store().result().read().result()
            return values

    if "shape" in layout:
        return LazyArray(layout["shape"], read, open_store=open_store)
    with _one_line_errors(folder, name):
        return LazyArray(open_store().result().shape, read, open_store=open_store)


def check_complete(arrays: Mapping[str, LazyArray], folder: epath.Path) -> None:
    """Refuses arrays of which a chunk is missing or truncated; reads only the ends of files.

    Args:
      arrays: arrays by name; arrays that are not in zarr are skipped.
      folder: the checkpoint.

    Raises:
      UserError: names the array and, in a local folder, the file.
    """
    opening = {
        name: array.open_store() for name, array in arrays.items() if array.open_store is not None
    }
    for name, future in opening.items():
        with _one_line_errors(folder, name):
            store = future.result()
            if tuple(store.shape) != arrays[name].shape:
                raise ValueError(f"its shape is {tuple(store.shape)}, not {arrays[name].shape}")
            if store.dtype.name not in FLOATS:
                raise ValueError(f"it is stored as {store.dtype.name}, which is not read")
            _check_chunks(store)


def _check_chunks(store: ts.TensorStore) -> None:
    """Compares the sizes of an array's local files with its shape; asks a bucket for missing ones.

    Raises:
      ValueError: a chunk is missing or truncated, or the numbers' order is not T5X's.
    """
    spec = store.spec().to_json()
    if spec["kvstore"]["driver"] != "file":
        if not store.storage_statistics(query_fully_stored=True).result().fully_stored:
            raise ValueError("a piece of it is missing; reading it would take that for zeros")
        return
    metadata, folder = spec["metadata"], Path(spec["kvstore"]["path"])
    if metadata["order"] != "C" or metadata["dtype"].startswith(">"):
        raise ValueError("its numbers are in an order that T5X does not write")
    size = math.prod(metadata["chunks"]) * store.dtype.numpy_dtype.itemsize
    compressor = (metadata["compressor"] or {}).get("id")
    grid = [
        range(math.ceil(whole / part))
        for whole, part in zip(metadata["shape"], metadata["chunks"], strict=True)
    ]
    for index in itertools.product(*grid):
        piece = folder / (metadata["dimension_separator"].join(map(str, index)) or "0")
        with piece.open("rb") as file:
            end = file.seek(0, 2)
            if compressor == "gzip" and end >= 18:  # the last four bytes are the uncompressed size
                file.seek(-4, 2)
                end = int.from_bytes(file.read(4), "little")
            elif compressor is not None:
                end = size if end and compressor != "gzip" else 0
        if end != size % 2**32:
            raise ValueError(f"{piece.name} in its folder is cut short")


@contextlib.contextmanager
def _one_line_errors(folder: epath.Path, name: str) -> Iterator[None]:
    """Turns the errors of an array's files into a UserError of one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: {name} is incomplete: {error.filename} is missing; copy it again"
        ) from None
    except (ValueError, OSError, KeyError, TypeError, MemoryError) as error:  # all of TensorStore's
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder}: {name} cannot be read: {reason[:300]}; copy it again") from None
