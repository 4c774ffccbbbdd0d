"""The settings of a model that `--model` names by a checkpoint instead of a gin file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sycophancy.config import macros
from sycophancy.config.declarations import NETWORK_SHAPE
from sycophancy.config.macros import Setting
from sycophancy.config.schema import PACKAGE, DecoderConfig, NetworkConfig, inside_package
from sycophancy.errors import UserError
from sycophancy.model import decoders, locations
from sycophancy.model.checkpoints.checkpoint import Checkpoint
from sycophancy.system.paths import is_address

# The bucket of all public T5 1.1 and Flan-T5 checkpoints, and the address of their vocabulary.
T5_BUCKET = "gs://t5-data/"
T5_VOCABULARY = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"

_EMBEDDING = "token_embedder/embedding"
_LEAST_COSINE = 0.5  # of the embeddings of related models; unrelated ones have about 0
_STANDARD = "flan_t5_base"  # its settings are used for a shape that no shipped model has


def is_checkpoint(name: str) -> bool:
    """Whether `--model NAME` names a checkpoint: on the hub, in a bucket, or a local folder.

    A shipped model's name always means that model, even where a folder has the same name.
    """
    if locations.is_hub(name) or is_address(name):
        return True
    shipped = {path.stem for path in (macros.root() / "models").glob("*.gin")}
    return name not in shipped and not name.endswith(".gin") and Path(name).is_dir()


def short_name(name: str) -> str:
    """A model's name for people: the last part of its path that is not a step.

    >>> short_name("gs://t5-data/pretrained_models/t5x/flan_t5_xl/checkpoint_1138000")
    'flan_t5_xl'
    >>> short_name("hf:google/flan-t5-xl@main"), short_name("models/my.gin"), short_name("/")
    ('flan-t5-xl', 'my', 'model')
    """
    parts = [part for part in re.split(r"[/\\]", name.removeprefix("hf:")) if part.strip(".")]
    if not parts:  # a folder such as `.` or `..`
        parts = [os.path.basename(os.path.abspath(name)) or "model"]  # noqa: PTH100, PTH119
    while len(parts) > 1 and re.fullmatch(r"(checkpoint_)?\d+", parts[-1]):
        parts.pop()
    return Path(parts[-1].partition("@")[0]).name.removesuffix(".gin")


def settings(name: str) -> dict[str, Setting]:
    """The macros that a model's gin file would set, derived from a checkpoint.

    If a shipped model has the checkpoint's shape, the settings of its gin file are used; otherwise
    those of Flan-T5. An equal shape does not make an equal model: the shipped model's vocabulary,
    and its activations if the checkpoint does not store them, are used only if the checkpoint is
    that model's own or was finetuned from it.

    Args:
      name: a name that `is_checkpoint` accepts.

    Returns:
      Settings by macro, without VOCABULARY if it is not known. A decoder-only model has those
      alone that say where it is.

    Raises:
      UserError: the checkpoint cannot be opened.
    """
    from sycophancy.model.checkpoints.formats import open_checkpoint

    origin = f"--model {name}"
    local = not (locations.is_hub(name) or is_address(name))
    place = str(Path(name).absolute()) if local else name
    if decoders.is_decoder(name):
        of_decoder = {
            "ARCHITECTURE": "decoder-only",
            "INITIAL_CHECKPOINT_PATH": place,
            "VOCABULARY": place,
            "DATA_ORIGIN": "hub",
        }
        return {macro: Setting(value, origin) for macro, value in of_decoder.items()}
    checkpoint = open_checkpoint(name)
    network = checkpoint.shape()
    if isinstance(network, DecoderConfig):
        raise UserError(
            f"{name} is a decoder-only model in this program's own format; write its Hugging Face "
            f"folder first: sycophancy convert {name} FOLDER --to hf --vocabulary MODEL"
        )
    shipped = _shipped_models(network, with_activations=checkpoint.network is not None)
    own = next((model for model in shipped if _comes_from(checkpoint, model)), None)
    similar = own or next(iter(shipped), None)
    shared = macros.read_file(macros.find("model", similar or _STANDARD))
    values: dict[str, Any] = {
        macro: getattr(network, field) for field, macro in NETWORK_SHAPE.items()
    }
    if own and checkpoint.network is None:
        del values["MLP_ACTIVATIONS"]  # T5X does not store them
    step = checkpoint.step
    if similar and checkpoint.format == "hf":  # this format has no step
        step = shared["PRETRAINED_STEP"].value
    vocabulary = _vocabulary(name, checkpoint, shared["VOCABULARY"].value if own else None)
    shared.pop("VOCABULARY")
    values |= {
        "INITIAL_CHECKPOINT_PATH": place,
        "PRETRAINED_STEP": step,
    } | ({} if vocabulary is None else {"VOCABULARY": vocabulary})
    return shared | {macro: Setting(value, origin) for macro, value in values.items()}


def decoder_network(checkpoint: str) -> DecoderConfig:
    """See `decoders.network`."""
    return decoders.network(checkpoint)


def _shipped_models(network: NetworkConfig, *, with_activations: bool) -> list[str]:
    """The names of the shipped models that have a network's shape.

    Args:
      network: the network.
      with_activations: whether the activations have to be equal, too; False if the network's are
        not known.
    """
    names = []
    for path in sorted((macros.root() / "models").glob("*.gin")):
        settings = macros.read_file(path)
        shape = {
            field: settings[macro].value
            for field, macro in NETWORK_SHAPE.items()
            if with_activations or macro != "MLP_ACTIVATIONS"
        }
        if shape == {field: getattr(network, field) for field in shape}:
            names.append(path.stem)
    return names


def _comes_from(checkpoint: Checkpoint, model: str) -> bool:
    """Whether a checkpoint has a shipped model's weights, or was finetuned from them.

    If the package contains the shipped model's weights, the two embeddings are compared: finetuning
    changes an embedding little, and another model's embedding is unrelated. Otherwise the
    checkpoint's metadata decides.
    """
    import numpy as np

    from sycophancy.model.checkpoints.formats import open_checkpoint

    address = macros.read_file(macros.find("model", model))["INITIAL_CHECKPOINT_PATH"].value
    if not address.startswith(PACKAGE):
        return checkpoint.model == model
    shipped = open_checkpoint(inside_package(address))
    first, second = (
        np.asarray(opened.params[_EMBEDDING]).ravel() for opened in (checkpoint, shipped)
    )
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return lengths > 0 and float(first @ second) / lengths > _LEAST_COSINE


def _vocabulary(name: str, checkpoint: Checkpoint, shipped: str | None) -> str | None:
    """The path of a checkpoint's vocabulary; None if it is not known.

    Args:
      name: the checkpoint's name.
      checkpoint: the checkpoint.
      shipped: the vocabulary of the shipped model that the checkpoint comes from, or None.
    """
    if locations.is_hub(name):
        return f"{name}/spiece.model"
    if vocabulary := checkpoint.vocabulary:
        return vocabulary if is_address(name) else os.path.abspath(vocabulary)  # noqa: PTH100
    if checkpoint.other_tokenizer:
        return None  # the checkpoint's vocabulary is in a form that is not read
    if name.startswith(T5_BUCKET) and checkpoint.shape().vocab_size == 32_128:
        return T5_VOCABULARY
    return shipped
