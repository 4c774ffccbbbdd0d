"""Scores items with a checkpoint on the devices of a run."""

from __future__ import annotations

import typing
from collections.abc import Sequence

from sycophancy.stages.memory import enough_memory

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config, ModelConfig
    from sycophancy.engine.progress import Meter
    from sycophancy.evaluation.items import Item, Prediction


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

    vocabulary = Vocabulary(model.vocabulary)
    params = load_checkpoint(model)
    mesh = sharding.make_mesh(sharding.resolve(config.training.mesh, model.network))
    with enough_memory():
        return score(params, model.network, vocabulary, items, mesh=mesh, progress=meter)
