"""What a model can be asked: the likelihood of choices, and the text that it writes itself.

Filtration, evaluation, retention and the harness adapter know a model only by this interface, so
they do not know whether it is an encoder-decoder on a mesh or a decoder of another library.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from sycophancy.config.schema import ActivationType, DecoderConfig, NetworkConfig
from sycophancy.evaluation.items import Prediction
from sycophancy.evaluation.limits import MAX_PROMPT_TOKENS
from sycophancy.model.decoder_text import DecoderText
from sycophancy.model.decoders import DEFAULT_TOKENS
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.scoring.batching import Question, Scorable
from sycophancy.scoring.decisions import Rescoring, decide
from sycophancy.scoring.decoder_questions import AsksDecoder, Progress
from sycophancy.scoring.generate import generate, write
from sycophancy.scoring.score import score

if typing.TYPE_CHECKING:
    from jax.sharding import Mesh


class LanguageModel(Protocol):
    """A model with its tokenizer, on the devices of all processes.

    If there are several processes, each calls the same methods with the same arguments, and each
    gets all results.
    """

    @property
    def keeps_line_breaks(self) -> bool:
        """Whether a text that the model reads or writes can have line breaks."""

    def count_tokens(self, texts: Sequence[str]) -> Int[np.ndarray, " texts"]:
        """The number of tokens of each text, those included that the model adds at its ends."""

    def room(self, answer_tokens: int) -> int:
        """The most tokens of a prompt that an answer of so many tokens follows."""

    def score(
        self,
        items: Sequence[Scorable],
        progress: Progress | None = None,
        *,
        continuations: bool = False,
    ) -> list[Prediction]:
        """The log-likelihood of every choice of every item, in the order of the items.

        Args:
          items: prompts may repeat.
          progress: called with the number of items done and of all items.
          continuations: as the LM evaluation harness asks: choices are the beginnings of texts that
            may go on, so no end of sequence is counted, and a prompt that is too long loses its
            beginning.

        Raises:
          UserError: a prompt is too long, or the choices of an item that is not `free_text` have
            unequal token counts.
        """

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
        continuations: bool = False,
    ) -> list[str]:
        """The text that greedy decoding writes after each prompt, in the order of the prompts.

        Args:
          prompts: may repeat.
          max_new_tokens: the most tokens that are written after a prompt.
          stop: writing ends before the first of these strings, which is not part of the result.
          progress: called with the number of prompts done and of all prompts.
          continuations: as the LM evaluation harness asks: prompts are read as they are, without a
            chat template.

        Raises:
          UserError: a prompt is too long, or a `stop` string has a line break and no text can.
        """


@dataclasses.dataclass(frozen=True)
class EncoderDecoder:
    """The in-tree network, computed by JAX.

    Attributes:
      params: the network's parameters, as `score` takes them.
      network: the network's shape.
      vocabulary: the model's vocabulary.
      mesh: as `score` takes it.
      score_dtype: as `score` takes it.
      on_rescoring: as `score` takes it.
    """

    params: Any
    network: NetworkConfig
    vocabulary: Vocabulary
    mesh: Mesh | None = None
    score_dtype: ActivationType = "float32"
    on_rescoring: Callable[[Rescoring], None] | None = None

    @property
    def keeps_line_breaks(self) -> bool:
        """See `Vocabulary.keeps_line_breaks`."""
        return self.vocabulary.keeps_line_breaks()

    def count_tokens(self, texts: Sequence[str]) -> Int[np.ndarray, " texts"]:
        """The number of tokens of each text, end of sequence included."""
        return np.array([len(ids) + 1 for ids in self.vocabulary.encode_batch(texts)], int)

    def room(self, answer_tokens: int) -> int:
        """The limit of prompts: answers have a row of their own."""
        return MAX_PROMPT_TOKENS

    def score(
        self,
        items: Sequence[Scorable],
        progress: Progress | None = None,
        *,
        continuations: bool = False,
    ) -> list[Prediction]:
        """See `scoring.score.score`."""
        return score(
            self.params,
            self.network,
            self.vocabulary,
            items,
            mesh=self.mesh,
            continuations=continuations,
            dtype=self.score_dtype,
            progress=progress,
            on_rescoring=self.on_rescoring,
        )

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
        continuations: bool = False,
    ) -> list[str]:
        """See `scoring.generate.generate`; prompts are always read as they are."""
        return generate(
            self.params,
            self.network,
            self.vocabulary,
            prompts,
            max_new_tokens=max_new_tokens,
            stop=stop,
            mesh=self.mesh,
            progress=progress,
        )


@dataclasses.dataclass(frozen=True)
class Decoder(AsksDecoder):
    """The in-tree network of a decoder-only model, computed by JAX.

    Attributes:
      params, network, mesh, score_dtype, on_rescoring: as of `EncoderDecoder`.
      text: the model's tokenizer and chat template.
      max_tokens: the most tokens of a prompt with what follows it.
    """

    params: Any
    network: DecoderConfig
    text: DecoderText
    mesh: Mesh | None = None
    max_tokens: int = DEFAULT_TOKENS
    score_dtype: ActivationType = "float32"
    on_rescoring: Callable[[Rescoring], None] | None = None

    def limit(self) -> int:
        """See `max_tokens`."""
        return self.max_tokens

    def answer(self, questions: list[Question], progress: Progress | None) -> None:
        """See `scoring.decisions.decide`."""
        decide(
            self.params,
            self.network,
            questions,
            dtype=self.score_dtype,
            mesh=self.mesh,
            progress=progress,
            on_rescoring=self.on_rescoring,
        )

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
        continuations: bool = False,
    ) -> list[str]:
        """See `scoring.generate.write`."""
        return write(
            self.params,
            self.network,
            prompts,
            self.read_prompts(prompts, max_new_tokens, continuations=continuations),
            self.text.decode,
            self.text.end_ids,
            max_new_tokens=max_new_tokens,
            stop=stop,
            mesh=self.mesh,
            progress=progress,
        )
