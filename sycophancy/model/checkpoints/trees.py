"""Trees of arrays in Orbax's format, read and written an array at a time.

Orbax's own interface takes and gives whole trees in memory. Its type handlers see one array after
another, and theirs is where the reading and writing is put off.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath
from etils.epath import gpath

from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.checkpoints.lazy_array import LazyArray

Report = Callable[[int], None]

# Arrays are cut into pieces of at most so many bytes, along the layers of a stack first: writing
# needs no second copy of a large array, and one layer can be read without the others.
CHUNK_BYTES = 64 * 2**20


class _Reader(ocp.type_handlers.NumpyHandler):
    """Opens arrays and leaves them unread; refuses those of which a piece is missing."""

    async def deserialize(self, infos: Sequence[Any], args: Any = None) -> Any:
        async def opened(info: Any) -> LazyArray:
            spec = ocp.type_handlers.get_json_tspec_read(info, use_ocdbt=info.is_ocdbt_checkpoint)
            array = await ts.open(ts.Spec(spec), open=True, context=info.ts_context)
            stored = await array.storage_statistics(query_fully_stored=True)
            if not stored.fully_stored:
                raise ValueError(f"a piece of {info.name} is missing")

            def read(part: Any) -> Any:
                with _told(info.parent_dir, f"{info.name}: "):
                    return part.read().result()

            return LazyArray(
                array.shape,
                lambda: read(array),
                lambda i: read(array[i]),
                array.dtype.numpy_dtype,
                stored_as=array.dtype.numpy_dtype,
            )

        # All are waited for, since TensorStore would else go on with a loop that is closed.
        found = await asyncio.gather(*map(opened, infos), return_exceptions=True)
        for leaf in found:
            if isinstance(leaf, BaseException):
                raise leaf
        return found


class _Writer(ocp.type_handlers.NumpyHandler):
    """Reads, writes and frees one LazyArray before the next; large stacks by layer."""

    def __init__(self, report: Report | None) -> None:
        super().__init__()
        self._report = report

    async def serialize(
        self, values: Sequence[Any], infos: Sequence[Any], args: Any = None
    ) -> Sequence[Any]:
        writing = self._write(values, infos, args or [None] * len(values))
        # Begins when Orbax has made the folder, which it does meanwhile.
        return [ocp.future.CommitFutureAwaitingContractedSignals(writing, name="write_leafs")]

    async def _write(self, values: Sequence[Any], infos: Sequence[Any], args: Any) -> None:
        if jax.process_index():  # every process has the same, and the first one writes it
            return
        for value, info, arg in zip(values, infos, args, strict=True):
            await info.await_path_creation()
            by_layer = value.nbytes > CHUNK_BYTES and len(value.shape) > 2
            spec = ocp.type_handlers.get_json_tspec_write(
                info,
                use_ocdbt=info.is_ocdbt_checkpoint,
                global_shape=value.shape,
                local_shape=(1, *value.shape[1:]) if by_layer else value.shape,
                dtype=value.dtype,
                process_index=jax.process_index(),
                arg=arg,
            )
            array = await ts.open(ts.Spec(spec), create=True, open=True, context=info.ts_context)
            if by_layer:
                for layer in range(value.shape[0]):
                    await array[layer].write(np.asarray(value[layer]))
            else:
                await array.write(np.asarray(value))
            if self._report:
                self._report(value.nbytes)


def read(folder: epath.PathLike) -> dict[str, Any]:
    """The tree that lies in `folder`, of Leafs with the dtypes that are stored.

    Raises:
      UserError: there is no such tree, or it cannot be read.
    """
    folder = absolute(folder)
    if not folder.exists():
        raise UserError(f"{folder} is missing; copy the checkpoint again")
    loud = quiet_closed_loops()
    registry = _registry((np.ndarray, _Reader()))
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    with _told(folder), contextlib.closing(handler):
        # Everything as NumPy arrays, whatever it was when it was saved.
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), _names(folder))
        found = handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
        if not isinstance(found, Mapping):
            raise ValueError("it holds no tree of arrays")
        _check_extents(folder)
    loud()  # after a failure it stays quiet: TensorStore's threads go on for a while
    return dict(found)


def quiet_closed_loops() -> Callable[[], None]:
    """Keeps TensorStore quiet about what it still does for an event loop that was given up.

    Orbax opens the arrays of a tree together and closes its loop at the first failure.

    Returns:
      What ends the quiet.
    """
    before = sys.unraisablehook
    if getattr(before, "is_quiet", False):
        return lambda: None

    def hook(problem: sys.UnraisableHookArgs) -> None:
        error = problem.exc_value
        given_up = isinstance(getattr(error, "__cause__", None), GeneratorExit)
        if not given_up and str(error) != "Event loop is closed":
            before(problem)

    hook.is_quiet = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook

    def end() -> None:
        if sys.unraisablehook is hook:
            sys.unraisablehook = before

    return end


@contextlib.contextmanager
def _told(folder: epath.PathLike, what: str = "") -> Iterator[None]:
    """What Orbax and TensorStore raise on damaged files, which may be anything, as one line."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"{folder} cannot be read as an Orbax checkpoint: {what}{reason(error)}"
        ) from None


def reason(error: BaseException) -> str:
    """What Orbax or TensorStore says is wrong, on one line, without the array's specification."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text.partition(" [tensorstore_spec=")[0][:300]


def _check_extents(folder: epath.Path) -> None:
    """Compares the files of a local OCDBT database with what its tree says lies in them.

    Raises:
      ValueError: one is missing or too short.
    """
    home = Path(folder)
    if "://" in str(folder) or not (home / "manifest.ocdbt").exists():
        return
    base = ts.KvStore.open({"driver": "file", "path": f"{home}/"}).result()
    root = ts.ocdbt.dump(base).result()["versions"][-1]["root"]
    nodes = [root["location"]] if "location" in root else []
    needed: dict[str, int] = {}
    while nodes:
        for entry in ts.ocdbt.dump(base, nodes.pop()).result()["entries"]:
            if (place := entry.get("indirect_value") or entry.get("location")) is None:
                continue
            _, inside, file, start, length = place.split(":")
            needed[inside + file] = max(needed.get(inside + file, 0), int(start) + int(length))
            if "location" in entry:
                nodes.append(place)
    for name, size in needed.items():
        if not (home / name).is_file():
            raise ValueError(f"{name} is missing")
        if (home / name).stat().st_size < size:
            raise ValueError(f"{name} is cut short")


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a tree by its path; named tuples count as dictionaries."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(array.shape)
        for path, array in found
    }


def _names(folder: epath.Path) -> Any:
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        return handler.metadata(folder).tree


def write(
    folder: epath.PathLike,
    trees: Mapping[str, Any],
    about: Mapping[str, Mapping[str, Any]],
    report: Report | None = None,
) -> None:
    """Writes `folder` with one tree a name; it appears whole or not at all.

    Args:
      folder: must not exist.
      trees: trees of arrays or Leafs, by name.
      about: json beside them, by name.
      report: called with the bytes of every array that has been written.

    Raises:
      UserError: the folder exists, cannot be written, or cannot be opened afterwards.
    """
    folder = absolute(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; name a new folder")

    def handler() -> ocp.PyTreeCheckpointHandler:
        registry = _registry((LazyArray, _Writer(report)))
        return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)

    handlers = {name: handler() for name in trees}
    handlers |= {name: ocp.JsonCheckpointHandler() for name in about}
    items = {name: _save(tree) for name, tree in trees.items()}
    items |= {name: ocp.args.JsonSave(dict(value)) for name, value in about.items()}
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler(**handlers)) as checkpointer:
            checkpointer.save(folder, args=ocp.args.Composite(**items))
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error}") from error
    for name, tree in trees.items():
        try:
            if shapes(read(folder / name)) != shapes(tree):
                raise UserError(f"{folder / name} is not what was to be written")
        except UserError as error:
            folder.rmtree()
            raise UserError(f"cannot write {folder}: {error}") from None


def _registry(handler: tuple[Any, Any]) -> Any:
    """One handler of ours, and Orbax's for JAX arrays."""
    jax_arrays = (jax.Array, ocp.type_handlers.ArrayHandler())
    return ocp.type_handlers.create_type_handler_registry(handler, jax_arrays)


def _save(tree: Any) -> ocp.args.PyTreeSave:
    leafs = _leafs(tree)
    return ocp.args.PyTreeSave(leafs, save_args=save_args(leafs))


def save_args(tree: Any) -> Any:
    """Orbax's arguments for saving the arrays of `tree` in pieces."""
    return jax.tree.map(
        lambda array: ocp.SaveArgs(
            chunk_byte_size=CHUNK_BYTES, shard_axes=(0,) if len(array.shape) > 2 else ()
        ),
        tree,
    )


def _leafs(tree: Any) -> Any:
    """Arrays as Leafs, so that one handler sees them all; JAX's own stay sharded as they are."""

    def one(array: Any) -> Any:
        if isinstance(array, LazyArray | jax.Array):
            return array
        return LazyArray(array.shape, lambda: array, dtype=array.dtype)

    return jax.tree.map(one, tree)


class _Place(gpath.PosixGPath):
    """A local path that is taken as it is written.

    Orbax looks for what the processes have written by a glob pattern inside the folder. epath puts
    the folder's own name into that pattern, where `[0]` would match `0`, so that Orbax would find
    nothing and commit a checkpoint without arrays.
    """

    def glob(self, pattern: str) -> Iterator[Any]:
        for path in Path(self).glob(pattern):
            yield self._new(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """Orbax refuses relative local paths; addresses such as gs:// are absolute as they are.

    Raises:
      UserError: TensorStore cannot write there.
    """
    place = epath.Path(path)
    if "://" in str(place):
        return place
    place = _Place(place.expanduser().resolve())
    locations.check_name(place)
    return place
