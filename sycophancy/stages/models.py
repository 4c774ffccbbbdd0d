"""The model of a run as several stages need it: its files and its token counts."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence

from sycophancy.system import paths

if typing.TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from etils import epath

    from sycophancy.config.schema import ModelConfig

TokenCounter = Callable[[Sequence[str]], "np.ndarray"]


def model_files(model: ModelConfig) -> dict[str, Path | epath.Path | str]:
    """The files of a checkpoint and its vocabulary: paths if they are local, else addresses.

    Raises:
        UserError: the local folder holds no checkpoint.
    """
    from sycophancy.model.checkpoints import folders

    named = {"the checkpoint": model.checkpoint, "the vocabulary": model.vocabulary}
    files: dict[str, Path | epath.Path | str] = {}
    for name, value in named.items():
        path = paths.open_path(value)
        local = "://" not in value and path.exists()
        if local and name == "the checkpoint":
            files |= {f"{name}: {part.name}": part for part in folders.parts(path)}
        else:
            files[name] = path if local else value
    return files


def token_counter(model: ModelConfig) -> TokenCounter:
    """A function from texts to int arrays [texts] of token counts, end of sequence included."""
    import numpy as np

    from sycophancy.model.vocabulary import Vocabulary

    vocabulary = Vocabulary(model.vocabulary)
    return lambda texts: np.array([len(ids) + 1 for ids in vocabulary.encode_batch(texts)], int)
