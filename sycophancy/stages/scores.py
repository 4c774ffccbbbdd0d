"""The model of a run on the devices of the run, and the scores that it gives to items."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from sycophancy.stages.memory import enough_memory

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config, ModelConfig, ScoreType
    from sycophancy.engine.progress import Meter
    from sycophancy.evaluation.items import Item, Prediction
    from sycophancy.scoring.decisions import Rescoring
    from sycophancy.scoring.language_model import LanguageModel


@dataclasses.dataclass
class Precision:
    """In which dtype a stage scores, once it has.

    Attributes:
        setting: SCORE_DTYPE.
        dtype: what it means on the run's mesh; empty where `transformers` computes the model.
        rescored: what was scored in float32 after that.
    """

    setting: ScoreType
    dtype: str = ""
    rescored: list[Rescoring] = dataclasses.field(default_factory=list)

    @property
    def counts(self) -> dict[str, Any]:
        """For the stage's manifest and summary."""
        return {
            "score_dtype": self.dtype,
            "rescored": [dataclasses.asdict(one) for one in self.rescored],
        }

    @property
    def notes(self) -> list[str]:
        """The same in words."""
        return [str(one) for one in self.rescored]


def load_language_model(
    config: Config, model: ModelConfig, precision: Precision | None = None
) -> LanguageModel:
    """Loads a checkpoint: onto the run's mesh, or, if `transformers` computes it, onto one device.

    Args:
        config: of the run.
        model: with the checkpoint.
        precision: how to score, and where to record it; None: in float32. Another dtype suits those
            who decide as `scoring.decisions` does.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    from sycophancy.config.schema import NetworkConfig
    from sycophancy.model import decoders

    if model.is_decoder and not decoders.is_computed_here(model.checkpoint):
        from sycophancy.scoring import transformers_decoder

        return transformers_decoder.load(model.checkpoint, model.chat, model.precision)
    from sycophancy.model import sharding
    from sycophancy.model.checkpoints.formats import load_checkpoint
    from sycophancy.model.decoder_text import load_text
    from sycophancy.model.vocabulary import Vocabulary
    from sycophancy.scoring.decisions import resolved
    from sycophancy.scoring.language_model import Decoder, EncoderDecoder

    precision = precision or Precision("float32")
    network, params = model.network, load_checkpoint(model)
    mesh = sharding.make_mesh(sharding.resolve(config.training.mesh, network))
    dtype = resolved(precision.setting, mesh)
    precision.dtype, record = dtype, precision.rescored.append
    if isinstance(network, NetworkConfig):
        return EncoderDecoder(params, network, Vocabulary(model.vocabulary), mesh, dtype, record)
    text = load_text(model.vocabulary, model.chat)
    limit = decoders.max_tokens(model.vocabulary)
    return Decoder(params, network, text, mesh, limit, dtype, record)


def score_items(
    config: Config,
    model: ModelConfig,
    items: Sequence[Item],
    meter: Meter,
    precision: Precision | None = None,
) -> list[Prediction]:
    """Loads a checkpoint and scores the choices of every item on the run's mesh.

    Args:
        config, model, precision: as for `load_language_model`.
        items: what to ask.
        meter: shows the progress.

    Raises:
        UserError: the checkpoint cannot be read, or the devices run out of memory.
    """
    with enough_memory():
        return load_language_model(config, model, precision).score(items, progress=meter)
