"""Questions are drawn whole, by seed and content."""

import itertools

from sycophancy.data import addition
from sycophancy.data.question_draws import draw_questions

SUMS = list(itertools.islice(addition.build_items(0), 60))


def test_a_draw_keeps_whole_questions_and_depends_on_the_seed():
    sample = draw_questions(SUMS, 5, 0, "x")
    assert len(sample) == 15
    assert len({item.pair_id for item in sample}) == 5
    assert draw_questions(SUMS[::-1], 5, 0, "x") == sample[::-1]
    assert draw_questions(SUMS, 5, 1, "x") != sample
    assert draw_questions(SUMS, 99, 0, "x") == SUMS
