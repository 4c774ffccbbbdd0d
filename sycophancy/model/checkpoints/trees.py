"""Reads and writes trees of arrays in Orbax's format, one array at a time.

Orbax's functions take and return whole trees in memory. They call a type handler for the arrays;
the handlers in this module open arrays as `LazyArray`s, and read a `LazyArray` when it is written.
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
from numpy.typing import ArrayLike
from orbax.checkpoint.type_handlers import ParamInfo

from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.checkpoints.lazy_array import LazyArray
from sycophancy.model.parameters import ParameterTree, StateTree
from sycophancy.system.paths import is_address

Report = Callable[[int], None]

# Arrays are stored in chunks of at most this size, and stacked arrays are first split by layer.
# Writing then needs no second copy of a large array, and a layer can be read without the others.
CHUNK_BYTES = 64 * 2**20


class _Reader(ocp.type_handlers.NumpyHandler):
    """Opens arrays without reading them; refuses arrays with missing chunks."""

    async def deserialize(
        self, infos: Sequence[ParamInfo], args: Sequence[ocp.RestoreArgs] | None = None
    ) -> Sequence[LazyArray]:
        async def opened(info: ParamInfo) -> LazyArray:
            spec = ocp.type_handlers.get_json_tspec_read(info, use_ocdbt=info.is_ocdbt_checkpoint)
            array = await ts.open(ts.Spec(spec), open=True, context=info.ts_context)
            stored = await array.storage_statistics(query_fully_stored=True)
            if not stored.fully_stored:
                raise ValueError(f"a piece of {info.name} is missing")

            def read(part: ts.TensorStore) -> ArrayLike:
                with _one_line_errors(info.parent_dir, f"{info.name}: "):
                    values: ArrayLike = part.read().result()
                    return values

            return LazyArray(
                array.shape,
                lambda: read(array),
                lambda i: read(array[i]),
                array.dtype.numpy_dtype,
                stored_as=array.dtype.numpy_dtype,
            )

        # Wait for all, even after a failure: otherwise TensorStore would use a closed event loop.
        results = await asyncio.gather(*map(opened, infos), return_exceptions=True)
        arrays = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            arrays.append(result)
        return arrays


class _Writer(ocp.type_handlers.NumpyHandler):
    """Reads, writes and frees one `LazyArray` after another; a large stack layer by layer."""

    def __init__(self, report: Report | None) -> None:
        super().__init__()
        self._report = report

    async def serialize(
        self,
        values: Sequence[LazyArray],
        infos: Sequence[ParamInfo],
        args: Sequence[ocp.SaveArgs] | None = None,
    ) -> Sequence[ocp.future.Future]:
        writing = self._write(values, infos, args or [None] * len(values))
        # Orbax makes the folder in another thread; the writing waits for it.
        return [ocp.future.CommitFutureAwaitingContractedSignals(writing, name="write_arrays")]

    async def _write(
        self,
        values: Sequence[LazyArray],
        infos: Sequence[ParamInfo],
        args: Sequence[ocp.SaveArgs | None],
    ) -> None:
        if jax.process_index():  # every process has equal arrays; process 0 writes them
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


def read(folder: epath.PathLike) -> ParameterTree:
    """The tree that is stored in `folder`, of `LazyArray`s with the stored dtypes.

    Raises:
      UserError: there is no tree, or it cannot be opened.
    """
    folder = absolute(folder)
    if not folder.exists():
        raise UserError(f"{folder} is missing; copy the checkpoint again")
    end_silence = quiet_closed_loops()
    registry = _registry((np.ndarray, _Reader()))
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    with _one_line_errors(folder), contextlib.closing(handler):
        # Restore as NumPy arrays, which `_Reader` handles, whatever the saved type was.
        as_numpy = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), _structure(folder)
        )
        tree = handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
        if not isinstance(tree, Mapping):
            raise ValueError("it holds no tree of arrays")
        _check_sizes(folder)
    end_silence()  # not after a failure: TensorStore's threads continue for a while
    return dict(tree)


def quiet_closed_loops() -> Callable[[], None]:
    """Silences TensorStore's messages about a closed event loop.

    Orbax opens all arrays of a tree in one event loop and closes the loop at the first failure,
    while TensorStore still opens the others.

    Returns:
      A function that ends the silence.
    """
    before = sys.unraisablehook
    if getattr(before, "is_quiet", False):
        return lambda: None

    def hook(problem: sys.UnraisableHookArgs) -> None:
        error = problem.exc_value
        abandoned = isinstance(getattr(error, "__cause__", None), GeneratorExit)
        if not abandoned and str(error) != "Event loop is closed":
            before(problem)

    hook.is_quiet = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook

    def end() -> None:
        if sys.unraisablehook is hook:
            sys.unraisablehook = before

    return end


@contextlib.contextmanager
def _one_line_errors(folder: epath.PathLike, name: str = "") -> Iterator[None]:
    """Turns errors of damaged files, which can be of any class, into a UserError of one line."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"{folder} cannot be read as an Orbax checkpoint: {name}{reason(error)}"
        ) from None


def reason(error: BaseException) -> str:
    """The message of an error of Orbax or TensorStore in one line, without the array's spec."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text.partition(" [tensorstore_spec=")[0][:300]


def _check_sizes(folder: epath.Path) -> None:
    """Compares the sizes of a local OCDBT database's files with the positions of its values.

    Raises:
      ValueError: a file is missing or truncated.
    """
    home = Path(folder)
    if is_address(folder) or not (home / "manifest.ocdbt").exists():
        return
    base = ts.KvStore.open({"driver": "file", "path": f"{home}/"}).result()
    root = ts.ocdbt.dump(base).result()["versions"][-1]["root"]
    nodes = [root["location"]] if "location" in root else []
    visited = set(nodes)  # a damaged node could name itself
    needed: dict[str, int] = {}
    while nodes:
        for entry in ts.ocdbt.dump(base, nodes.pop()).result()["entries"]:
            if (place := entry.get("indirect_value") or entry.get("location")) is None:
                continue
            _, inside, file, start, length = place.split(":")
            needed[inside + file] = max(needed.get(inside + file, 0), int(start) + int(length))
            if "location" in entry and place not in visited:
                visited.add(place)
                nodes.append(place)
    for name, size in needed.items():
        if not (home / name).is_file():
            raise ValueError(f"{name} is missing")
        if (home / name).stat().st_size < size:
            raise ValueError(f"{name} is cut short")


def shapes(tree: StateTree) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a tree by its path; named tuples count as dictionaries."""
    arrays, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(array.shape)
        for path, array in arrays
    }


def _structure(folder: epath.Path) -> StateTree:
    """The structure of the stored tree."""
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        return handler.metadata(folder).tree


def write(
    folder: epath.PathLike,
    trees: Mapping[str, StateTree],
    about: Mapping[str, Mapping[str, Any]],
    report: Report | None = None,
) -> None:
    """Writes trees and JSON files into a new folder, which appears complete or not at all.

    Args:
      folder: must not exist.
      trees: trees of arrays, which may be `LazyArray`s, by the name of their subfolder.
      about: values for JSON by the name of their subfolder.
      report: called with the number of bytes of each array after it was written.

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
                raise UserError(f"{folder / name} has other names or shapes")
        except UserError as error:
            folder.rmtree()
            raise UserError(f"cannot write {folder}: {error}") from None


def _registry(
    handler: tuple[type, ocp.type_handlers.TypeHandler],
) -> ocp.type_handlers.TypeHandlerRegistry:
    """A registry of one handler of this module and Orbax's handler for JAX arrays."""
    jax_arrays = (jax.Array, ocp.type_handlers.ArrayHandler())
    return ocp.type_handlers.create_type_handler_registry(handler, jax_arrays)


def _save(tree: StateTree) -> ocp.args.PyTreeSave:
    arrays = _as_lazy_arrays(tree)
    return ocp.args.PyTreeSave(arrays, save_args=save_args(arrays))


def save_args(tree: StateTree) -> StateTree:
    """Orbax's arguments for saving the arrays of `tree` in chunks."""
    return jax.tree.map(
        lambda array: ocp.SaveArgs(
            chunk_byte_size=CHUNK_BYTES, shard_axes=(0,) if len(array.shape) > 2 else ()
        ),
        tree,
    )


def _as_lazy_arrays(tree: StateTree) -> StateTree:
    """NumPy arrays as `LazyArray`s, which `_Writer` handles; JAX's sharded arrays unchanged."""

    def convert(array: LazyArray | jax.Array | np.ndarray) -> LazyArray | jax.Array:
        if isinstance(array, LazyArray | jax.Array):
            return array
        return LazyArray(array.shape, lambda: array, dtype=array.dtype)

    return jax.tree.map(convert, tree)


class _Place(gpath.PosixGPath):
    """A local path whose own name is not a glob pattern.

    Orbax finds the files that the processes have written with a glob pattern inside the folder.
    epath puts the folder's own name into that pattern, where `[0]` would match `0`; Orbax would
    then find no files and commit a checkpoint without arrays.
    """

    def glob(self, pattern: str) -> Iterator[_Place]:
        for path in Path(self).glob(pattern):
            yield self._new(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """The absolute path that Orbax requires; an address such as gs:// is absolute already.

    Raises:
      UserError: TensorStore cannot write to a path of this name.
    """
    place = epath.Path(path)
    if is_address(place):
        return place
    place = _Place(place.expanduser().resolve())
    locations.check_name(place)
    return place
