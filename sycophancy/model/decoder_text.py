"""Texts as a decoder-only model reads them: its tokenizer, its chat template, and where they meet.

The rules are those of the lm-evaluation-harness for causal models, so that log-likelihoods are
equal to its own: a choice follows its prompt after one space; white space at the end of a prompt
belongs to the choice; the prompt's tokens are those of the prompt alone; the tokenizer's own start
of sequence comes first, unless the text has it already; and no end of sequence is added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from sycophancy.errors import UserError
from sycophancy.evaluation.conversation import parse
from sycophancy.model import decoders, locations

Chat = Literal["auto", "yes", "no"]
Tokens = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class DecoderText:
    """A tokenizer, and whether prompts go through its chat template.

    Attributes:
      tokenizer: of `transformers`.
      chat: True to fill the template with a prompt's turns, False to use the prompt as it is.
      start: the tokens that the tokenizer puts before every text: its start of sequence, or none.
    """

    tokenizer: Any
    chat: bool
    start: Tokens

    def count_tokens(self, texts: Sequence[str]) -> Int[np.ndarray, " texts"]:
        """The number of tokens of each text and the start of sequence, without a template's."""
        return np.array([len(ids) + len(self.start) for ids in self._plain(texts)], int)

    def contexts(self, prompts: Sequence[str]) -> list[str]:
        """Each prompt as the model reads it: as it is, or its turns in the chat template.

        The words with which a prompt begins the assistant's answer, such as "I believe the best
        answer is", begin it in the template, too.

        Raises:
          UserError: the template cannot be filled with such turns.
        """
        return [self._in_template(prompt) if self.chat else prompt for prompt in prompts]

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
        tokens = []
        for choice, whole, start in zip(choices, wholes, context_tokens, strict=True):
            # A token may join the context and a short choice; the choice then stands alone.
            tokens.append(whole[len(start) :] or tuple(self._plain([choice])[0]))
        return tokens

    def encode_prompts(self, contexts: Sequence[str]) -> list[Tokens]:
        """The tokens of each context as text is written after it: with all white space."""
        return self._encode(contexts)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _encode(self, texts: Sequence[str]) -> list[Tokens]:
        bos = self.tokenizer.bos_token
        return [
            tuple(ids) if bos and text.startswith(bos) else (*self.start, *ids)
            for text, ids in zip(texts, self._plain(texts), strict=True)
        ]

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def _in_template(self, prompt: str) -> str:
        conversation = parse(prompt)
        messages = [{"role": turn.role, "content": turn.text} for turn in conversation.turns]
        if conversation.prefix:
            messages.append({"role": "assistant", "content": conversation.prefix})
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                continue_final_message=bool(conversation.prefix),
                add_generation_prompt=not conversation.prefix,
            )
        except Exception as error:  # the template is the model's own, and may raise anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"the model's chat template cannot be filled with a prompt of "
                f"{len(messages)} turns: {reason}; --chat no asks without it"
            ) from None
        return text


def _spaced(context: str, choice: str) -> str:
    return choice if context[-1:].isspace() or choice[:1].isspace() else f" {choice}"


def load_text(name: str, chat: Chat) -> DecoderText:
    """The tokenizer of a decoder-only model.

    Args:
      name: a local folder or `hf:owner/name`.
      chat: `auto` uses the chat template if there is one, `yes` needs one, `no` uses none.

    Raises:
      UserError: `transformers` is missing, the tokenizer cannot be read, or it has no template
        where one is needed.
    """
    decoders.check_libraries()
    from transformers import AutoTokenizer

    folder = locations.local(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the library raises many classes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{name}: transformers cannot read its tokenizer: {reason}") from None
    has_template = bool(tokenizer.chat_template)
    if chat == "yes" and not has_template:
        raise UserError(f"CHAT = 'yes': {name} has no chat template; set CHAT to auto or no")
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    before = next(
        (n for n in range(len(framed)) if framed[n : n + len(plain)] == plain), len(framed)
    )
    return DecoderText(tokenizer, has_template and chat != "no", tuple(framed[:before]))
