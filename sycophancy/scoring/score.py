"""The scorer: the log-likelihood that a model gives to each choice of each item.

Each distinct prompt is encoded once. All its choices, from all items with that prompt, lie side by
side in one row of the decoder, separated by segment ids as packed examples are. So the choices
share the projections of the encoded prompt, too. Prompts of similar length share a compiled shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from sycophancy.config.schema import ActivationType, NetworkConfig
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Prediction
from sycophancy.evaluation.limits import MAX_CHOICE_TOKENS, MAX_PROMPT_TOKENS
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.scoring.answers import Progress
from sycophancy.scoring.batching import Question, Scorable
from sycophancy.scoring.decisions import Rescoring, decide


def score(
    params: Mapping[str, Any],
    network: NetworkConfig,
    vocabulary: Vocabulary,
    items: Sequence[Scorable],
    *,
    mesh: Mesh | None = None,
    continuations: bool = False,
    dtype: ActivationType = "float32",
    batch_tokens: int | None = None,
    max_prompt_tokens: int = MAX_PROMPT_TOKENS,
    progress: Progress | None = None,
    on_rescoring: Callable[[Rescoring], None] | None = None,
) -> list[Prediction]:
    """Predictions for all items, in the order of the items.

    A choice's log-likelihood is the sum over its tokens and the end of sequence, in natural log,
    teacher-forced and without length normalisation. Prompts end with the end of sequence, too. Both
    conventions are those of SeqIO's features and of T5X's `score_batch`.

    Args:
      params: the network's own tree, with stacked layers, float32. NumPy arrays and the lazy arrays
        of a checkpoint are split over the mesh one by one, as in training; JAX arrays stay on
        their devices.
      network: the network's shape. Its dropout and dtype have no effect.
      vocabulary: the model's vocabulary.
      items: what to score; prompts may repeat.
      mesh: axes data x fsdp x model, from `sharding.make_mesh`. Batches are split over data and
        fsdp. By default, data has all devices of all processes. If there are several processes,
        each must call this function with the same items; each computes the rows on its own devices
        and returns all predictions.
      continuations: choices are the beginnings of texts that may go on, so the end of sequence is
        not summed; and a prompt that is too long loses its beginning. Both are conventions of the
        LM evaluation harness.
      dtype: with "float32", all arithmetic is float32. With "bfloat16", decisions are those of
        float32, see `scoring.decisions`; that is for items that are decided as this project's
        measures do, so not for `continuations`.
      batch_tokens: encoder positions of a batch on one device; the default suits the device.
      max_prompt_tokens: limit for a prompt, end of sequence included. A longer prompt is an error,
        except with `continuations`.
      progress: called with the number of items done and the number of all items.
      on_rescoring: called with what was scored again, if anything had to be.

    Raises:
      UserError: a prompt that is too long; choices of one item with unequal token counts, which
        sums without length normalisation cannot compare, unless the item is `free_text`; a
        vocabulary larger than the network's.

    >>> from sycophancy.config.load import load_config
    >>> from sycophancy.evaluation.items import Item
    >>> from sycophancy.model.checkpoints.formats import load_checkpoint
    >>> model = load_config("mini_small", "quick").model
    >>> items = [Item("1", "sums", "neutral", "1", "2 + 2 =", ("4", "5"), answer=0)]
    >>> vocabulary = Vocabulary(model.vocabulary)
    >>> (prediction,) = score(load_checkpoint(model), model.network, vocabulary, items)
    >>> prediction.item_id, len(prediction.log_likelihoods)
    ('1', 2)
    """
    check_vocabulary(vocabulary, network)
    questions = read_questions(items, vocabulary, max_prompt_tokens, continuations=continuations)
    decide(
        params,
        network,
        list(questions.values()),
        dtype=dtype,
        mesh=mesh,
        batch_tokens=batch_tokens,
        progress=progress,
        on_rescoring=on_rescoring,
    )
    return [questions[item.inputs].prediction(item) for item in items]


def check_vocabulary(vocabulary: Vocabulary, network: NetworkConfig) -> None:
    """Refuses a vocabulary that is larger than the network's.

    Raises:
      UserError: names both sizes.
    """
    if vocabulary.size > network.vocab_size:
        raise UserError(
            f"the vocabulary has {vocabulary.size} pieces, the network {network.vocab_size}; "
            "set VOCABULARY to the one the checkpoint was trained with"
        )


def read_questions(
    items: Sequence[Scorable],
    vocabulary: Vocabulary,
    max_prompt_tokens: int,
    *,
    continuations: bool = False,
) -> dict[str, Question]:
    """A question for each distinct prompt, by prompt; each distinct text is tokenised once.

    Args: as `score`.

    Raises:
      UserError: as `score`.
    """
    prompts = list(dict.fromkeys(item.inputs for item in items))
    choices = list(dict.fromkeys(choice for item in items for choice in item.choices))

    def tokens(texts: list[str], end: list[int]) -> dict[str, Int[np.ndarray, " tokens"]]:
        encoded = vocabulary.encode_batch(texts)
        return dict(zip(texts, (np.array([*ids, *end], np.int32) for ids in encoded), strict=True))

    end = [vocabulary.eos_id]
    kept = slice(-max_prompt_tokens if continuations else None, None)
    questions = {text: Question(prompt[kept]) for text, prompt in tokens(prompts, end).items()}
    targets = tokens(choices, [] if continuations else end)
    for item in items:
        question = questions[item.inputs]
        question.items.append(item)
        if len(question.prompt) > max_prompt_tokens:
            raise UserError(
                f"item {item.item_id} has a prompt of {len(question.prompt)} tokens, at most "
                f"{max_prompt_tokens} fit; prompts are not truncated, leave the item out"
            )
        if sum(len(targets[choice]) for choice in item.choices) > MAX_CHOICE_TOKENS:
            raise UserError(
                f"item {item.item_id} has choices of more than {MAX_CHOICE_TOKENS} tokens in all; "
                "leave the item out"
            )
        if not item.free_text and len({len(targets[choice]) for choice in item.choices}) > 1:
            counts = ", ".join(f"{c!r} has {len(targets[c]) - 1}" for c in item.choices)
            raise UserError(
                f"item {item.item_id} compares choices with unequal token counts: {counts}; "
                "use choices, or a vocabulary, with equal ones"
            )
        question.choices |= {choice: targets[choice] for choice in item.choices}
    return questions
