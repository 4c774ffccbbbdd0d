"""How a decoder-only model read its prompts: one training row with its tokens."""

from __future__ import annotations

import dataclasses

from sycophancy.errors import UserError
from sycophancy.report.run.record import RunRecord

_WORDS = {
    "template": "Prompts were filled into the model's chat template (CHAT is template): what the "
    "human says is the user's turn, and the words that begin the answer begin the assistant's.",
    "raw": "The model read prompts as the text they are, without a chat template (CHAT is raw).",
}


@dataclasses.dataclass(frozen=True)
class ReadRow:
    """A training row as the model read it.

    Attributes:
      words: a sentence on what CHAT was.
      context, answer: the texts of prompt and target.
      inputs, targets: their token ids; the loss is on the targets'.
    """

    words: str
    context: str
    answer: str
    inputs: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self.inputs) + len(self.targets)


def training_example(record: RunRecord) -> ReadRow | None:
    """The row that `prepare` left for the page; None for encoder-decoders.

    Raises:
      UserError: `prepare/summary.json` is not what prepare writes.
    """
    row = record.prepared.get("training_example")
    if row is None:
        return None
    try:
        inputs, targets = (tuple(map(int, row[name])) for name in ("inputs", "targets"))
        return ReadRow(
            _WORDS[row["chat"]], str(row["context"]), str(row["answer"]), inputs, targets
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"prepare/summary.json: training_example is not what prepare writes ({error!r}); "
            "prepare again"
        ) from None
