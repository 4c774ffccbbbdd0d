"""Limits on items are exact, pairs are left out whole, and short texts need no tokens counted."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sycophancy.config.load import load_config
from sycophancy.evaluation.items import Item
from sycophancy.evaluation.limits import (
    EQUAL_CHOICES,
    MAX_CHOICE_TOKENS,
    MAX_PROMPT_TOKENS,
    PROMPT_LIMIT,
    LeftOut,
    in_words,
    longer_than,
    split_by_limits,
)
from sycophancy.model.vocabulary import Vocabulary


def letters(texts) -> np.ndarray:
    """One token per character, and the end of sequence."""
    return np.array([len(text) + 1 for text in texts])


def item(pair: str, condition="neutral", inputs="ask", choices=("a", "b"), task="t") -> Item:
    return Item(f"{task}/{pair}/{condition}", task, condition, pair, inputs, choices, 0)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(load_config("mini_base", "quick").model.vocabulary)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.lists(st.text(max_size=40), max_size=20), st.integers(1, 30))
def test_the_shortcut_for_short_texts_is_exact(
    vocabulary: Vocabulary, texts: list[str], limit: int
) -> None:
    def count(part) -> np.ndarray:
        return np.array([len(vocabulary.encode(text)) + 1 for text in part])

    exact = [len(vocabulary.encode(text)) + 1 > limit for text in texts]
    assert longer_than(texts, limit, count).tolist() == exact


@pytest.mark.parametrize("size", [MAX_PROMPT_TOKENS - 1, MAX_PROMPT_TOKENS])
def test_the_limit_itself_fits(size: int) -> None:
    kept, left_out = split_by_limits([item("p", inputs="x" * size)], letters)
    assert len(kept) == (size < MAX_PROMPT_TOKENS)
    expected = [LeftOut("scoring", "held-out items", "t", 1, 1, PROMPT_LIMIT)]
    assert left_out == ([] if kept else expected)


def test_free_text_may_have_any_lengths() -> None:
    uneven = item("1", choices=("a", "much longer"))
    free = dataclasses.replace(uneven, pair_id="2", free_text=True)
    kept, (left_out,) = split_by_limits([uneven, free], letters)
    assert kept == [free] and left_out.limit == EQUAL_CHOICES


def test_a_pair_is_left_out_whole_and_only_within_its_task() -> None:
    long = "x" * MAX_PROMPT_TOKENS
    items = [
        item("1"),
        item("1", "user_wrong", long),
        item("1", "user_right"),
        item("2"),
        item("1", task="other"),
        item("3", choices=("a", "bb")),
        item("3", "user_wrong", choices=("a", "b")),
        item("4", choices=("a" * MAX_CHOICE_TOKENS,)),
    ]
    kept, left_out = split_by_limits(items, letters)
    assert kept == [items[3], items[4]]
    assert {(entry.limit, entry.dropped, entry.of) for entry in left_out} == {
        (PROMPT_LIMIT, 3, 7),
        (EQUAL_CHOICES, 2, 7),
        (f"{MAX_CHOICE_TOKENS:,} tokens of choices", 1, 7),
    }


def test_formats_of_choices_are_checked_by_the_evaluation() -> None:
    uneven = item("1", choices=("yes", "no"), task="addition_formats/yes_no")
    assert split_by_limits([uneven], letters) == ([uneven], [])


def test_the_largest_counts_are_named_first_and_small_shares_are_not_shown_as_zero() -> None:
    entries = [LeftOut("training", "claims", f"set{n}", n, 50, "9 tokens") for n in range(1, 6)]
    assert in_words(entries, {"claims": 100_000}) == [
        "claims: 15 of 100,000 (under 0.1%) are left out of training, limit 9 tokens"
        " (set5 5 of 50, set4 4 of 50, set3 3 of 50, and 2 more)"
    ]


def test_a_note_is_one_line_whatever_a_task_is_called() -> None:
    entry = LeftOut("training", "instructions", "a\n\x1b[31mb" + "c" * 500, 1, 2, "9 tokens")
    (line,) = in_words([entry], {"instructions": 2})
    assert line.isprintable() and len(line) < 200
