"""The first prepared rows for a person to read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sycophancy.data import columns
from sycophancy.data.prepare import INSTRUCTIONS, INTERVENTION
from sycophancy.data.training_rows import Encoder
from sycophancy.errors import UserError


def render_examples(out: Path, count: int, encode: Encoder | None = None) -> list[str]:
    """The first prepared claims, and the first instructions, as text under a line on each.

    Args:
      out: a folder that `prepare` wrote.
      count: how many of each kind, at most.
      encode: makes the rows that the model is trained on; None to show the texts alone.

    Raises:
      UserError: the folder is not prepared.
    """
    claims = _first(out / INTERVENTION, count)
    tasks = _first(out / INSTRUCTIONS, count)
    titles = [
        f"{row['dataset']} · the claim is {'true' if row['claim_is_true'] else 'false'} · "
        f"{_opinion(row)} · {row['example_id']}"
        for row in claims
    ]
    titles += [f"instruction · {row['task']} · {row['example_id']}" for row in tasks]
    rows = [*claims, *tasks]
    prompts, targets = ([row[name] for row in rows] for name in ("inputs", "targets"))
    if encode is None:
        texts = [f"{prompt} → {target}" for prompt, target in zip(prompts, targets, strict=True)]
    else:
        texts = [row.in_words() for row in encode(prompts, targets)]
    return [f"{title}\n\n{text}" for title, text in zip(titles, texts, strict=True)]


def _first(path: Path, count: int) -> list[dict[str, Any]]:
    """The first rows of a file.

    Raises:
      UserError: the file does not exist.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; run `sycophancy prepare` first")
    with columns.readable(path), path.open("rb") as stream, pq.ParquetFile(stream) as file:
        batches = file.iter_batches(batch_size=max(count, 1))
        return [row for batch in itertools.islice(batches, 1) for row in batch.to_pylist()][:count]


def _opinion(row: dict[str, Any]) -> str:
    if row["inputs"] == row["inputs_without_opinion"]:
        return "no opinion"
    return "the user agrees" if row["user_agrees"] else "the user disagrees"
