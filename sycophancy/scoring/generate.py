"""The text that a model writes after each prompt, by greedy decoding.

Prompts of similar length share a compiled shape, and each distinct prompt is continued once.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from sycophancy.config.bounds import shown
from sycophancy.config.schema import Network, NetworkConfig
from sycophancy.errors import UserError
from sycophancy.evaluation.limits import MAX_PROMPT_TOKENS
from sycophancy.model import sharding
from sycophancy.model.generation import Programs, State, make_programs
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.scoring.answers import placed
from sycophancy.scoring.batching import Shape, plan
from sycophancy.scoring.score import check_vocabulary
from sycophancy.scoring.stop_strings import cut

# Positions of a batch on one device, by platform.
BATCH_TOKENS = {"cpu": 4_096}
BATCH_TOKENS_ACCELERATOR = 16_384
LOOK_PERIOD = 16  # tokens between two looks for `stop` strings

MAX_NEW_TOKENS = 2_048

Progress = Callable[[int, int], None]
Decode = Callable[[Sequence[int]], str]


@dataclasses.dataclass(frozen=True)
class _Prompt:
    """A distinct prompt: its text, its tokens, and the shape of the row that it needs."""

    text: str
    tokens: Sequence[int]
    shape: Shape


def generate(
    params: Mapping[str, Any],
    network: NetworkConfig,
    vocabulary: Vocabulary,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    mesh: Mesh | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """The text that greedy decoding writes after each prompt, in the order of the prompts.

    Each token is the likeliest one after the prompt, with its end of sequence, and the tokens
    before. Writing ends with the end of sequence. All arithmetic is float32. The vocabulary of T5
    has no line breaks: it reads them as spaces, so a text has none, either.

    Args:
      params: as `scoring.score.score` takes them.
      network: the network's shape. Its dropout and dtype have no effect.
      vocabulary: the model's vocabulary.
      prompts: may repeat.
      max_new_tokens: the most tokens that are written after a prompt, end of sequence included.
      stop: writing ends before the first of these strings, which is not part of the result.
      mesh: as `scoring.score.score` takes it. If there are several processes, each must call this
        function with the same prompts; each returns all texts.
      batch_tokens: positions of a batch on one device; the default suits the device.
      progress: called with the number of prompts done and of all prompts.

    Raises:
      UserError: a prompt is too long, a `stop` string is empty or has a line break that the
        vocabulary does not have, `max_new_tokens` is out of range.
    """
    for text in stop:
        if "\n" in text and not vocabulary.keeps_line_breaks():
            raise UserError(
                f"the stop string {text!r} has a line break, which this model's vocabulary reads "
                "as a space, so no text would end there; leave it out"
            )
    check_vocabulary(vocabulary, network)

    def decode(ids: Sequence[int]) -> str:
        # The network's vocabulary may be larger than the pieces: such tokens have no text.
        return vocabulary.decode([token for token in ids if token < vocabulary.size])

    return write(
        params,
        network,
        prompts,
        _read_prompts(list(dict.fromkeys(prompts)), vocabulary),
        decode,
        (vocabulary.eos_id,),
        max_new_tokens=max_new_tokens,
        stop=stop,
        mesh=mesh,
        batch_tokens=batch_tokens,
        progress=progress,
    )


def write(
    params: Mapping[str, Any],
    network: Network,
    prompts: Sequence[str],
    tokens: Mapping[str, Sequence[int]],
    decode: Decode,
    ends: tuple[int, ...],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    mesh: Mesh | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """`generate` for a network of either family, whose prompts are tokens already.

    Args:
      prompts: may repeat.
      tokens: of each distinct prompt, at least one.
      decode: from tokens without an end to their text.
      ends: tokens with which a text ends.

    Raises:
      UserError: a `stop` string is empty, or `max_new_tokens` is out of range.
    """
    if not 1 <= max_new_tokens <= MAX_NEW_TOKENS:
        raise UserError(f"max_new_tokens is {max_new_tokens}, expected 1 to {MAX_NEW_TOKENS:,}")
    if not all(stop):
        raise UserError("a stop string is empty, so nothing would be written; leave it out")
    mesh = mesh or sharding.make_mesh((-1, 1, 1))
    if batch_tokens is None:
        batch_tokens = BATCH_TOKENS.get(mesh.devices.flat[0].platform, BATCH_TOKENS_ACCELERATOR)
    network = dataclasses.replace(network, dtype="float32", dropout_rate=0.0, remat_policy="none")
    repeats = Counter(prompts)
    distinct = [
        _Prompt(text, tokens[text], (len(tokens[text]), max_new_tokens)) for text in repeats
    ]
    params = placed(params, network, mesh)
    splits = math.prod(mesh.shape[axis] for axis in sharding.BATCH_AXES)
    written: dict[str, str] = {}
    done = 0
    for (inputs, targets), rows, batch in plan(distinct, splits, batch_tokens, vocab_size=0):
        programs = make_programs(network, mesh, targets, ends)
        padded = np.full((rows, inputs), programs.padding, np.int32)
        for row, prompt in enumerate(batch):
            padded[row, : len(prompt.tokens)] = prompt.tokens

        def texts_of(state: State) -> list[str]:
            """The text of each row up to its end."""
            rows = np.asarray(state.tokens)[:, : int(state.position)].tolist()
            return [
                decode(list(itertools.takewhile(lambda token: token not in ends, row)))
                for row in rows
            ]

        texts = _write(programs, params, mesh, padded, texts_of, max_new_tokens, stop)
        written |= {prompt.text: text for prompt, text in zip(batch, texts, strict=False)}
        done += sum(repeats[prompt.text] for prompt in batch)
        if progress:
            progress(done, len(prompts))
    return [written[text] for text in prompts]


def _read_prompts(texts: Sequence[str], vocabulary: Vocabulary) -> dict[str, list[int]]:
    """The tokens of each prompt, with the end of sequence.

    Raises:
      UserError: a prompt is too long.
    """
    prompts = {}
    for text, ids in zip(texts, vocabulary.encode_batch(texts), strict=True):
        prompts[text] = [*ids, vocabulary.eos_id]
        if len(prompts[text]) > MAX_PROMPT_TOKENS:
            raise UserError(
                f"the prompt {shown(text)} has {len(prompts[text]):,} tokens, at most "
                f"{MAX_PROMPT_TOKENS:,} fit; prompts are not truncated, shorten it"
            )
    return prompts


def _write(
    programs: Programs,
    params: Any,
    mesh: Mesh,
    prompts: Int[np.ndarray, "rows inputs"],
    texts_of: Callable[[State], list[str]],
    max_new_tokens: int,
    stop: Sequence[str],
) -> list[str]:
    """The text of each row; devices are left between two looks for `stop` strings."""
    by_row = sharding.batch_sharding(mesh)
    with jax.set_mesh(mesh):
        on_devices = sharding.put(prompts, by_row)
        state = programs.start(params, on_devices)
        limit, texts = 1, [""] * len(prompts)
        stopped = np.zeros(len(prompts), bool)
        while not (limit == max_new_tokens or (stopped | np.asarray(state.ended)).all()):
            limit = min(limit + LOOK_PERIOD, max_new_tokens) if stop else max_new_tokens
            state = programs.go_on(
                params, on_devices, state, sharding.put(stopped, by_row), np.int32(limit)
            )
            if stop:
                texts = texts_of(state)
                stopped = np.array([cut(text, stop) != text for text in texts])
    return [cut(text, stop) for text in texts_of(state)]
