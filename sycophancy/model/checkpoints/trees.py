"""Trees of arrays in Orbax's format, read and written an array at a time.

Orbax's own interface takes and gives whole trees in memory. Its type handlers see one array after
another, and theirs is where the reading and writing is put off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from sycophancy.errors import UserError
from sycophancy.model.checkpoints.leaf import Leaf

Report = Callable[[int], None]

# Arrays are cut into pieces of at most so many bytes, along the layers of a stack first: writing
# needs no second copy of a large array, and one layer can be read without the others.
CHUNK_BYTES = 64 * 2**20


class _Reader(ocp.type_handlers.NumpyHandler):
    """Opens arrays and leaves them unread."""

    async def deserialize(self, infos: Sequence[Any], args: Any = None) -> Any:
        async def opened(info: Any) -> Leaf:
            spec = ocp.type_handlers.get_json_tspec_read(info, use_ocdbt=info.is_ocdbt_checkpoint)
            array = await ts.open(ts.Spec(spec), open=True, context=info.ts_context)
            return Leaf(
                array.shape,
                lambda: array.read().result(),
                lambda i: array[i].read().result(),
                array.dtype.numpy_dtype,
            )

        return await asyncio.gather(*map(opened, infos))


class _Writer(ocp.type_handlers.NumpyHandler):
    """Reads a Leaf, writes it and lets go of it before it reads the next; large stacks by layer."""

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
    registry = _registry((np.ndarray, _Reader()))
    try:
        with contextlib.closing(
            ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
        ) as handler:
            # Everything as NumPy arrays, whatever it was when it was saved.
            as_numpy = jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), _names(folder)
            )
            return handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder} cannot be read as an Orbax checkpoint: {reason}") from None


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
      UserError: the folder exists or cannot be written.
    """
    folder = absolute(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; name a new folder")

    def handler() -> ocp.PyTreeCheckpointHandler:
        registry = _registry((Leaf, _Writer(report)))
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
        if isinstance(array, Leaf | jax.Array):
            return array
        return Leaf(array.shape, lambda: array, dtype=array.dtype)

    return jax.tree.map(one, tree)


def absolute(path: epath.PathLike) -> epath.Path:
    """Orbax refuses relative local paths; addresses such as gs:// are absolute as they are."""
    path = epath.Path(path)
    return path if "://" in str(path) else path.expanduser().resolve()
