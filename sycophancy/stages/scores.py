"""The model of a run on the devices of the run, and the scores that it gives to items."""

from __future__ import annotations

import typing
from collections.abc import Sequence

from sycophancy.stages.memory import enough_memory

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config, ModelConfig
    from sycophancy.engine.progress import Meter
    from sycophancy.evaluation.items import Item, Prediction
    from sycophancy.scoring.language_model import LanguageModel


def load_language_model(config: Config, model: ModelConfig) -> LanguageModel:
    """Loads a checkpoint: onto the run's mesh, or, if `transformers` computes it, onto one device.

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
    from sycophancy.scoring.language_model import Decoder, EncoderDecoder

    network, params = model.network, load_checkpoint(model)
    mesh = sharding.make_mesh(sharding.resolve(config.training.mesh, network))
    if isinstance(network, NetworkConfig):
        return EncoderDecoder(params, network, Vocabulary(model.vocabulary), mesh)
    text = load_text(model.vocabulary, model.chat)
    return Decoder(params, network, text, mesh, decoders.max_tokens(model.vocabulary))


def score_items(
    config: Config, model: ModelConfig, items: Sequence[Item], meter: Meter
) -> list[Prediction]:
    """Loads a checkpoint and scores the choices of every item on the run's mesh.

    Raises:
        UserError: the checkpoint cannot be read, or the devices run out of memory.
    """
    with enough_memory():
        return load_language_model(config, model).score(items, progress=meter)
