"""Our own checkpoints: Orbax folders of float32 parameters in the network's stacked layout.

A folder PATH is a checkpoint when it holds

  PATH/params/     the parameter tree (OCDBT)
  PATH/metadata/   json: {"format": 1, "step": int, "network": {...}, ...}
  PATH/state/      finetuning only: the optimizer's state and what else a run resumes from

`finetune/checkpoints/<step>/` and a folder of parameters alone are read by the same function.
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

from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import layout, t5x, trees
from sycophancy.model.checkpoints.checkpoint import Checkpoint, check_sizes
from sycophancy.model.checkpoints.folders import METADATA, PARAMS, STATE
from sycophancy.model.checkpoints.lazy_array import LazyArray

FORMAT = 1
_TALKING = tuple(map(logging.getLogger, ("absl", "asyncio")))
_WRITING = (
    "the checkpoints before it are as they were, and the same command continues from the last"
)
READING = "delete its folder to continue from the checkpoint before it, or from the start"
DAMAGED = "damaged"  # beside the folder of steps: those that could not be read
_TEMPORARY = "orbax-checkpoint-tmp"  # stands in the name of a folder that is being written


class Damaged(UserError):  # noqa: N818
    """A step of a finetuning that cannot be read; `step` says which."""

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


def save_params(
    path: epath.PathLike,
    params: Any,
    network: NetworkConfig,
    step: int = 0,
    report: trees.Report | None = None,
) -> None:
    """Writes parameters alone; the folder appears whole or not at all.

    Args:
      path: a folder that does not exist yet.
      params: the network's tree, stacked; device or host arrays, or Leafs, which are read one by
        one.
      network: stored beside them.
      step: stored beside them.
      report: called with the bytes of every array that has been written.

    Raises:
      UserError: the folder exists or cannot be written.
    """
    trees.write(path, {PARAMS: params}, {METADATA: metadata(network, step)}, report)


def open_checkpoint(folder: epath.Path) -> Checkpoint:
    """Looks at a folder of parameters or a finetuning step.

    Raises:
      UserError: it is damaged.
    """
    about = read_metadata(folder)
    moments: dict[str, LazyArray] = {}
    if (folder / STATE).exists():
        stored = trees.read(folder / STATE).get("optimizer", {})
        if not all(isinstance(stored.get(name), Mapping) for name in t5x.MOMENTS):
            raise UserError(f"{folder / STATE} does not hold the state of Adafactor")
        moments = {
            f"{name}/{moment}": value
            for moment in t5x.MOMENTS
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


def _unstacked(tree: Any, folder: epath.Path) -> dict[str, LazyArray]:
    """Arrays by T5X's path; what is stored as no array is another tree."""
    found = layout.flatten(tree)
    if not all(isinstance(value, LazyArray) for value in found.values()):
        raise UserError(f"{folder} does not hold a tree of arrays")
    if not all(leaf.shape for path, leaf in found.items() if layout.is_stacked(path)):
        raise UserError(f"{folder} holds layers without a leading axis")
    return layout.flatten(layout.unstack(tree))


def read_metadata(path: epath.PathLike) -> dict[str, Any]:
    """The json beside the parameters.

    Raises:
      UserError: it cannot be read, or its format is newer than this program.
    """
    file = epath.Path(path) / METADATA / METADATA
    try:
        found = json.loads(file.read_text())
        steps = [found["step"], found.get("pretrained_step", 0)]
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{file} cannot be read: {reason}") from None
    if found.get("format") != FORMAT:
        raise UserError(f"{file} has format {found.get('format')}, this program reads {FORMAT}")
    if not all(type(step) is int and 0 <= step < 2**31 for step in steps):
        raise UserError(f"{file} has the steps {steps}, expected whole numbers")
    return found


def metadata(network: NetworkConfig, step: int, **more: Any) -> dict[str, Any]:
    """What is stored beside the parameters."""
    return {"format": FORMAT, "step": step, "network": dataclasses.asdict(network), **more}


class Checkpoints:
    """The numbered checkpoints of a finetuning, written in the background.

    A checkpoint gets its name, and older ones are removed, only after it has been opened.
    Use as a context manager: leaving it waits for writes that are under way.

    Args:
      folder: holds one folder a step; made if need be.
      keep: the latest so many are kept; None keeps all.
      keep_period: besides them, those whose step it divides.
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
            with _told(f"a checkpoint in {self.folder} cannot be written", _WRITING):
                self._manager.close()
        except UserError:
            if kind is None:  # else it is known, or the lesser problem
                raise
            return
        failed = self._restore_failed or (kind is not None and issubclass(kind, UserError))
        if not failed:
            self._echo.close()

    def steps(self) -> list[int]:
        """The steps that were saved, the newest first; some may be damaged since."""
        return sorted(self._manager.all_steps(), reverse=True)

    def path(self, step: int) -> epath.Path:
        """The folder of a step."""
        return self.folder / str(step)

    def save(self, step: int, params: Any, state: Any, about: Mapping[str, Any]) -> None:
        """Copies the arrays to the host and returns; files are written meanwhile.

        Raises:
          UserError: this write, or an earlier one, failed.
        """
        with _told(f"checkpoint {self.path(step)} cannot be written", _WRITING):
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
        """Opens what was written, before Orbax gives it its name; called in Orbax's thread.

        Raises:
          UserError: it cannot be opened, or is not what was to be written.
        """
        assert self._writing is not None
        step, expected = self._writing
        start = f"{step}.{_TEMPORARY}"
        places = [path for path in self.folder.iterdir() if path.name.startswith(start)]
        for place in places or [self.path(step)]:  # a bucket has no name to give
            for item, shapes in expected.items():
                if trees.shapes(trees.read(place / item)) != shapes:
                    raise UserError(
                        f"checkpoint {self.path(step)} was written, but {item} is not what was to "
                        f"be saved; {_WRITING}"
                    )

    def wait(self) -> None:
        """Until all writes are complete.

        Raises:
          UserError: one failed.
        """
        with _told(f"a checkpoint in {self.folder} cannot be written", _WRITING):
            self._manager.wait_until_finished()

    def check(self, step: int) -> dict[str, Any]:
        """Opens a step without reading its arrays; returns what stands beside them.

        Raises:
          Damaged: a part of it is missing or cannot be opened.
        """
        folder = self.path(step)
        try:
            for item in (PARAMS, STATE):
                trees.read(folder / item)
            return read_metadata(folder)
        except UserError as error:
            raise Damaged(step, f"checkpoint {folder} cannot be read: {error}; {READING}") from None

    def restore(self, step: int, params: Any, state: Any) -> tuple[Any, Any]:
        """Parameters and state of a step, as `params` and `state` say.

        Args:
          step: which.
          params: tree of `jax.ShapeDtypeStruct` with shardings.
          state: likewise.

        Raises:
          Damaged: it cannot be read.
        """
        items = {
            PARAMS: ocp.args.StandardRestore(params),
            STATE: ocp.args.StandardRestore(state),
        }
        try:
            found = self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax wraps what TensorStore says in a bare Exception
            self._restore_failed = True
            raise Damaged(
                step,
                f"checkpoint {self.path(step)} cannot be read: {trees.reason(error)}; {READING}",
            ) from None
        return found[PARAMS], found[STATE]

    def set_aside(self, step: int) -> epath.Path:
        """Moves a step that cannot be read to `damaged`, so that the step can be saved anew.

        Every process of a run calls this.

        Returns:
          Its new place.
        """
        folder, home = self.path(step), self.folder.parent / DAMAGED
        home.mkdir(parents=True, exist_ok=True)
        taken = {path.name for path in home.iterdir()}
        names = (f"{step}" + (f".{i}" if i else "") for i in range(len(taken) + 1))
        place = home / next(name for name in names if name not in taken)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"name of damaged {place.name}")
        if jax.process_index() == 0:
            folder.rename(place)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"moved damaged {place.name}")
        self._manager.reload()
        return place


@contextlib.contextmanager
def _told(what: str, way_out: str) -> Iterator[None]:
    """What the disk refuses, as one line; TensorStore raises ValueError for that."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        if len(reason) > 300:  # TensorStore names the place three times before it says why
            reason = f"... {reason[-300:]}"
        raise UserError(f"{what}: {reason}; {way_out}") from error


def _silenced() -> contextlib.ExitStack:
    """Keeps a failure from being told by each of Orbax's and TensorStore's threads as well.

    Closing what is returned ends it. After a failure it stays: the threads go on for a while.
    """
    undo = contextlib.ExitStack()
    for logger in _TALKING:
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
    undo.callback(trees.quiet_closed_loops())
    undo.enter_context(warnings.catch_warnings())  # Python tells of writes that were given up
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    return undo


def _network(about: Mapping[str, Any], folder: epath.Path) -> NetworkConfig:
    known = {field.name for field in dataclasses.fields(NetworkConfig)}
    try:
        stored = {name: value for name, value in about["network"].items() if name in known}
        activations = tuple(stored["mlp_activations"])
        network = NetworkConfig(**{**stored, "mlp_activations": activations})
        if type(network.logits_via_embedding) is not bool or not all(
            isinstance(name, str) for name in activations
        ):
            raise TypeError("logits_via_embedding or mlp_activations")
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / METADATA} does not describe a network: {error}") from None
    return check_sizes(network, str(folder / METADATA))
