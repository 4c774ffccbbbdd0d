"""From any checkpoint format to any other, an array at a time."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from etils import epath

from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.checkpoints import layout, open_checkpoint
from sycophancy.model.checkpoints.checkpoint import Checkpoint
from sycophancy.model.checkpoints.lazy_array import LazyArray
from sycophancy.model.vocabulary import Vocabulary

Target = Literal["hf", "t5x", "orbax"]
Report = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Converted:
    """What `convert` did.

    Attributes:
      path: what was written.
      network: the model's shape.
      notes: what a person should know of it, a line each.
    """

    path: str
    network: NetworkConfig
    notes: tuple[str, ...]


def convert(
    source: str,
    destination: str,
    to: Target,
    *,
    network: NetworkConfig | None = None,
    step: int | None = None,
    vocabulary: str | None = None,
    report: Report | None = None,
) -> Converted:
    """Writes the checkpoint at `source`, whatever `open_checkpoint` opens, anew; see `write`."""
    return write(
        open_checkpoint(source),
        destination,
        to,
        network=network,
        step=step,
        vocabulary=vocabulary,
        report=report,
    )


def write(
    contents: Checkpoint,
    destination: str,
    to: Target,
    *,
    network: NetworkConfig | None = None,
    step: int | None = None,
    vocabulary: str | None = None,
    report: Report | None = None,
) -> Converted:
    """Writes a checkpoint that was opened in another format, holding one array at a time.

    Parameters come through bit for bit as float32. T5X gets Adafactor's state as well: the source's
    where it has one, else zeros, which the first step overwrites if `step_offset` is the step.

    Args:
      contents: what to write.
      destination: a folder that does not exist; for T5X also one that gets `checkpoint_<step>`.
      to: the format.
      network: what the source must fit; by default what it says of itself, or its arrays tell.
      step: stored with it; by default the source's.
      vocabulary: SentencePiece file for a Hugging Face folder; by default the source's own.
      report: called with the bytes written so far and in all.

    Raises:
      UserError: the source cannot be read, is another model, or the destination exists.
    """
    guessed = network is None and contents.network is None
    network = network or contents.shape()
    contents.check(network)
    place = epath.Path(destination)
    if to == "t5x":
        place, step = _place_of_step(place, contents.step if step is None else step, step)
    if step is not None:
        contents = dataclasses.replace(contents, step=step)
    vocabulary = vocabulary or contents.vocabulary
    total = sum(leaf.nbytes for leaf in contents.params.values())
    written = 0

    def wrote(nbytes: int) -> None:
        nonlocal written
        written += nbytes
        if report:
            report(min(written, total), total)

    if to == "t5x":
        _write_t5x(place, contents, network, wrote)
    elif to == "orbax":
        _write_orbax(place, contents, network, wrote)
    else:
        _write_huggingface(place, contents, network, vocabulary, wrote)
    notes = [f"{contents.format} -> {to}, {total // 4:,} parameters, step {contents.step:,}"]
    notes += _warnings(contents, to, guessed=guessed, vocabulary=vocabulary)
    return Converted(str(place), network, tuple(notes))


def _warnings(
    contents: Checkpoint, to: Target, *, guessed: bool, vocabulary: str | None
) -> Iterator[str]:
    if guessed and len(contents.shape().mlp_activations) == 2:
        yield "T5X stores no activation; a gated MLP is taken for gelu unless --model says"
    if contents.tied_output:
        yield "the output layer was the embedding, unscaled; it is now a layer of its own"
    if to == "t5x" and not _has_moments(contents):
        yield "the source has no optimizer state; Adafactor starts anew"
    if to != "hf":
        return
    if vocabulary is None:
        yield "no tokenizer was written; give --vocabulary, or --model, to have one"
    elif Vocabulary(vocabulary).spans_words():
        yield "transformers has no tokenizer for pieces that span words; read spiece.model itself"


def _place_of_step(place: epath.Path, step: int, asked: int | None) -> tuple[epath.Path, int]:
    """The `checkpoint_<step>` to write and its step; a folder that is called so decides both."""
    from sycophancy.model.checkpoints import folders

    named = folders.step_in_name(place)
    if named is None:
        return place / f"{folders.T5X_PREFIX}{step}", step
    if asked not in (None, named):
        raise UserError(f"{place} is to hold step {asked}, but T5X reads the step off its name")
    return place, named


def _write_t5x(
    place: epath.Path,
    contents: Checkpoint,
    network: NetworkConfig,
    wrote: Callable[[int], None],
) -> None:
    from sycophancy.model.checkpoints import folders, t5x, trees

    moments = contents.moments if _has_moments(contents) else zero_moments(network)
    trees.write(place, {folders.STATE: t5x.tree(contents, contents.step, moments)}, {}, wrote)


def _write_orbax(
    place: epath.Path, contents: Checkpoint, network: NetworkConfig, wrote: Callable[[int], None]
) -> None:
    from sycophancy.model.checkpoints import orbax

    orbax.save_params(place, contents.tree(), network, contents.step, wrote)


def _write_huggingface(
    place: epath.Path,
    contents: Checkpoint,
    network: NetworkConfig,
    vocabulary: str | None,
    wrote: Callable[[int], None],
) -> None:
    from sycophancy.model.checkpoints import huggingface

    if place.exists():
        raise UserError(f"{place} exists already; name a new folder")
    tree = layout.unflatten(contents.params)
    sentencepiece = None if vocabulary is None else locations.local(vocabulary)
    if "://" in str(place):
        huggingface.save(place, tree, network, sentencepiece, wrote)
        return
    final = Path(place)
    unfinished = final.with_name(f".{final.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        huggingface.save(unfinished, tree, network, sentencepiece, wrote)
        huggingface.open_checkpoint(epath.Path(unfinished), str(unfinished)).check(network)
        unfinished.rename(final)
    except OSError as error:
        raise UserError(f"cannot write {final}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _has_moments(contents: Checkpoint) -> bool:
    from sycophancy.model.checkpoints import t5x

    wanted = {f"{path}/{moment}" for path in contents.params for moment in t5x.MOMENTS}
    return wanted <= contents.moments.keys()


def zero_moments(network: NetworkConfig) -> dict[str, LazyArray]:
    """Adafactor's state before its first step, as `Checkpoint.moments` has it."""
    import jax
    from flax import linen as nn

    from sycophancy.model.checkpoints import t5x
    from sycophancy.model.sharding import abstract_params
    from sycophancy.training.optimizer import adafactor

    def zeros(shape: Any) -> LazyArray:
        return LazyArray(shape.shape, lambda: np.zeros(shape.shape, np.float32))

    state = jax.eval_shape(adafactor(0.0).init, nn.unbox(abstract_params(network)))
    return {
        f"{path}/{moment}": leaf
        for moment in t5x.MOMENTS
        for path, leaf in layout.flatten(
            layout.unstack(jax.tree.map(zeros, getattr(state, moment)))
        ).items()
    }
