"""A plan holds every question once, in few shapes that waste little."""

import random

import numpy as np
import pytest

from sycophancy.scoring import batching
from sycophancy.scoring.batching import Question


def questions(count: int) -> list[Question]:
    draw = random.Random(0)
    tokens = np.arange(100, dtype=np.int32)
    return [
        Question(
            tokens[: draw.randint(1, 60)],
            {str(i): tokens[: draw.randint(1, 5)] for i in range(draw.randint(1, 4))},
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("length", [1, 4, 5, 6, 7, 8, 9, 13, 33, 45, 49, 2048, 2049])
def test_rounded_lengths_hold_the_row_and_waste_at_most_half(length):
    assert length <= batching.rounded(length) <= max(4, 1.5 * length)
    assert batching.rounded(batching.rounded(length)) == batching.rounded(length)


def test_a_plan_holds_every_question_once_in_few_shapes():
    asked = questions(400)
    batches = list(batching.plan(asked, 8, 256, 48))
    planned = [id(question) for _, _, batch in batches for question in batch]
    assert sorted(planned) == sorted(map(id, asked))
    assert len({(shape, rows) for shape, rows, _ in batches}) == len({s for s, _, _ in batches})
    for shape, rows, batch in batches:
        assert len(batch) <= rows and rows % 8 == 0
        assert all(q.shape[0] <= shape[0] and q.shape[1] <= shape[1] for q in batch)


def test_large_logits_make_small_batches():
    [(_, few, _), *_] = batching.plan(questions(400), 1, 2_048, 32_128)
    [(_, many, _), *_] = batching.plan(questions(400), 1, 2_048, 512)
    assert few < many


def test_shapes_are_merged_only_where_padding_is_cheaper_than_compiling(monkeypatch):
    few, many = [object()] * 3, [object()] * 1_000
    buckets = {(32, 4): few, (48, 4): many, (64, 4): few, (32, 8): many}
    monkeypatch.setattr(batching, "COMPILATION", 1_000)
    left = batching.merged(buckets)
    assert {shape: len(bucket) for shape, bucket in left.items()} == {
        (48, 4): 1_000,
        (64, 4): 3,
        (32, 8): 1_003,
    }
