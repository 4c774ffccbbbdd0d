"""Items as the tokens that a decoder-only model is asked, whichever library computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from sycophancy.errors import UserError
from sycophancy.evaluation.items import Prediction
from sycophancy.model.decoder_text import DecoderText, Tokens
from sycophancy.scoring.batching import Question, Scorable

Progress = Callable[[int, int], None]


class AsksDecoder:
    """What the `LanguageModel`s of decoder-only models have in common, whoever computes them.

    Log-likelihoods are those that the LM evaluation harness has for such models: sums over the
    tokens of a choice, in natural log, without an end of sequence.

    Attributes:
      text: the model's tokenizer and chat template.
    """

    text: DecoderText

    def limit(self) -> int:
        """The most tokens of a prompt with what follows it."""
        raise NotImplementedError

    def answer(self, questions: list[Question[Tokens]], progress: Progress | None) -> None:
        """Fills the answers of questions; `progress` counts their items."""
        raise NotImplementedError

    @property
    def keeps_line_breaks(self) -> bool:
        """True: the tokenizers of decoder-only models keep every character."""
        return True

    def count_tokens(self, texts: Sequence[str]) -> Int[np.ndarray, " texts"]:
        """The number of tokens of each text and the start of sequence, without a template's."""
        return self.text.count_tokens(texts)

    def room(self, answer_tokens: int) -> int:
        """What the answer leaves of `limit`, at least one token."""
        return max(self.limit() - answer_tokens, 1)

    def score(
        self,
        items: Sequence[Scorable],
        progress: Progress | None = None,
        *,
        continuations: bool = False,
    ) -> list[Prediction]:
        """See `LanguageModel.score` and `read_questions`."""
        questions = read_questions(self.text, items, self.limit(), continuations=continuations)
        self.answer(list(questions.values()), progress)
        return [questions[item.inputs].prediction(item) for item in items]

    def read_prompts(
        self, prompts: Sequence[str], max_new_tokens: int, *, continuations: bool
    ) -> dict[str, Tokens]:
        """The tokens of each distinct prompt as text is written after it.

        Args:
          prompts: may repeat.
          max_new_tokens: the most tokens that are written after a prompt.
          continuations: prompts are read as they are, without a chat template.

        Raises:
          UserError: a prompt is too long.
        """
        distinct = list(dict.fromkeys(prompts))
        read = distinct if continuations else self.text.contexts(distinct)
        encoded = self.text.encode_prompts(read)
        tokens = {p: ids or self.text.first for p, ids in zip(distinct, encoded, strict=True)}
        for ids in tokens.values():
            check_length(len(ids) + max_new_tokens, self.limit(), "a prompt with its answer")
        return tokens


def read_questions(
    text: DecoderText, items: Sequence[Scorable], max_tokens: int, *, continuations: bool = False
) -> dict[str, Question[Tokens]]:
    """A question for each distinct prompt, by prompt.

    Args:
      text: the model's tokenizer and chat template.
      items: prompts may repeat.
      max_tokens: the most tokens of a prompt with one of its choices.
      continuations: prompts and choices are put together as they are, without a chat template and
        a space between; and a prompt that is too long loses its beginning.

    Raises:
      UserError: a prompt is too long, or the choices of an item that is not `free_text` have
        unequal token counts.
    """
    prompts = list(dict.fromkeys(item.inputs for item in items))
    read = prompts if continuations else text.contexts(prompts)
    contexts = dict(zip(prompts, read, strict=True))
    encoded = text.encode_contexts(list(contexts.values()))
    questions: dict[str, Question[Tokens]] = {
        prompt: Question(context or text.first)
        for prompt, context in zip(prompts, encoded, strict=True)
    }
    asked = list(dict.fromkeys((item.inputs, c) for item in items for c in item.choices))
    choices = text.encode_choices(
        [(contexts[prompt], choice) for prompt, choice in asked],
        [questions[prompt].prompt for prompt, _ in asked],
        spaced=not continuations,
    )
    for (prompt, choice), ids in zip(asked, choices, strict=True):
        questions[prompt].choices[choice] = ids
    distinct = list(dict.fromkeys(choice for _, choice in asked))
    counts = dict(zip(distinct, text.count_tokens(distinct).tolist(), strict=True))
    for item in items:
        question = questions[item.inputs]
        question.items.append(item)
        if continuations:
            continue
        longest = max(len(question.choices[choice]) for choice in item.choices)
        check_length(len(question.prompt) + longest, max_tokens, f"item {item.item_id}")
        if not item.free_text and len({counts[choice] for choice in item.choices}) > 1:
            words = ", ".join(f"{choice!r} has {counts[choice]}" for choice in item.choices)
            raise UserError(
                f"item {item.item_id} compares choices with unequal token counts: {words}; use "
                "choices with equal ones"
            )
    if continuations:
        for question in questions.values():
            room = max(max_tokens - max(map(len, question.choices.values())), 1)
            question.prompt = question.prompt[-room:]
    return questions


def check_length(tokens: int, limit: int, what: str) -> None:
    """Refuses what is too long for a model.

    Raises:
      UserError: names what it is, its tokens and the limit.
    """
    if tokens > limit:
        raise UserError(
            f"{what} has {tokens:,} tokens, at most {limit:,} fit; prompts are not truncated, "
            "leave it out"
        )
