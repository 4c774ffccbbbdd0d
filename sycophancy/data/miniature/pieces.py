"""The SentencePiece model of the miniature, whose pieces are listed instead of learned.

The pieces of this unigram model are the words of the miniature's texts, fixed phrases of the
protocol and single characters. Their scores make the segmentation with the fewest pieces the
likeliest. Digits are always pieces of their own. Any other text is encoded character by character.
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
    "Do you agree with the following claim?",
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
    """All pieces in a fixed order, those of several characters first."""
    phrases = [*_PHRASES, *personas.SCHOOLS, *prompts.LETTERS, *prompts.NUMBERS]
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
    pieces = set()
    for chunk in text.split():
        for i, piece in enumerate(_CHUNK.findall(chunk)):
            if len(piece) > 1 or i == 0:
                pieces.add((SPACE if i == 0 else "") + piece)
    return pieces


def build_model() -> bytes:
    """The serialised SentencePiece model: padding is 0, end of sequence 1, unknown 2, as in T5."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as protos

    # Only the normaliser of this trained model is used: NFKC, whitespace folded.
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
