"""This package's own checkpoints: Orbax folders of float32 parameters in the stacked layout.

A folder PATH is a checkpoint if it holds

  PATH/params/     the parameter tree (OCDBT)
  PATH/metadata/   JSON: {"format": 1, "step": int, "network": {...}, ...}
  PATH/state/      only in a finetuning: the optimizer's state and the rest of a training state

`open_checkpoint` reads both a finetuning's `checkpoints/<step>/` and a folder without `state`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from sycophancy.config.schema import Network
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import layout, stored_network, trees
from sycophancy.model.checkpoints.checkpoint import Checkpoint
from sycophancy.model.checkpoints.folders import METADATA, PARAMS, STATE
from sycophancy.model.checkpoints.lazy_array import LazyArray
from sycophancy.model.checkpoints.moments import MOMENTS
from sycophancy.model.parameters import ParameterTree, StateTree
from sycophancy.storage import bucket
from sycophancy.system.paths import is_address

FORMAT = 1
_LOGGERS = tuple(map(logging.getLogger, ("absl", "asyncio")))  # of Orbax and TensorStore
_CONTINUE_AFTER = (
    "the checkpoints before it are as they were, and the same command continues from the last"
)
CONTINUE_WITHOUT = "delete its folder to continue from the checkpoint before it, or from the start"
DAMAGED = "damaged"  # the folder, beside that of the checkpoints, for unreadable checkpoints
_TEMPORARY = "orbax-checkpoint-tmp"  # part of the name of a folder that is being written


class Damaged(UserError):  # noqa: N818
    """A checkpoint of a finetuning cannot be read.

    Attributes:
      step: the checkpoint's step.
    """

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


def save_params(
    path: epath.PathLike,
    params: ParameterTree,
    network: Network,
    step: int = 0,
    report: trees.Report | None = None,
) -> None:
    """Writes a checkpoint without training state; the folder appears complete or not at all.

    Args:
      path: a folder that does not exist yet.
      params: the network's stacked tree, of device arrays, host arrays or `LazyArray`s; the latter
        are read one by one.
      network: the network, for the metadata.
      step: the step, for the metadata.
      report: called with the number of bytes of each array after it was written.

    Raises:
      UserError: the folder exists or cannot be written.
    """
    trees.write(path, {PARAMS: params}, {METADATA: metadata(network, step)}, report)


def open_checkpoint(folder: epath.Path) -> Checkpoint:
    """Opens a checkpoint without reading its arrays.

    Raises:
      UserError: the checkpoint is damaged.
    """
    about = read_metadata(folder)
    moments: dict[str, LazyArray] = {}
    if (folder / STATE).exists():
        stored = trees.read(folder / STATE).get("optimizer", {})
        if not all(isinstance(stored.get(name), Mapping) for name in MOMENTS):
            raise UserError(f"{folder / STATE} does not hold the state of Adafactor")
        moments = {
            f"{name}/{moment}": value
            for moment in MOMENTS
            for name, value in _unstacked(stored[moment], folder / STATE).items()
        }
    model = about.get("model")
    return Checkpoint(
        source=str(folder),
        format="orbax",
        params=_unstacked(trees.read(folder / PARAMS), folder / PARAMS),
        network=_network(about, folder),
        step=about["step"] + about.get("pretrained_step", 0),
        moments=moments,
        model=model if isinstance(model, str) else None,
    )


def _unstacked(tree: ParameterTree, folder: epath.Path) -> dict[str, LazyArray]:
    """The arrays of a stacked tree by T5X's path.

    Raises:
      UserError: something in the tree is not an array, or an array of layers has no layer axis.
    """
    arrays = layout.flatten(tree)
    if not all(isinstance(value, LazyArray) for value in arrays.values()):
        raise UserError(f"{folder} does not hold a tree of arrays")
    if not all(array.shape for path, array in arrays.items() if layout.is_stacked(path)):
        raise UserError(f"{folder} holds layers without a leading axis")
    return layout.flatten(layout.unstack(tree))


def read_metadata(path: epath.PathLike) -> dict[str, Any]:
    """Reads the metadata of a checkpoint.

    Raises:
      UserError: the file cannot be read, or its format is newer than this program's.
    """
    file = epath.Path(path) / METADATA / METADATA
    try:
        about: dict[str, Any] = json.loads(file.read_text())
        steps = [about["step"], about.get("pretrained_step", 0)]
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{file} cannot be read: {reason}") from None
    if about.get("format") != FORMAT:
        raise UserError(f"{file} has format {about.get('format')}, this program reads {FORMAT}")
    if not all(type(step) is int and 0 <= step < 2**31 for step in steps):
        raise UserError(f"{file} has the steps {steps}, expected whole numbers")
    return about


def metadata(network: Network, step: int, **more: object) -> dict[str, Any]:
    """The metadata of a checkpoint: its network, its step and `more` values for JSON."""
    return {"format": FORMAT, "step": step, "network": dataclasses.asdict(network), **more}


class Checkpoints:
    """The checkpoints of a finetuning, one for each saved step, written in the background.

    A new checkpoint is opened once before it gets its final name and before older ones are deleted.
    Use this class as a context manager: leaving it waits for unfinished writes.

    Args:
      folder: holds one folder for each checkpoint; it is made if it does not exist.
      keep: keep the newest `keep` checkpoints; None keeps all.
      keep_period: also keep checkpoints whose step is divisible by `keep_period`.
    """

    def __init__(
        self, folder: epath.PathLike, keep: int | None, keep_period: int | None = None
    ) -> None:
        self.folder = trees.absolute(epath.Path(folder))
        self._writing: tuple[int, dict[str, Any]] | None = None
        self._restore_failed = False
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            keep_period=keep_period,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._check_written),
        )
        names = (PARAMS, STATE, METADATA)
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=names)

    def __enter__(self) -> Checkpoints:
        self._echo = _silenced()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with _write_errors(f"a checkpoint in {self.folder} cannot be written"):
                self._manager.close()
        except UserError:
            if kind is None:  # otherwise the error that ended the block matters more
                raise
            return
        failed = self._restore_failed or (kind is not None and issubclass(kind, UserError))
        if not failed:
            self._echo.close()

    def steps(self) -> list[int]:
        """The steps of all checkpoints, newest first; some checkpoints may be damaged."""
        return sorted(self._manager.all_steps(), reverse=True)

    def path(self, step: int) -> epath.Path:
        """The folder of a step's checkpoint."""
        return self.folder / str(step)

    def save(
        self, step: int, params: ParameterTree, state: StateTree, about: Mapping[str, Any]
    ) -> None:
        """Copies the arrays to the host; a thread writes them to files after this returns.

        Raises:
          UserError: this write, or an earlier one, failed.
        """
        with _write_errors(f"checkpoint {self.path(step)} cannot be written"):
            self._manager.wait_until_finished()
            self._writing = step, {PARAMS: trees.shapes(params), STATE: trees.shapes(state)}
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    **{
                        PARAMS: ocp.args.StandardSave(params, trees.save_args(params)),
                        STATE: ocp.args.StandardSave(state, trees.save_args(state)),
                        METADATA: ocp.args.JsonSave(dict(about)),
                    }
                ),
            )

    def _check_written(self) -> None:
        """Opens the new checkpoint before Orbax gives it its final name; runs in Orbax's thread.

        Raises:
          UserError: it cannot be opened, or its arrays do not have the right names and shapes.
        """
        assert self._writing is not None
        step, expected = self._writing
        start = f"{step}.{_TEMPORARY}"
        places = [path for path in self.folder.iterdir() if path.name.startswith(start)]
        for place in places or [self.path(step)]:  # in a bucket, Orbax writes under the final name
            for item, shapes in expected.items():
                if trees.shapes(trees.read(place / item)) != shapes:
                    raise UserError(
                        f"checkpoint {self.path(step)} was written, but the arrays of {item} have "
                        f"other names or shapes; {_CONTINUE_AFTER}"
                    )

    def wait(self) -> None:
        """Waits until all writes are complete.

        Raises:
          UserError: a write failed.
        """
        with _write_errors(f"a checkpoint in {self.folder} cannot be written"):
            self._manager.wait_until_finished()

    def check(self, step: int) -> dict[str, Any]:
        """Opens a checkpoint without reading its arrays, and returns its metadata.

        Raises:
          Damaged: a part of it is missing or cannot be opened.
        """
        folder = self.path(step)
        try:
            for item in (PARAMS, STATE):
                trees.read(folder / item)
            return read_metadata(folder)
        except UserError as error:
            raise self._damaged(step, str(error)) from None

    def restore(
        self, step: int, params: ParameterTree, state: StateTree
    ) -> tuple[ParameterTree, StateTree]:
        """Reads the parameters and the state of a checkpoint onto the devices.

        Args:
          step: the checkpoint's step.
          params: shapes and shardings of the parameters, as `jax.ShapeDtypeStruct`.
          state: shapes and shardings of the state, likewise.

        Raises:
          Damaged: the checkpoint cannot be read.
        """
        items = {
            PARAMS: ocp.args.StandardRestore(params),
            STATE: ocp.args.StandardRestore(state),
        }
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax wraps TensorStore's errors in Exception itself
            self._restore_failed = True
            raise self._damaged(step, trees.reason(error)) from None
        return restored[PARAMS], restored[STATE]

    def _damaged(self, step: int, reason: str) -> Damaged:
        folder = self.path(step)
        return Damaged(step, f"checkpoint {folder} cannot be read: {reason}; {CONTINUE_WITHOUT}")

    def set_aside(self, step: int) -> epath.Path:
        """Moves an unreadable checkpoint to the folder `damaged`; its step can then be saved again.

        Every process of a run must call this.

        Returns:
          The checkpoint's new folder.
        """
        folder, home = self.path(step), self.folder.parent / DAMAGED
        in_bucket = is_address(home)
        if not in_bucket:  # which has no folders without files
            home.mkdir(parents=True, exist_ok=True)
        taken = {path.name for path in home.iterdir()} if home.exists() else set()
        names = (f"{step}" + (f".{i}" if i else "") for i in range(len(taken) + 1))
        place = home / next(name for name in names if name not in taken)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"name of damaged {place.name}")
        if jax.process_index() == 0:
            bucket.move(folder, place) if in_bucket else folder.rename(place)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"moved damaged {place.name}")
        self._manager.reload()
        return place


@contextlib.contextmanager
def _write_errors(failure: str) -> Iterator[None]:
    """Turns errors of writing into a UserError; TensorStore raises ValueError for a full disk."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        if len(reason) > 300:  # TensorStore names the path three times before the reason
            reason = f"... {reason[-300:]}"
        raise UserError(f"{failure}: {reason}; {_CONTINUE_AFTER}") from error


def _silenced() -> contextlib.ExitStack:
    """Silences the messages with which Orbax's and TensorStore's threads repeat a failure.

    Returns:
      A stack whose `close` ends the silence. Do not close it after a failure, because the threads
      continue for a while.
    """
    undo = contextlib.ExitStack()
    for logger in _LOGGERS:
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
    undo.callback(trees.quiet_closed_loops())
    undo.enter_context(warnings.catch_warnings())  # Python warns of abandoned writes
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    return undo


def _network(about: Mapping[str, Any], folder: epath.Path) -> Network:
    """The network in a checkpoint's metadata.

    Raises:
      UserError: the metadata does not describe a network.
    """
    try:
        return stored_network.parse(about["network"], str(folder / METADATA))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / METADATA} does not describe a network: {error}") from None
