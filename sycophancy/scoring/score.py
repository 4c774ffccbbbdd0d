"""The scorer: the log-likelihood that a model gives to each choice of each item.

Each distinct prompt is encoded once. All its choices, from all items with that prompt, lie side by
side in one row of the decoder, separated by segment ids as packed examples are. So the choices
share the projections of the encoded prompt, too. Prompts of similar length share a compiled shape.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from sycophancy.config.schema import DecoderConfig, Network, NetworkConfig
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Prediction
from sycophancy.evaluation.limits import MAX_CHOICE_TOKENS, MAX_PROMPT_TOKENS
from sycophancy.model import sharding
from sycophancy.model.decoder import UNUSED
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.scoring.batching import Question, Scorable, Shape, plan
from sycophancy.scoring.outcomes import decoder_outcomes, encoder_decoder_outcomes

# Encoder positions of a batch on one device, by platform. A small batch fits a CPU's caches.
BATCH_TOKENS = {"cpu": 2_048}
BATCH_TOKENS_ACCELERATOR = 16_384

T = TypeVar("T")
Progress = Callable[[int, int], None]


def score(
    params: Mapping[str, Any],
    network: NetworkConfig,
    vocabulary: Vocabulary,
    items: Sequence[Scorable],
    *,
    mesh: Mesh | None = None,
    continuations: bool = False,
    batch_tokens: int | None = None,
    max_prompt_tokens: int = MAX_PROMPT_TOKENS,
    progress: Progress | None = None,
) -> list[Prediction]:
    """Predictions for all items, in the order of the items.

    A choice's log-likelihood is the sum over its tokens and the end of sequence, in natural log,
    teacher-forced and without length normalisation. Prompts end with the end of sequence, too. Both
    conventions are those of SeqIO's features and of T5X's `score_batch`. All arithmetic is float32.

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
      batch_tokens: encoder positions of a batch on one device; the default suits the device.
      max_prompt_tokens: limit for a prompt, end of sequence included. A longer prompt is an error,
        except with `continuations`.
      progress: called with the number of items done and the number of all items.

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
    answer(
        params,
        network,
        list(questions.values()),
        mesh=mesh,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    return [questions[item.inputs].prediction(item) for item in items]


def answer(
    params: Mapping[str, Any],
    network: Network,
    questions: Sequence[Question],
    *,
    mesh: Mesh | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Fills the answers of questions whose prompts and choices are tokens already.

    Args: as `score`, for a network of either family.
    """
    mesh = mesh or sharding.make_mesh((-1, 1, 1))
    if batch_tokens is None:
        batch_tokens = BATCH_TOKENS.get(mesh.devices.flat[0].platform, BATCH_TOKENS_ACCELERATOR)
    network = dataclasses.replace(network, dtype="float32", dropout_rate=0.0, remat_policy="none")
    params = placed(params, network, mesh)
    program = make_program(network, mesh)
    by_row = sharding.batch_sharding(mesh)
    splits = math.prod(mesh.shape[axis] for axis in sharding.BATCH_AXES)
    padding = UNUSED if isinstance(network, DecoderConfig) else 0
    items, done = sum(question.items for question in questions), 0
    for batch, outcome in _one_behind(
        (batch, _start(program, params, by_row, *arrays(batch, shape, rows, padding)))
        for shape, rows, batch in plan(questions, splits, batch_tokens, network.vocab_size)
    ):
        _record(batch, *map(np.asarray, outcome))
        done += sum(question.items for question in batch)
        if progress:
            progress(done, items)


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
        question.items += 1
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


def arrays(
    batch: Sequence[Question], shape: Shape, rows: int, padding: int = 0
) -> tuple[
    Int[np.ndarray, "rows inputs"], Int[np.ndarray, "rows targets"], Int[np.ndarray, "rows targets"]
]:
    """The arrays of one batch.

    Args:
      batch: at most `rows` questions.
      shape: of a row.
      rows: the rows of the batch.
      padding: what stands behind the tokens of a prompt; behind choices and their numbers, it is 0.

    Returns:
      The prompts' tokens; the tokens of their choices, side by side; and for each of these the
      number of its choice, from 1.
    """
    prompts = np.full((rows, shape[0]), padding, np.int32)
    targets, segments = (np.zeros((rows, shape[1]), np.int32) for _ in range(2))
    for row, question in enumerate(batch):
        prompts[row, : len(question.prompt)] = question.prompt
        start = 0
        for number, choice in enumerate(question.choices.values(), 1):
            targets[row, start : start + len(choice)] = choice
            segments[row, start : start + len(choice)] = number
            start += len(choice)
    return prompts, targets, segments


def placed(params: Mapping[str, Any], network: Network, mesh: Mesh) -> Any:
    """The parameters on the mesh: host arrays split as in training, JAX arrays unchanged."""

    def place(array: Any, like: Any) -> Array:
        return array if isinstance(array, jax.Array) else sharding.put(array, like.sharding)

    return jax.tree.map(place, params, sharding.sharded_params(network, mesh))


def _start(
    program: Callable[..., Any], params: Any, by_row: Any, *batch: Int[np.ndarray, "rows positions"]
) -> tuple[Float[Array, "rows targets"], Bool[Array, "rows targets"]]:
    """Starts the computation of a batch. Each process holds only its own rows of the inputs."""
    with jax.set_mesh(by_row.mesh):
        return program(params, *(sharding.put(array, by_row) for array in batch))


@functools.cache
def make_program(network: Network, mesh: Mesh) -> Any:
    """`outcomes` of a network, compiled; every process gets the outcomes of all rows."""
    rules = sharding.logical_rules(network, mesh)
    if isinstance(network, DecoderConfig):
        outcomes = functools.partial(decoder_outcomes, network, rules)
    else:
        outcomes = functools.partial(encoder_decoder_outcomes, network, rules)
    return jax.jit(outcomes, out_shardings=sharding.replicated(mesh))


def _one_behind(started: Iterator[T]) -> Iterator[T]:
    """Yields each value one step late, so that devices compute a batch while the host reads one."""
    for value, _ in itertools.pairwise(itertools.chain(started, [None])):
        if value is not None:
            yield value


def _record(
    batch: Sequence[Question],
    log_likelihoods: Float[np.ndarray, "rows targets"],
    greedy: Bool[np.ndarray, "rows targets"],
) -> None:
    """Sums the tokens' log-likelihoods of each choice and stores the sums in the questions."""
    for row, question in enumerate(batch):
        start = 0
        for choice, tokens in question.choices.items():
            span = slice(start, start + len(tokens))
            total = np.float32(log_likelihoods[row, span].sum(dtype=np.float64))
            question.answers[choice] = float(total), bool(greedy[row, span].all())
            start = span.stop
