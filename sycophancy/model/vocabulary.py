"""A SentencePiece vocabulary without TensorFlow, with the same ids as SeqIO's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from etils import epath

from sycophancy.data.training_rows import TrainingRow
from sycophancy.errors import UserError
from sycophancy.model import locations

if TYPE_CHECKING:
    import sentencepiece

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # stands for a space in pieces


class Vocabulary:
    """The SentencePiece model of a T5; its padding is 0, its end of sequence usually 1.

    Args:
      path: the `.model` file, local, `gs://` or `hf:owner/name/file.model`.

    Raises:
      UserError: the file is missing or is not a SentencePiece model.
    """

    def __init__(self, path: str) -> None:
        self.path = str(path)
        self._model = _load(self.path)

    @property
    def pad_id(self) -> int:
        return 0

    @property
    def eos_id(self) -> int:
        eos_id: int = self._model.eos_id()
        return eos_id

    @property
    def size(self) -> int:
        """The number of pieces; the network's embedding may have more rows."""
        size: int = self._model.get_piece_size()
        return size

    def piece_id(self, piece: str) -> int | None:
        """The id of a piece; None if the vocabulary does not have it."""
        piece_id: int = self._model.piece_to_id(piece)
        return None if piece_id == self._model.unk_id() else piece_id

    def keeps_line_breaks(self) -> bool:
        """Whether texts can have line breaks; T5's SentencePiece models read them as spaces."""
        return "\n" in self.decode(self.encode("a\nb"))

    def spans_words(self) -> bool:
        """Whether a piece holds several words, which transformers' T5 tokenizer does not allow."""
        pieces = (self._model.id_to_piece(i) for i in range(self.size))
        return any(_SPACE in piece.strip(_SPACE) for piece in pieces)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without the end of sequence."""
        ids: list[int] = self._model.encode(text)
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once."""
        ids: list[list[int]] = self._model.encode(list(texts))
        return ids

    def training_rows(self, prompts: Sequence[str], targets: Sequence[str]) -> list[TrainingRow]:
        """Rows to train an encoder-decoder on; the end of sequence ends prompts and targets."""
        end = self._model.id_to_piece(self.eos_id)
        texts = zip(prompts, targets, strict=True)
        ids = zip(self.encode_batch(prompts), self.encode_batch(targets), strict=True)
        return [
            TrainingRow(prompt, target + end, (*inputs, self.eos_id), (*written, self.eos_id))
            for (prompt, target), (inputs, written) in zip(texts, ids, strict=True)
        ]

    def pieces(self, texts: Sequence[str]) -> list[list[str | None]]:
        """The pieces of each text; None where the vocabulary has no piece for a character."""
        unknown = self._model.unk_id()
        return [
            [None if i == unknown else self._model.id_to_piece(i) for i in ids]
            for ids in self.encode_batch(texts)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids. SentencePiece has turned the line breaks of a text into spaces."""
        text: str = self._model.decode([int(i) for i in ids])
        return text


@lru_cache(maxsize=8)
def _load(path: str) -> sentencepiece.SentencePieceProcessor:
    """The SentencePiece model of a file.

    Raises:
      UserError: the file is missing or is not the vocabulary of a T5.
    """
    import sentencepiece

    try:
        proto = locations.read_small(epath.Path(locations.local(path)))
    except FileNotFoundError:
        raise UserError(
            f"vocabulary {path}: no such file; set VOCABULARY to a .model file"
        ) from None
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=proto) if proto else None
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"vocabulary {path}: not a SentencePiece model ({reason})") from None
    if model is None or model.get_piece_size() == 0:
        raise UserError(f"vocabulary {path}: it is empty; copy it again")
    if model.pad_id() != 0 or model.eos_id() < 1:
        raise UserError(
            f"vocabulary {path}: padding is {model.pad_id()} and the end {model.eos_id()}; a T5's "
            "vocabulary has padding at 0 and an end of sequence"
        )
    return model
