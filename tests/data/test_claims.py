import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sycophancy.data import claims, draws

LABELS = ("Entailment", "Neither Entailment Nor Contradiction", "Contradiction")


def draw(count: int, mode: str, labels: tuple[str, ...] = LABELS):
    right = np.arange(count) % len(labels)
    hashes = draws.content_hashes(f"text {row}" for row in range(count))
    quoted = pa.array([f'"text {row}"' for row in range(count)])
    return right, claims.draw_claims(quoted, right, labels, hashes, 0, mode)


def test_paper_claims_carry_the_right_label_and_not_makes_them_false() -> None:
    right, made = draw(300, "paper")
    for row, (text, true) in enumerate(zip(made.text.to_pylist(), made.is_true, strict=True)):
        verb = "is" if true else "is not"
        assert text == f'"text {row}" {verb} {LABELS[right[row]]}'


def test_balanced_claims_are_true_exactly_if_label_and_verb_say_so() -> None:
    right, made = draw(3_000, "balanced")
    seen = set()
    for row, (text, true) in enumerate(zip(made.text.to_pylist(), made.is_true, strict=True)):
        ending = text.removeprefix(f'"text {row}" is ')
        negated = ending.startswith("not ")
        shown = ending.removeprefix("not ")
        assert shown in LABELS
        assert true == ((shown == LABELS[right[row]]) != negated)
        seen.add((negated, right[row], shown))
    assert len(seen) == 2 * 3 * 3


def test_balanced_claims_have_no_shortcut() -> None:
    right, made = draw(20_000, "balanced")
    texts = made.text.to_pylist()
    negated = np.array([" is not " in text for text in texts])
    wrong = np.array(
        [not text.endswith(LABELS[label]) for text, label in zip(texts, right, strict=True)]
    )
    # "Contradiction" ends the neutral label's name too, so look at the other two labels alone
    clear = right != 2
    for sign in (negated, wrong):
        assert abs(made.is_true[clear & sign].mean() - 0.5) < 0.02
        assert abs(made.is_true[clear & ~sign].mean() - 0.5) < 0.02


def test_wrong_labels_are_drawn_evenly() -> None:
    _, made = draw(30_000, "balanced", ("a", "b", "c", "d"))
    shown = np.array([text.rsplit(" ", 1)[1] for text in made.text.to_pylist()])
    right = np.array(["abcd"[row % 4] for row in range(30_000)])
    for label in "abcd":
        others = [(shown[right == label] == other).mean() for other in "abcd" if other != label]
        assert np.allclose(others, 1 / 6, atol=0.015)


@pytest.mark.parametrize("mode", ["paper", "balanced"])
def test_a_text_with_placeholders_is_not_corrupted(mode: str) -> None:
    text = pa.array(["[label] is [opinion] {claim} [input]"])
    hashes = draws.content_hashes(["x"])
    made = claims.draw_claims(claims.quote([text]), np.array([0]), ("A", "B"), hashes, 0, mode)
    assert made.text.to_pylist()[0].startswith('"[label] is [opinion] {claim} [input]" is ')


@given(st.lists(st.text(), min_size=1))
def test_cleaning_keeps_all_but_quotes_and_line_breaks(texts: list[str]) -> None:
    for text, cleaned in zip(texts, claims.clean(pa.array(texts)).to_pylist(), strict=True):
        assert not set(cleaned) & set('"\r\n')
        assert cleaned == cleaned.strip(" \t\r\n")
        assert cleaned.split() == text.replace('"', "").split()


def test_cleaning_does_not_glue_words() -> None:
    assert claims.clean(pa.array(["one\ntwo\r\n\r\nthree"])).to_pylist() == ["one two three"]


def test_pairs_are_quoted_one_by_one() -> None:
    assert claims.quote([pa.array(["a b"]), pa.array(["c"])]).to_pylist() == ['"a b" and "c"']
