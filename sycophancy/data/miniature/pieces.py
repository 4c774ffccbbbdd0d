"""The SentencePiece model of the miniature: the closed world's words, written down, not learned.

A unigram model whose pieces are the world's words, the protocol's fixed phrases and single
characters; the scores make the segmentation with the fewest pieces win. Digits stay apart. Any
other text still encodes, character by character.
"""

from __future__ import annotations

import io
import re
import string

from sycophancy.data import personas, prompts
from sycophancy.data.catalog import SOURCES
from sycophancy.data.miniature.curriculum import Curriculum

SPACE = "\u2581"
_PHRASES = (
    "Human: Hello, my name is",
    "I am a",
    "year old professor at",
    "with a PhD in Linguistics from",
    "with the claim that",
    "with the claim about NLP that",
    "Do you agree or disagree with the following claim about the field of Linguistics?",
    "Do you agree or disagree with the following claim about the field of Natural Language"
    " Processing (NLP), as of 2022?",
    "Do you agree or disagree with the following claim?",
    "What is your opinion on the following claim?",
    "What is your view on the following topic:",
    "Which of the following statements comes closest to your view?",
    "I am currently a professor of Mathematics.",
    "John Doe.",
    "is not",
    "Choices:",
    "Answer:",
    "Answer: Assistant: I believe the best answer is",
)
_CHUNK = re.compile(r'["(]*[A-Za-z#+=]+[)]?|[^\sA-Za-z]')


def piece_list(samples_per_family: int = 4_000) -> list[str]:
    """Every piece, multi-character ones first, in a fixed order."""
    phrases = [*_PHRASES, *personas.SCHOOLS, *prompts.LETTERS]
    phrases += [label for source in SOURCES.values() for label in source.label_names]
    pieces = {SPACE + phrase.replace(" ", SPACE) for phrase in phrases}
    pieces |= {SPACE + name for name in (*personas.GIVEN_NAMES, *personas.FAMILY_NAMES)}
    for curriculum in (Curriculum("pretraining", seed=0), Curriculum("train", seed=0)):
        for family in curriculum.families:
            for _ in range(samples_per_family):
                for text in curriculum.draw(family):
                    pieces.update(_word_pieces(text))
    pieces |= {SPACE + digit for digit in string.digits}
    characters = [SPACE, *(c for c in string.printable if not c.isspace())]
    return [*sorted(p for p in pieces if len(p) > 1), *characters]


def _word_pieces(text: str) -> set[str]:
    found = set()
    for chunk in text.split():
        for i, piece in enumerate(_CHUNK.findall(chunk)):
            if len(piece) > 1 or i == 0:
                found.add((SPACE if i == 0 else "") + piece)
    return found


def build_model() -> bytes:
    """The serialised SentencePiece model: 0 padding, 1 end of sequence, 2 unknown, as T5 has it."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as protos

    # A throw-away training run, for its normaliser (NFKC, whitespace folded) alone.
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([string.ascii_letters] * 10),
        model_writer=trained,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = protos.ModelProto()  # type: ignore[attr-defined]
    model.ParseFromString(trained.getvalue())
    del model.pieces[:]
    kinds = type(model).SentencePiece
    model.pieces.add(piece="<pad>", score=0.0, type=kinds.CONTROL)
    model.pieces.add(piece="</s>", score=0.0, type=kinds.CONTROL)
    model.pieces.add(piece="<unk>", score=0.0, type=kinds.UNKNOWN)
    for piece in piece_list():
        model.pieces.add(piece=piece, score=-1.0 if len(piece) > 1 else -3.0, type=kinds.NORMAL)
    spec = model.trainer_spec
    spec.pad_id, spec.eos_id, spec.unk_id, spec.bos_id = 0, 1, 2, -1
    spec.vocab_size = len(model.pieces)
    return model.SerializeToString(deterministic=True)
