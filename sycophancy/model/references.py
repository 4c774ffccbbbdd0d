"""A model that is named by a checkpoint instead of a gin file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sycophancy.config import macros
from sycophancy.config.declarations import NETWORK_SHAPE
from sycophancy.config.macros import Setting
from sycophancy.config.schema import PACKAGE, NetworkConfig, inside_package
from sycophancy.model import locations
from sycophancy.model.checkpoints.checkpoint import Checkpoint

# The bucket of all public T5 1.1 and Flan-T5 checkpoints, and where their vocabulary lies in it.
T5_BUCKET = "gs://t5-data/"
T5_VOCABULARY = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"

_EMBEDDING = "token_embedder/embedding"
_ALIKE = 0.5  # cosine of two embeddings; unrelated ones have about 0
_STANDARD = "flan_t5_base"  # how to finetune a model of a shape that no shipped file has


def is_checkpoint(name: str) -> bool:
    """Whether `--model NAME` names a checkpoint: on the hub, in a bucket, or a local folder.

    The shipped models' names are theirs, whatever folders lie about.
    """
    if locations.is_hub(name) or "://" in name:
        return True
    shipped = {path.stem for path in (macros.root() / "models").glob("*.gin")}
    return name not in shipped and not name.endswith(".gin") and Path(name).is_dir()


def short_name(name: str) -> str:
    """What to call a model: the last part of its name that is not a step.

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
    """The macros of a model's gin file, from a checkpoint.

    A checkpoint of a shipped model's shape is finetuned as that file says, any other as a Flan-T5.
    A shape is no identity: a shipped model's vocabulary, and activations that the checkpoint does
    not say, are taken only for that model's own weights, or for weights that came of them.

    Args:
      name: as `is_checkpoint` accepts.

    Returns:
      What the gin file of a model says; without VOCABULARY where nothing tells it.

    Raises:
      UserError: it cannot be opened.
    """
    from sycophancy.model.checkpoints import open_checkpoint

    origin = f"--model {name}"
    contents = open_checkpoint(name)
    network = contents.shape()
    twins = _twins(network, sure=contents.network is not None)
    own = next((twin for twin in twins if _came_of(contents, twin)), None)
    twin = own or next(iter(twins), None)
    found = macros.read_file(macros.find("model", twin or _STANDARD))
    said = {macro: getattr(network, field) for field, macro in NETWORK_SHAPE.items()}
    if own and contents.network is None:
        del said["MLP_ACTIVATIONS"]  # T5X does not store them
    step = contents.step
    if twin and contents.format == "hf":  # whose format has no step
        step = found["PRETRAINED_STEP"].value
    local = not (locations.is_hub(name) or "://" in name)
    vocabulary = _vocabulary(name, contents, found["VOCABULARY"].value if own else None)
    found.pop("VOCABULARY")
    said |= {
        "INITIAL_CHECKPOINT_PATH": str(Path(name).absolute()) if local else name,
        "PRETRAINED_STEP": step,
    } | ({} if vocabulary is None else {"VOCABULARY": vocabulary})
    return found | {macro: Setting(value, origin) for macro, value in said.items()}


def _twins(network: NetworkConfig, *, sure: bool) -> list[str]:
    """The shipped models of this shape; `sure` if the activations are known."""
    twins = []
    for path in sorted((macros.root() / "models").glob("*.gin")):
        said = macros.read_file(path)
        other = {
            field: said[macro].value
            for field, macro in NETWORK_SHAPE.items()
            if sure or macro != "MLP_ACTIVATIONS"
        }
        if other == {field: getattr(network, field) for field in other}:
            twins.append(path.stem)
    return twins


def _came_of(contents: Checkpoint, twin: str) -> bool:
    """Whether these are a shipped model's weights, or were finetuned from them.

    Where the shipped model's weights are on this machine, the embeddings tell: finetuning moves an
    embedding little, and that of another model points elsewhere. Else the checkpoint has to say so.
    """
    import numpy as np

    from sycophancy.model.checkpoints import open_checkpoint

    home = macros.read_file(macros.find("model", twin))["INITIAL_CHECKPOINT_PATH"].value
    if not home.startswith(PACKAGE):
        return contents.model == twin
    theirs = open_checkpoint(inside_package(home)).params
    one, other = (np.asarray(params[_EMBEDDING]).ravel() for params in (contents.params, theirs))
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return lengths > 0 and float(one @ other) / lengths > _ALIKE


def _vocabulary(name: str, contents: Checkpoint, of_own: str | None) -> str | None:
    if locations.is_hub(name):
        return f"{name}/spiece.model"
    if contents.vocabulary:
        return os.path.abspath(contents.vocabulary) if "://" not in name else contents.vocabulary  # noqa: PTH100
    if contents.other_tokenizer:
        return None  # it has a vocabulary of its own, in a form that is not read
    if name.startswith(T5_BUCKET) and contents.shape().vocab_size == 32_128:
        return T5_VOCABULARY
    return of_own
