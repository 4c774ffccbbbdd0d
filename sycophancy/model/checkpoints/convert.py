"""Converts a checkpoint to another format, one array at a time."""

from __future__ import annotations

import dataclasses
import shutil
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from etils import epath

from sycophancy.config.schema import DecoderConfig, Network
from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.checkpoints import folders, layout, moments
from sycophancy.model.checkpoints.checkpoint import Checkpoint
from sycophancy.model.checkpoints.formats import open_checkpoint
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.system.paths import is_address

Target = Literal["hf", "t5x", "orbax"]
Report = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
      path: the checkpoint that was written.
      network: the model's shape.
      notes: lines for a person: what was converted, and what the new format lacks.
    """

    path: str
    network: Network
    notes: tuple[str, ...]


def convert(
    source: str,
    destination: str,
    to: Target,
    *,
    network: Network | None = None,
    step: int | None = None,
    vocabulary: str | None = None,
    report: Report | None = None,
) -> Converted:
    """Converts the checkpoint at `source`, which `open_checkpoint` opens; see `write`."""
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
    checkpoint: Checkpoint,
    destination: str,
    to: Target,
    *,
    network: Network | None = None,
    step: int | None = None,
    vocabulary: str | None = None,
    report: Report | None = None,
) -> Converted:
    """Writes an opened checkpoint in another format, with one array at a time in memory.

    Parameters are written as float32; float32 and narrower values do not change. A T5X checkpoint
    also gets Adafactor's moments: those of the source, or zeros if it has none. Zeros do no harm,
    because Adafactor's first step overwrites its moments if `step_offset` equals the step.

    Args:
      checkpoint: the checkpoint to write.
      destination: a folder that does not exist; for T5X it may also be a folder in which
        `checkpoint_<step>` is made.
      to: the new format.
      network: the network that the checkpoint must fit; by default its own.
      step: the step to store; by default the checkpoint's own.
      vocabulary: the SentencePiece file for a Hugging Face folder; by default the checkpoint's own.
        Of a decoder-only model: the Hugging Face folder whose configuration and tokenizer the new
        one gets.
      report: called with the bytes written so far and the bytes in all.

    Raises:
      UserError: the checkpoint cannot be read or does not fit, or the destination exists.
    """
    guessed = network is None and checkpoint.network is None
    network = network or checkpoint.shape()
    checkpoint.check(network)
    vocabulary = vocabulary or checkpoint.vocabulary
    if isinstance(network, DecoderConfig):
        _check_decoder(checkpoint, to, vocabulary)
    place = epath.Path(destination)
    if to == "t5x":
        place, step = _place_of_step(place, checkpoint.step if step is None else step, step)
    if step is not None:
        checkpoint = dataclasses.replace(checkpoint, step=step)
    total = sum(array.nbytes for array in checkpoint.params.values())
    written = 0

    def wrote(nbytes: int) -> None:
        nonlocal written
        written += nbytes
        if report:
            report(min(written, total), total)

    if to == "t5x":
        _write_t5x(place, checkpoint, network, wrote)
    elif to == "orbax":
        _write_orbax(place, checkpoint, network, wrote)
    else:
        _write_huggingface(place, checkpoint, network, vocabulary, wrote)
    notes = [f"{checkpoint.format} -> {to}, {total // 4:,} parameters, step {checkpoint.step:,}"]
    notes += _warnings(checkpoint, to, guessed=guessed, vocabulary=vocabulary)
    return Converted(str(place), network, tuple(notes))


def _check_decoder(checkpoint: Checkpoint, to: Target, vocabulary: str | None) -> None:
    """Refuses what cannot be written of a decoder-only model.

    Raises:
      UserError: the format is T5X's, or a Hugging Face folder would lack its configuration.
    """
    if to == "t5x":
        raise UserError(
            f"{checkpoint.source} is a decoder-only model, which T5X does not compute; write hf or "
            "orbax"
        )
    if to == "hf" and vocabulary is None:
        raise UserError(
            f"{checkpoint.source} has no config.json and no tokenizer; give --vocabulary, the "
            "Hugging Face folder (or hf:owner/name) of the model that it was finetuned from"
        )


def _warnings(
    checkpoint: Checkpoint, to: Target, *, guessed: bool, vocabulary: str | None
) -> Iterator[str]:
    """Lines about what the new checkpoint lacks, or may have wrong."""
    shape = checkpoint.shape()
    if isinstance(shape, DecoderConfig):
        return
    if guessed and len(shape.mlp_activations) == 2:
        yield "T5X stores no activation; a gated MLP is assumed to be gelu unless --model says"
    if checkpoint.tied_output:
        yield "the output layer was the embedding, unscaled; it is now a separate layer"
    if to == "t5x" and not moments.are_complete(checkpoint):
        yield "the source has no optimizer state; Adafactor starts with zeros"
    if to != "hf":
        return
    if vocabulary is None:
        yield "no tokenizer was written; give --vocabulary, or --model, to have one"
    elif Vocabulary(vocabulary).spans_words():
        yield "transformers has no tokenizer for pieces that span words; read spiece.model itself"


def _place_of_step(place: epath.Path, step: int, asked: int | None) -> tuple[epath.Path, int]:
    """The folder `checkpoint_<step>` to write and its step; a `place` of that name decides both."""
    named = folders.step_in_name(place)
    if named is None:
        return place / f"{folders.T5X_PREFIX}{step}", step
    if asked not in (None, named):
        raise UserError(
            f"{place} would hold step {asked}, but T5X reads the step from the folder's name"
        )
    return place, named


def _write_t5x(
    place: epath.Path,
    checkpoint: Checkpoint,
    network: Network,
    wrote: Callable[[int], None],
) -> None:
    from sycophancy.model.checkpoints import t5x, trees

    complete = moments.are_complete(checkpoint)
    stored = checkpoint.moments if complete else moments.zero_moments(network)
    trees.write(place, {folders.STATE: t5x.tree(checkpoint, checkpoint.step, stored)}, {}, wrote)


def _write_orbax(
    place: epath.Path, checkpoint: Checkpoint, network: Network, wrote: Callable[[int], None]
) -> None:
    from sycophancy.model.checkpoints import orbax

    orbax.save_params(place, checkpoint.tree(), network, checkpoint.step, wrote)


def _write_huggingface(
    place: epath.Path,
    checkpoint: Checkpoint,
    network: Network,
    vocabulary: str | None,
    wrote: Callable[[int], None],
) -> None:
    if place.exists():
        raise UserError(f"{place} exists already; name a new folder")
    module = _huggingface_module(network)
    tree = layout.unflatten(checkpoint.params)
    beside = None if vocabulary is None else locations.local(vocabulary)
    if is_address(place):
        module.save(place, tree, network, beside, wrote)
        return
    final = Path(place)
    unfinished = final.with_name(f".{final.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        module.save(unfinished, tree, network, beside, wrote)
        module.open_checkpoint(epath.Path(unfinished), str(unfinished)).check(network)
        unfinished.rename(final)
    except OSError as error:
        raise UserError(f"cannot write {final}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _huggingface_module(network: Network) -> types.ModuleType:
    """The module that saves and opens Hugging Face folders of this kind of network."""
    if isinstance(network, DecoderConfig):
        from sycophancy.model.checkpoints import decoder_folder

        return decoder_folder
    from sycophancy.model.checkpoints import huggingface

    return huggingface
