"""A model in memory: the likelihoods that it gives to choices, and the texts that it writes."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Callable, Sequence

from sycophancy.data.prompts import LETTERS
from sycophancy.evaluation.items import Item, Prediction

if typing.TYPE_CHECKING:
    from jax.sharding import Mesh

    from sycophancy.config.schema import Network, ScoreType
    from sycophancy.model.decoder_text import DecoderText
    from sycophancy.model.vocabulary import Vocabulary
    from sycophancy.scoring.language_model import Decoder, EncoderDecoder

_RECIPE = "paper"  # a configuration needs one; it does not change the model


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its parameters and vocabulary.

    Attributes:
        name: what the model is called.
        network: the network's shape: a `NetworkConfig`, or the `DecoderConfig` of a decoder-only
            model.
        parameters: nested dict of float32 arrays by name; layers are stacked along the first axis.
        vocabulary: converts between text and token ids. Of a decoder-only model: its tokenizer with
            its chat template.
        max_tokens: the most tokens of a prompt with what follows it; of a decoder-only model alone.
        score_dtype: what `score` computes in, as the setting SCORE_DTYPE has it.
    """

    name: str
    network: Network
    parameters: dict[str, typing.Any] = dataclasses.field(repr=False)
    vocabulary: Vocabulary | DecoderText
    max_tokens: int | None = None
    score_dtype: ScoreType = "auto"


def load_model(
    name: str | os.PathLike[str],
    *,
    chat: typing.Literal["auto", "raw", "template"] = "auto",
    score_dtype: typing.Literal["auto", "float32", "bfloat16"] = "auto",
) -> Model:
    """Loads a model onto the devices of this machine.

    Where parameters and gradients fit on half of a device, every device holds all parameters;
    otherwise the devices share them, as with `--mesh auto`.

    Args:
        name: as `--model` takes it: a shipped model (`mini_base`), `hf:owner/name`, a folder or
            bucket address (`gs://...`) of a checkpoint, or a model's `.gin` file. Of decoder-only
            models, it takes those of the families that are computed here
            (docs/decoder_models.md).
        chat: how a decoder-only model reads a prompt: as the user's turn in its chat template
            ("template"), or as the text it is ("raw"); "auto": in the template if it has one.
        score_dtype: what `score` computes in. "bfloat16" takes half a copy of the parameters more;
            every choice is float32's, and close ones have float32's likelihoods. "auto": float32 on
            a processor, bfloat16 on an accelerator. A few hundred prompts are always float32.

    Raises:
        UserError: there is no such model, its checkpoint or vocabulary cannot be read, or it is
            not computed here.

    Example:
        >>> load_model("mini_small").network.emb_dim
        16
    """
    from sycophancy.config.load import load_config
    from sycophancy.engine import distributed

    config = load_config(os.fspath(name), _RECIPE, [f"CHAT={chat!r}"]).model
    distributed.check_platform()
    from sycophancy.model import sharding
    from sycophancy.model.checkpoints.formats import load_checkpoint
    from sycophancy.model.decoder_text import load_text
    from sycophancy.model.decoders import max_tokens
    from sycophancy.model.vocabulary import Vocabulary

    vocabulary: Vocabulary | DecoderText
    if config.is_decoder:
        vocabulary, limit = load_text(config.vocabulary, chat), max_tokens(config.vocabulary)
    else:
        vocabulary, limit = Vocabulary(config.vocabulary), None
    placed = sharding.sharded_params(config.network, _mesh(config.network))
    parameters = sharding.put(load_checkpoint(config), sharding.shardings_of(placed))
    return Model(config.name, config.network, parameters, vocabulary, limit, score_dtype)


def score(
    model: Model,
    items: Sequence[Item | str],
    choices: Sequence[str] = LETTERS,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Scores every choice of every item by its log-likelihood.

    A choice's log-likelihood is the sum over its tokens and, of an encoder-decoder, the end of
    sequence, in natural log, without length normalisation. The choices of one item must have
    equally many tokens.

    Args:
        model: the model to ask.
        items: what to ask: `Item`s, or prompts as plain texts.
        choices: the continuations to compare for each plain text.
        progress: called with the number of items done and of all items.

    Returns:
        One prediction an item, in the order of the items. Its `log_likelihoods` are in the order of
        the item's choices; `choice` is the index of the likeliest, -1 where two are equally likely.
        The prediction of a plain text has the text's position as `item_id`.

    Raises:
        UserError: a prompt is too long, or the choices of an item have unequal token counts.

    Example:
        >>> (prediction,) = score(load_model("mini_small"), ["2 + 2 ="], choices=("4", "5"))
        >>> len(prediction.log_likelihoods)
        2
    """
    whole = [
        Item(str(position), "text", "neutral", str(position), item, tuple(choices))
        if isinstance(item, str)
        else item
        for position, item in enumerate(items)
    ]
    return _asked(model).score(whole, progress)


def generate(
    model: Model,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 64,
    stop: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """What the model writes after each prompt, by greedy decoding in float32.

    Args:
        model: the model to ask.
        prompts: what to ask; they may repeat.
        max_new_tokens: the most tokens that are written after a prompt, end of sequence included.
        stop: writing ends before the first of these texts, which is not part of the result.
        progress: called with the number of prompts done and of all prompts.

    Returns:
        One text a prompt, in the order of the prompts.

    Raises:
        UserError: a prompt is too long, a `stop` text is empty or has a line break that the
            vocabulary does not have, or `max_new_tokens` is not between 1 and 2,048.

    Example:
        >>> (text,) = generate(load_model("mini_small"), ["2 + 2 ="], max_new_tokens=3)
        >>> isinstance(text, str)
        True
    """
    return _asked(model).generate(
        prompts, max_new_tokens=max_new_tokens, stop=stop, progress=progress
    )


def _asked(model: Model) -> EncoderDecoder | Decoder:
    """The model as filtration and evaluation ask it."""
    from sycophancy.config.schema import DecoderConfig
    from sycophancy.model.vocabulary import Vocabulary
    from sycophancy.scoring.decisions import resolved
    from sycophancy.scoring.language_model import Decoder, EncoderDecoder

    network, text, mesh = model.network, model.vocabulary, _mesh(model.network)
    dtype = resolved(model.score_dtype, mesh)
    if isinstance(network, DecoderConfig):
        assert not isinstance(text, Vocabulary)
        assert model.max_tokens is not None
        return Decoder(model.parameters, network, text, mesh, model.max_tokens, dtype)
    assert isinstance(text, Vocabulary)
    return EncoderDecoder(model.parameters, network, text, mesh, dtype)


def _mesh(network: Network) -> Mesh:
    """The devices of this machine, laid out for the size of a network."""
    from sycophancy.config.schema import AUTO_MESH
    from sycophancy.model import sharding

    return sharding.make_mesh(sharding.resolve(AUTO_MESH, network))
