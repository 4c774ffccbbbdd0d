"""Decoder-only language models as Hugging Face folders: which folders hold one, and their files.

The in-tree network computes those of several families (`checkpoints.families`). Others can be
evaluated by `transformers` (`scoring.transformers_decoder`); nothing here needs it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from etils import epath

from sycophancy.config.schema import DecoderConfig
from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.checkpoints import families, folders, weights
from sycophancy.system.paths import is_address

SUPPORTED = (
    "supported are T5 encoder-decoders (T5 1.0, T5 1.1, Flan-T5) and decoder-only language models"
)
DEFAULT_TOKENS = 32_768  # of a text, where a checkpoint states no limit
TOKENIZER = "tokenizer.json"
# Ends of the names of classes, in a config.json's `architectures`, that predict the next token.
_CLASSES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def is_decoder(name: str) -> bool:
    """Whether a name is that of a decoder-only model's Hugging Face folder.

    Args:
      name: a local folder, an address in a bucket, or `hf:owner/name`, which is fetched.

    Raises:
      UserError: the folder holds a Hugging Face model of a kind that is not supported, or a
        damaged config.json; or a decoder-only model in a bucket.
    """
    folder = epath.Path(locations.local(name, weights=False))
    if not locations.exists(folder) or not folder.is_dir() or not folders.is_huggingface(folder):
        return False
    config = weights.read_json(folder, folders.CONFIG)
    if config.get("model_type", "t5") == "t5":
        return False
    kind, classes = config["model_type"], config.get("architectures") or []
    named = f" ({', '.join(map(str, classes))})" if classes else ""
    if config.get("is_encoder_decoder") or not _may_predict(classes):
        raise UserError(f"{folder / folders.CONFIG}: model_type is {kind!r}{named}; {SUPPORTED}")
    if is_address(folder):
        raise UserError(
            f"{name}: a decoder-only model is read from a local folder or the hub; copy it first"
        )
    return True


def network(checkpoint: str) -> DecoderConfig:
    """The network of a decoder-only checkpoint, Hugging Face's or of this program.

    Raises:
      UserError: the checkpoint cannot be opened, or its architecture is not computed here.
    """
    from sycophancy.model.checkpoints.formats import open_checkpoint

    folder = epath.Path(locations.local(checkpoint, weights=False))
    if folder.is_dir() and folders.is_huggingface(folder):
        return families.read(folder)
    found = open_checkpoint(checkpoint).shape()
    if isinstance(found, DecoderConfig):
        return found
    raise UserError(f"{checkpoint} holds an encoder-decoder; ARCHITECTURE says decoder-only")


def is_computed_here(checkpoint: str) -> bool:
    """Whether the in-tree network computes a decoder-only checkpoint; else, `transformers` may.

    Anything but a Hugging Face folder is this program's own, even where it is damaged or absent.

    Raises:
      UserError: the folder's config.json is damaged.
    """
    folder = epath.Path(locations.local(checkpoint, weights=False))
    if not (folder.is_dir() and folders.is_huggingface(folder)):
        return True
    config = weights.read_json(folder, folders.CONFIG)
    try:
        families.parse(config, folder / folders.CONFIG)
    except UserError:
        return False
    return True


def max_tokens(folder: str) -> int:
    """The most tokens of a text that a model was made for, by the config.json beside its tokenizer.

    Raises:
      UserError: the file is damaged.
    """
    path = epath.Path(locations.local(folder, weights=False))
    config = weights.read_json(path, folders.CONFIG) if (path / folders.CONFIG).exists() else {}
    stated = config.get("max_position_embeddings")
    return stated if type(stated) is int and stated > 0 else DEFAULT_TOKENS


def tokenizer_files(folder: epath.PathLike) -> list[Path]:
    """The files of a local folder that decide how its model splits, frames and ends texts."""
    found = (locations.inside(folder, name) for name in locations.TOKENIZER_FILES)
    return [Path(path) for path in found if path.exists()]


def check(name: str) -> None:
    """Checks, before anything is read, that a model can be asked on this machine.

    Args:
      name: as `is_decoder`.

    Raises:
      UserError: a library is missing, or a file.
    """
    folder = epath.Path(locations.local(name))
    if not is_decoder(name):
        raise UserError(f"{name}: the folder holds no decoder-only model")
    if not is_computed_here(name):
        check_libraries()
    if not any(path.suffix == ".safetensors" for path in folders.parts(folder)):
        raise UserError(
            f"{folder} has no .safetensors file, the only form of weights that is read; convert it "
            "with transformers' save_pretrained"
        )
    check_tokenizer(Path(folder))


def check_tokenizer(folder: Path) -> None:
    """Refuses a local folder without the one form of tokenizer that is read.

    Raises:
      UserError: says how to make it.
    """
    if not (folder / TOKENIZER).exists():
        raise UserError(
            f"{folder} has no {TOKENIZER}; copy it and its neighbours, or, if there is only a "
            "tokenizer of an older form, make it where transformers is installed: "
            f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )


def check_libraries() -> None:
    """Refuses to go on without torch and transformers.

    Raises:
      UserError: names the extra that has them.
    """
    absent = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(
            f"a decoder-only model is computed by transformers and torch, but there is no "
            f"{' and no '.join(absent)} here; in the checkout: pip install -e '.[hf]'"
        )


def _may_predict(classes: Any) -> bool:
    """Whether one of a model's classes predicts the next token; True if none is named."""
    return not classes or any(str(name).endswith(_CLASSES) for name in classes)
