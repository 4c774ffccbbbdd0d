"""Rows as a model is trained on them: their texts and their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

# The features of a batch of a decoder-only model, each int32 [rows, length].
DECODER_FEATURES = (
    "decoder_input_tokens",
    "decoder_target_tokens",
    "decoder_loss_weights",
    "decoder_segment_ids",
    "decoder_positions",
)


class TrainingRow(NamedTuple):
    """A row as a model is trained on it.

    Attributes:
      context: the prompt as the model reads it.
      answer: the target as the model learns it, with the text of the token that ends it.
      inputs: the token ids of the context.
      targets: the token ids of the answer, which have the loss.
    """

    context: str
    answer: str
    inputs: tuple[int, ...]
    targets: tuple[int, ...]

    def in_words(self) -> str:
        """The text, and all token ids in one line, those with loss in brackets.

        >>> print(TrainingRow("Is it?", "No</s>", (5, 9), (7, 1)).in_words())
        Is it? → No</s>
        <BLANKLINE>
        4 tokens, the loss is on the 2 in brackets: 5 9 [7 1]
        """
        inputs, targets = (" ".join(map(str, ids)) for ids in (self.inputs, self.targets))
        total, learnt = len(self.inputs) + len(self.targets), len(self.targets)
        return (
            f"{self.context} → {self.answer}\n\n"
            f"{total} tokens, the loss is on the {learnt} in brackets: {inputs} [{targets}]"
        )


Encoder = Callable[[Sequence[str], Sequence[str]], Sequence[TrainingRow]]  # of prompts and targets
