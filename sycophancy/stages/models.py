"""What several stages do with a run's model: its files, its token counts, its scores."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence

from sycophancy.system import paths

if typing.TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from etils import epath

    from sycophancy.config.schema import Config, ModelConfig
    from sycophancy.engine.progress import Meter
    from sycophancy.evaluation.items import Item, Prediction

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


def score_items(
    config: Config, model: ModelConfig, items: Sequence[Item], meter: Meter
) -> list[Prediction]:
    """Loads a checkpoint and scores the choices of every item on the run's mesh.

    Raises:
        UserError: the checkpoint cannot be read, or the devices run out of memory.
    """
    from sycophancy.model import sharding
    from sycophancy.model.checkpoints.formats import load_checkpoint
    from sycophancy.model.vocabulary import Vocabulary
    from sycophancy.scoring.score import score
    from sycophancy.stages.memory import enough_memory

    vocabulary = Vocabulary(model.vocabulary)
    params = load_checkpoint(model)
    mesh = sharding.make_mesh(sharding.resolve(config.training.mesh, model.network))
    with enough_memory():
        return score(params, model.network, vocabulary, items, mesh=mesh, progress=meter)
