"""The model of a run as several stages need it: its files and its token counts."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence

from sycophancy.system import paths
from sycophancy.system.paths import is_address

if typing.TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from etils import epath

    from sycophancy.config.schema import ModelConfig
    from sycophancy.data.training_rows import Encoder

TokenCounter = Callable[[Sequence[str]], "np.ndarray"]


def model_files(model: ModelConfig) -> dict[str, Path | epath.Path | str]:
    """The files of a checkpoint and its vocabulary: paths if they are local, else addresses.

    Raises:
        UserError: the local folder holds no checkpoint.
    """
    from sycophancy.model.checkpoints import folders

    name, path = "the checkpoint", paths.open_path(model.checkpoint)
    if is_address(model.checkpoint) or not path.exists():
        checkpoint: dict[str, Path | epath.Path | str] = {name: model.checkpoint}
    else:
        checkpoint = {f"{name}: {part.name}": part for part in folders.parts(path)}
    return checkpoint | vocabulary_files(model)


def vocabulary_files(model: ModelConfig) -> dict[str, Path | epath.Path | str]:
    """The files of a vocabulary or a tokenizer, as `model_files` has them."""
    from sycophancy.model import decoders

    name, path = "the vocabulary", paths.open_path(model.vocabulary)
    if is_address(model.vocabulary) or not path.exists():
        return {name: model.vocabulary}
    if model.is_decoder:
        return {f"{name}: {part.name}": part for part in decoders.tokenizer_files(path)}
    return {name: path}


def training_encoder(model: ModelConfig) -> Encoder:
    """A function from prompts and targets to the rows that the model is trained on."""
    if model.is_decoder:
        from sycophancy.model.decoder_text import load_text

        return load_text(model.vocabulary, model.chat).training_rows
    from sycophancy.model.vocabulary import Vocabulary

    return Vocabulary(model.vocabulary).training_rows


def token_counter(model: ModelConfig) -> TokenCounter:
    """A function from texts to int arrays [texts] of token counts.

    The end of sequence of an encoder-decoder counts, and the start of a decoder-only model's.
    """
    if model.is_decoder:
        from sycophancy.model.decoder_text import load_text

        return load_text(model.vocabulary, model.chat).count_tokens
    import numpy as np

    from sycophancy.model.vocabulary import Vocabulary

    vocabulary = Vocabulary(model.vocabulary)
    return lambda texts: np.array([len(ids) + 1 for ids in vocabulary.encode_batch(texts)], int)
