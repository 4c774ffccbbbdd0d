"""Texts as a decoder-only model reads them: its tokenizer, its chat template, and where they meet.

In scoring, the rules are those of the lm-evaluation-harness for causal models, so that
log-likelihoods are equal to its own: a choice follows its prompt after one space; white space at
the end of a prompt belongs to the choice; the prompt's tokens are those of the prompt alone; the
tokenizer's own start of sequence comes first, unless the text has it already; and no end of
sequence is added.

In training, a row has the tokens that scoring has for its prompt and its target, and one more: the
token that ends the assistant's turn, or without a template the end of sequence. Scoring needs no
end, because all choices of an item would end alike. Training needs it, because a model that never
sees an end after a target forgets to stop, and instruction rows are there so that the model still
follows instructions. An encoder-decoder's targets end with the end of sequence for the same reason.
The loss is on the target and this token alone; white space that ends the prompt, such as the line
break after the assistant's name in a template, is not part of the target.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from sycophancy.config.schema import Chat
from sycophancy.data.training_rows import TrainingRow
from sycophancy.errors import UserError
from sycophancy.evaluation.conversation import parse
from sycophancy.model import locations
from sycophancy.model.chat_template import ChatTemplate, load_template
from sycophancy.model.tokenizer import Tokenizer, Tokens, load_tokenizer


@dataclasses.dataclass(frozen=True)
class DecoderText:
    """A tokenizer, and the chat template that prompts go through, if any.

    Attributes:
      tokenizer: of the model.
      template: filled with a prompt's turns; None to use prompts as they are.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None

    @property
    def start(self) -> Tokens:
        """The tokens before every text: the start of sequence, or none."""
        return self.tokenizer.start

    @property
    def chat(self) -> Literal["template", "raw"]:
        """How prompts are read, in the words of CHAT."""
        return "raw" if self.template is None else "template"

    @property
    def first(self) -> Tokens:
        """What stands before an empty prompt: the start of sequence, or else the end."""
        tokenizer = self.tokenizer
        return (tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id,)

    @property
    def end_ids(self) -> Tokens:
        """The tokens after which the model's text is complete."""
        return tuple(dict.fromkeys((self._closing[1], *self.tokenizer.end_ids)))

    def count_tokens(self, texts: Sequence[str]) -> Int[np.ndarray, " texts"]:
        """The number of tokens of each text and the start of sequence, without a template's."""
        plain = self.tokenizer.encode_batch(texts)
        return np.array([len(ids) + len(self.start) for ids in plain], int)

    def contexts(self, prompts: Sequence[str]) -> list[str]:
        """Each prompt as the model reads it: as it is, or its turns in the chat template.

        The words with which a prompt begins the assistant's answer, such as "I believe the best
        answer is", begin it in the template, too.

        Raises:
          UserError: the template cannot be filled with such turns.
        """
        return [self._in_template(prompt) if self.template else prompt for prompt in prompts]

    def encode_contexts(self, contexts: Sequence[str]) -> list[Tokens]:
        """The tokens of each context, without the white space at its end, which is the choice's."""
        return self._encode([context.rstrip() for context in contexts])

    def encode_choices(
        self,
        pairs: Sequence[tuple[str, str]],
        context_tokens: Sequence[Tokens],
        *,
        spaced: bool = True,
    ) -> list[Tokens]:
        """The tokens of choices after their contexts: those of both, without the context's.

        Args:
          pairs: context and choice.
          context_tokens: the tokens of each pair's context.
          spaced: put a space between context and choice where neither has one.
        """
        choices = [_spaced(*pair) if spaced else pair[1] for pair in pairs]
        wholes = self._encode(
            [context + choice for (context, _), choice in zip(pairs, choices, strict=True)]
        )
        return [
            self._after(start, whole, choice)
            for choice, whole, start in zip(choices, wholes, context_tokens, strict=True)
        ]

    def encode_prompts(self, contexts: Sequence[str]) -> list[Tokens]:
        """The tokens of each context as text is written after it: with all white space."""
        return self._encode(contexts)

    def training_rows(self, prompts: Sequence[str], targets: Sequence[str]) -> list[TrainingRow]:
        """Rows to train on.

        Args:
          prompts: as the data have them.
          targets: one for each prompt.

        Raises:
          UserError: as `contexts`.
        """
        contexts = self.contexts(prompts)
        gap, end = self._closing
        answers = [
            _spaced(context, target) + gap
            for context, target in zip(contexts, targets, strict=True)
        ]
        wholes = self._encode([c + a for c, a in zip(contexts, answers, strict=True)])
        rows = []
        for context, answer, start, whole in zip(
            contexts, answers, self._encode(contexts), wholes, strict=True
        ):
            inputs = start
            if whole[: len(start)] != start:  # a token joins the white space and the answer
                (inputs,) = self.encode_contexts([context])
            written = (*self._after(inputs, whole, answer), end)
            text = answer + (self.tokenizer.piece(end) or "")
            rows.append(TrainingRow(context, text, inputs or self.first, written))
        return rows

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        return self.tokenizer.decode(ids)

    def _encode(self, texts: Sequence[str]) -> list[Tokens]:
        bos = self.tokenizer.special_tokens.get("bos_token")
        return [
            tuple(ids) if bos and text.startswith(bos) else (*self.start, *ids)
            for text, ids in zip(texts, self.tokenizer.encode_batch(texts), strict=True)
        ]

    def _after(self, start: Tokens, whole: Tokens, answer: str) -> Tokens:
        """The tokens of an answer: those of the whole text after its context's."""
        # A token may join the context and a short answer; the answer then stands alone.
        return whole[len(start) :] or tuple(self.tokenizer.encode(answer))

    def _in_template(self, prompt: str) -> str:
        assert self.template is not None
        conversation = parse(prompt)
        messages = [{"role": turn.role, "content": turn.text} for turn in conversation.turns]
        if conversation.prefix:
            messages.append({"role": "assistant", "content": conversation.prefix})
        try:
            return self.template.render(messages, continues=bool(conversation.prefix))
        except Exception as error:  # the template is the model's own, and may raise anything
            raise _refused(f"{len(messages)} turns", error) from None

    @functools.cached_property
    def _closing(self) -> tuple[str, int]:
        """What ends an answer in training: perhaps a space, and a token.

        Raises:
          UserError: the template cannot be filled with an answer.
        """
        tokenizer = self.tokenizer
        if self.template is None:
            return "", tokenizer.eos_id
        try:
            text = self.template.closing()
        except Exception as error:  # as above
            raise _refused("a question and an answer", error) from None
        for token in tokenizer.encode(text):
            if token in tokenizer.end_ids or tokenizer.is_special(token):
                gap, _, _ = text.partition(tokenizer.piece(token) or text)
                return gap, token
        return "", tokenizer.eos_id


def _refused(turns: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(
        f"the model's chat template cannot be filled with a prompt of {turns}: {reason}; "
        "--chat raw asks without it"
    )


def _spaced(context: str, choice: str) -> str:
    return choice if context[-1:].isspace() or choice[:1].isspace() else f" {choice}"


def load_text(name: str, chat: Chat) -> DecoderText:
    """The tokenizer and the chat template of a decoder-only model.

    Args:
      name: a local folder or `hf:owner/name`.
      chat: `auto` uses the chat template if there is one, `template` needs one, `raw` uses none.

    Raises:
      UserError: the tokenizer or the template cannot be read, or there is no template where one is
        needed.
    """
    tokenizer = load_tokenizer(name)
    if chat == "raw":
        return DecoderText(tokenizer, None)
    template = load_template(Path(locations.local(name, weights=False)), tokenizer.special_tokens)
    if chat == "template" and template is None:
        raise UserError(f"CHAT = 'template': {name} has no chat template; set CHAT to auto or raw")
    return DecoderText(tokenizer, template)
