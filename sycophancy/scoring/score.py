"""The one scorer: how likely does a model find each choice of each item?

A prompt is encoded once. All choices asked of it, by however many items, lie side by side in one
decoder row, kept apart by segment ids as packed examples are, so that the projections of the
encoded prompt are shared too. Prompts of similar length share a compiled shape.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Prediction
from sycophancy.evaluation.limits import MAX_CHOICE_TOKENS, MAX_PROMPT_TOKENS
from sycophancy.model import sharding
from sycophancy.model.network import Transformer
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.scoring.batching import Question, Shape, plan

BATCH_TOKENS = {"cpu": 2_048}  # encoder positions a device and batch; small fits a CPU's caches
BATCH_TOKENS_ACCELERATOR = 16_384

T = TypeVar("T")
Progress = Callable[[int, int], None]


class Scorable(Protocol):
    """What `score` needs of an item; `evaluation.items.Item` has it."""

    @property
    def item_id(self) -> str: ...
    @property
    def inputs(self) -> str: ...
    @property
    def choices(self) -> Sequence[str]: ...


def score(
    params: Mapping[str, Any],
    network: NetworkConfig,
    vocabulary: Vocabulary,
    items: Sequence[Scorable],
    *,
    mesh: Mesh | None = None,
    batch_tokens: int | None = None,
    max_prompt_tokens: int = MAX_PROMPT_TOKENS,
    progress: Progress | None = None,
) -> list[Prediction]:
    """Log-likelihoods of every item's choices, in the order of the items.

    A choice's log-likelihood is the sum over its tokens and the end of sequence, teacher-forced,
    without length normalisation; prompts end with the end of sequence too. Both are the convention
    of SeqIO's features and T5X's `score_batch`. All arithmetic is float32.

    Args:
      params: the network's own (stacked) tree, float32. NumPy arrays, and Leafs of a checkpoint,
        which are read one by one, are split over the mesh as in training; JAX arrays stay where
        they are.
      network: its shape; dropout and the dtype of activations are overridden.
      vocabulary: the model's.
      items: what to ask. Prompts may repeat.
      mesh: data x fsdp x model, as `sharding.make_mesh` makes it; batches are split over the first
        two. By default all devices of all processes lie on `data`. With several processes each
        calls this with the same items, computes what falls on its devices, and gets every
        prediction.
      batch_tokens: encoder positions a device and batch; by default what suits the device.
      max_prompt_tokens: prompts are never truncated; longer ones are refused.
      progress: called with the items done so far and their number.

    Raises:
      UserError: a prompt that is too long; choices of one item with unequal token counts, which a
        sum without length normalisation cannot compare; a vocabulary larger than the network's.
    """
    if vocabulary.size > network.vocab_size:
        raise UserError(
            f"the vocabulary has {vocabulary.size} pieces, the network {network.vocab_size}; "
            "set VOCABULARY to the one the checkpoint was trained with"
        )
    mesh = mesh or sharding.make_mesh((-1, 1, 1))
    if batch_tokens is None:
        batch_tokens = BATCH_TOKENS.get(mesh.devices.flat[0].platform, BATCH_TOKENS_ACCELERATOR)
    network = dataclasses.replace(network, dtype="float32", dropout_rate=0.0, remat_policy="none")
    questions = read_questions(items, vocabulary, max_prompt_tokens)
    params = placed(params, network, mesh)
    ask = make_program(network, mesh)
    by_row = sharding.batch_sharding(mesh)
    splits = math.prod(mesh.shape[axis] for axis in sharding.BATCH_AXES)
    done = 0
    for batch, outcome in _overlapped(
        (batch, _ask(ask, params, by_row, *arrays(batch, shape, rows)))
        for shape, rows, batch in plan(
            list(questions.values()), splits, batch_tokens, network.vocab_size
        )
    ):
        _record(batch, *map(np.asarray, outcome))
        done += sum(question.items for question in batch)
        if progress:
            progress(done, len(items))
    return [_prediction(item, questions[item.inputs]) for item in items]


def read_questions(
    items: Sequence[Scorable], vocabulary: Vocabulary, max_prompt_tokens: int
) -> dict[str, Question]:
    """Each distinct prompt as a question; every distinct text is tokenised once.

    Raises:
      UserError: as `score`.
    """
    prompts = list(dict.fromkeys(item.inputs for item in items))
    choices = list(dict.fromkeys(choice for item in items for choice in item.choices))

    def tokens(texts: list[str]) -> dict[str, Int[np.ndarray, " tokens"]]:
        encoded = vocabulary.encode_batch(texts)
        with_end = (np.array([*ids, vocabulary.eos_id], np.int32) for ids in encoded)
        return dict(zip(texts, with_end, strict=True))

    questions = {text: Question(prompt) for text, prompt in tokens(prompts).items()}
    targets = tokens(choices)
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
        if len({len(targets[choice]) for choice in item.choices}) > 1:
            counts = ", ".join(f"{c!r} has {len(targets[c]) - 1}" for c in item.choices)
            raise UserError(
                f"item {item.item_id} compares choices with unequal token counts: {counts}; "
                "use choices, or a vocabulary, with equal ones"
            )
        question.choices |= {choice: targets[choice] for choice in item.choices}
    return questions


def arrays(
    batch: Sequence[Question], shape: Shape, rows: int
) -> tuple[
    Int[np.ndarray, "rows inputs"], Int[np.ndarray, "rows targets"], Int[np.ndarray, "rows targets"]
]:
    """Prompts, choices side by side, and the number (from 1) of each token's choice; 0 pads."""
    prompts = np.zeros((rows, shape[0]), np.int32)
    targets, segments = (np.zeros((rows, shape[1]), np.int32) for _ in range(2))
    for row, question in enumerate(batch):
        prompts[row, : len(question.prompt)] = question.prompt
        start = 0
        for number, choice in enumerate(question.choices.values(), 1):
            targets[row, start : start + len(choice)] = choice
            segments[row, start : start + len(choice)] = number
            start += len(choice)
    return prompts, targets, segments


def placed(params: Mapping[str, Any], network: NetworkConfig, mesh: Mesh) -> Any:
    """Parameters on the mesh: host arrays as in training, JAX arrays as they are."""

    def place(leaf: Any, like: Any) -> Array:
        return leaf if isinstance(leaf, jax.Array) else sharding.put(leaf, like.sharding)

    return jax.tree.map(place, params, sharding.sharded_params(network, mesh))


def _ask(
    ask: Callable[..., Any], params: Any, by_row: Any, *batch: Int[np.ndarray, "rows positions"]
) -> tuple[Float[Array, "rows targets"], Bool[Array, "rows targets"]]:
    """Starts the computation of a batch; every process holds only its own rows of the inputs."""
    with jax.set_mesh(by_row.mesh):
        return ask(params, *(sharding.put(array, by_row) for array in batch))


@functools.cache
def make_program(network: NetworkConfig, mesh: Mesh) -> Any:
    """`token_outcomes` for a network, jitted; the outcomes come back whole to every process."""
    rules = sharding.logical_rules(network, mesh)
    return jax.jit(
        functools.partial(token_outcomes, network, rules),
        out_shardings=sharding.replicated(mesh),
    )


def token_outcomes(
    network: NetworkConfig,
    rules: sharding.Rules,
    params: Any,
    prompts: Int[Array, "rows inputs"],
    targets: Int[Array, "rows targets"],
    segments: Int[Array, "rows targets"],
) -> tuple[Float[Array, "rows targets"], Bool[Array, "rows targets"]]:
    """Each target token's log-likelihood (float32), and whether it is the argmax.

    Without the rules XLA leaves split parameters where they are and sums activations among all
    devices instead, which is far slower.
    """
    model = Transformer(network)
    starts = segments != jnp.pad(segments, ((0, 0), (1, 0)))[:, :-1]
    shifted = jnp.where(starts, 0, jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1])
    # Without this, accelerators multiply float32 matrices in fewer bits.
    with jax.default_matmul_precision("float32"), nn.logical_axis_rules(rules):
        encoded = model.apply({"params": params}, prompts, method=model.encode)
        logits: Any = model.apply(
            {"params": params},
            encoded,
            prompts,
            shifted,
            targets,
            decoder_segment_ids=segments,
            method=model.decode,
        )
    likely = jax.nn.log_softmax(logits)
    likely = jnp.take_along_axis(likely, targets[:, :, None], axis=-1)[:, :, 0]
    return likely, jnp.argmax(logits, axis=-1) == targets


def _overlapped(started: Iterator[T]) -> Iterator[T]:
    """The same, one behind: the next batch is under way while the last one is read."""
    for waiting, _ in itertools.pairwise(itertools.chain(started, [None])):
        if waiting is not None:
            yield waiting


def _record(
    batch: Sequence[Question],
    likely: Float[np.ndarray, "rows targets"],
    greedy: Bool[np.ndarray, "rows targets"],
) -> None:
    """Sums the tokens of each choice into its question's answers."""
    for row, question in enumerate(batch):
        start = 0
        for choice, tokens in question.choices.items():
            here = slice(start, start + len(tokens))
            total = np.float32(likely[row, here].sum(dtype=np.float64))
            question.answers[choice] = float(total), bool(greedy[row, here].all())
            start = here.stop


def _prediction(item: Scorable, question: Question) -> Prediction:
    answers = [question.answers[choice] for choice in item.choices]
    return Prediction(
        item_id=item.item_id,
        log_likelihoods=tuple(likely for likely, _ in answers),
        greedy=tuple(greedy for _, greedy in answers),
    )
