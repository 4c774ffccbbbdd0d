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
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from sycophancy.config import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import layout, t5x, trees
from sycophancy.model.checkpoints.contents import Contents
from sycophancy.model.checkpoints.leaf import Leaf

FORMAT = 1
PARAMS, STATE, METADATA = "params", "state", "metadata"
_TALKING = tuple(map(logging.getLogger, ("absl", "asyncio")))
_WRITING = (
    "the checkpoints before it are as they were, and the same command continues from the last"
)
_READING = "delete its folder to continue from the checkpoint before it, or from the start"


def is_checkpoint(path: epath.PathLike) -> bool:
    """Whether `path` holds one of our checkpoints."""
    folder = epath.Path(path)
    return (folder / PARAMS).is_dir() and (folder / METADATA).is_dir()


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


def open_checkpoint(path: epath.PathLike) -> Contents:
    """Looks at a folder of parameters or a finetuning step; a folder of steps means its latest.

    Raises:
      UserError: no checkpoint there.
    """
    folder = latest(path)
    about = read_metadata(folder)
    moments: dict[str, Leaf] = {}
    if (folder / STATE).exists():
        stored = trees.read(folder / STATE)["optimizer"]
        moments = {
            f"{name}/{moment}": value
            for moment in t5x.MOMENTS
            for name, value in layout.flatten(layout.unstack(_field(stored, moment))).items()
        }
    return Contents(
        source=str(folder),
        format="orbax",
        params=layout.flatten(layout.unstack(trees.read(folder / PARAMS))),
        network=_network(about, folder),
        step=about["step"] + about.get("pretrained_step", 0),
        moments=moments,
    )


def latest(path: epath.PathLike) -> epath.Path:
    """`path` itself, or the latest complete step inside it.

    Raises:
      UserError: there is neither.
    """
    folder = epath.Path(path)
    if is_checkpoint(folder):
        return folder
    steps = []
    if folder.is_dir():
        steps = [p for p in folder.iterdir() if p.name.isdigit() and is_checkpoint(p)]
    if not steps:
        raise UserError(f"{folder} is not a checkpoint: expected the folders {PARAMS}, {METADATA}")
    return max(steps, key=lambda p: int(p.name))


def read_metadata(path: epath.PathLike) -> dict[str, Any]:
    """The json beside the parameters.

    Raises:
      UserError: it cannot be read, or its format is newer than this program.
    """
    file = epath.Path(path) / METADATA / METADATA
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if found.get("format") != FORMAT:
        raise UserError(f"{file} has format {found.get('format')}, this program reads {FORMAT}")
    return found


def metadata(network: NetworkConfig, step: int, **more: Any) -> dict[str, Any]:
    """What is stored beside the parameters."""
    return {"format": FORMAT, "step": step, "network": dataclasses.asdict(network), **more}


class Checkpoints:
    """The numbered checkpoints of a finetuning, written in the background.

    Use as a context manager: leaving it waits for writes that are under way.

    Args:
      folder: holds one folder a step; made if need be.
      keep: the latest so many are kept; None keeps all.
      keep_period: besides them, those whose step it divides.
    """

    def __init__(
        self, folder: epath.PathLike, keep: int | None, keep_period: int | None = None
    ) -> None:
        self.folder = epath.Path(trees.absolute(epath.Path(folder)))
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            keep_period=keep_period,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
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
        if kind is None or not issubclass(kind, UserError):
            self._echo.close()

    def latest_step(self) -> int | None:
        """The last step that was saved completely."""
        return self._manager.latest_step()

    def path(self, step: int) -> epath.Path:
        """The folder of a step."""
        return self.folder / str(step)

    def save(self, step: int, params: Any, state: Any, about: Mapping[str, Any]) -> None:
        """Copies the arrays to the host and returns; files are written meanwhile.

        Raises:
          UserError: this write, or an earlier one, failed.
        """
        with _told(f"checkpoint {self.path(step)} cannot be written", _WRITING):
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

    def wait(self) -> None:
        """Until all writes are complete.

        Raises:
          UserError: one failed.
        """
        with _told(f"a checkpoint in {self.folder} cannot be written", _WRITING):
            self._manager.wait_until_finished()

    def restore(self, step: int, params: Any, state: Any) -> tuple[Any, Any]:
        """Parameters and state of a step, as `params` and `state` say.

        Args:
          step: which.
          params: tree of `jax.ShapeDtypeStruct` with shardings.
          state: likewise.

        Raises:
          UserError: it is damaged.
        """
        items = {
            PARAMS: ocp.args.StandardRestore(params),
            STATE: ocp.args.StandardRestore(state),
        }
        with _told(f"checkpoint {self.path(step)} cannot be read", _READING):
            found = self._manager.restore(step, args=ocp.args.Composite(**items))
        return found[PARAMS], found[STATE]


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
    """Keeps a failed write from being told by each of Orbax's and TensorStore's threads as well.

    Closing what is returned ends it. After a failure it stays: the threads go on for a while.
    """
    undo = contextlib.ExitStack()
    for logger in _TALKING:
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
    before = sys.unraisablehook

    def hook(problem: sys.UnraisableHookArgs) -> None:
        if str(problem.exc_value) != "Event loop is closed":  # with which a write was given up
            before(problem)

    undo.callback(setattr, sys, "unraisablehook", before)
    sys.unraisablehook = hook
    return undo


def _network(about: Mapping[str, Any], folder: epath.Path) -> NetworkConfig:
    known = {field.name for field in dataclasses.fields(NetworkConfig)}
    stored = {name: value for name, value in about["network"].items() if name in known}
    try:
        return NetworkConfig(**{**stored, "mlp_activations": tuple(stored["mlp_activations"])})
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / METADATA} does not describe a network: {error}") from None


def _field(state: Any, name: str) -> Any:
    """A field of a named tuple, which Orbax gives back as a dictionary."""
    return state[name] if isinstance(state, Mapping) else getattr(state, name)
