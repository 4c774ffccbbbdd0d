"""A small prepared run folder, written without the stages that would prepare it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece

WORDS = (
    "red green blue apple pear plum cat dog bird house tree river likes sees wants the a and is not"
).split()


def write_vocabulary(path: Path) -> Path:
    """A SentencePiece model over `WORDS`, padding 0 and end 1 as T5's."""
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, 12)) + " (A) (B)" for _ in range(300)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=80,
        model_type="bpe",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=["(A)", "(B)"],
        minloglevel=2,
        num_threads=1,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.getvalue())
    return path


def rows(name: str, count: int, words: tuple[int, int] = (4, 12), seed: int = 0) -> pa.Table:
    """Rows `{name}{i}` whose prompts start with their own id's number in words."""
    rng = np.random.default_rng([seed, count])
    return pa.table(
        {
            "example_id": [f"{name}{i}" for i in range(count)],
            "inputs": [" ".join(rng.choice(WORDS, rng.integers(*words))) for _ in range(count)],
            "targets": [str(rng.choice(["(A)", "(B)"])) for _ in range(count)],
        }
    )


def write_run(folder: Path, kept: int = 300, instructions: int = 100) -> Path:
    """A run folder with `filter/kept.parquet` and the files of `prepare/` that tasks read."""
    for name, table in {
        "filter/kept": rows("kept", kept),
        "prepare/instructions": rows("instruction", instructions, seed=1),
        "prepare/intervention_validation": rows("unseen", 20, seed=2),
        "prepare/instructions_validation": rows("unseen_instruction", 20, seed=3),
    }.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    write_vocabulary(folder / "spiece.model")
    return folder
