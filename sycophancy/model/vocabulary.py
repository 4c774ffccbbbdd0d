"""SentencePiece without TensorFlow, with the ids that SeqIO's vocabulary gives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from etils import epath

from sycophancy.errors import UserError


class Vocabulary:
    """A T5-style SentencePiece model: padding is 0, end of sequence as the model says (1).

    Args:
      path: the `.model` file, local or `gs://`.

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
        return self._model.eos_id()

    @property
    def size(self) -> int:
        """Pieces in the model; the network's embedding may have more rows."""
        return self._model.get_piece_size()

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without the end of sequence."""
        return self._model.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once."""
        return self._model.encode(list(texts))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; line breaks come back as spaces, which SentencePiece folds."""
        return self._model.decode([int(i) for i in ids])


@lru_cache(maxsize=8)
def _load(path: str):
    import sentencepiece

    try:
        proto = epath.Path(path).read_bytes()
        return sentencepiece.SentencePieceProcessor(model_proto=proto)
    except FileNotFoundError:
        raise UserError(
            f"vocabulary {path}: no such file; set VOCABULARY to a .model file"
        ) from None
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"vocabulary {path}: not a SentencePiece model ({reason})") from None
