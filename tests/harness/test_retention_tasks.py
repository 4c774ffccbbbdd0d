"""MMLU and BIG-Bench Hard on real rows: as the harness answers them with the same weights."""

from __future__ import annotations

import numpy as np
import pytest

from sycophancy.data import retention_rows

pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra `harness`)")
from sycophancy.harness import retention

# Decoding of the harness counts the prompt into its limit; `max_length` is the one that it gives to
# transformers. Ours ignores it.
SHORT = {
    "until": ["</s>", "Q", "\n\n"],
    "max_gen_toks": 12,
    "max_length": 13,
    "do_sample": False,
    "temperature": 0.0,
}


def rows_of(real_data, family, few=None):
    if family == "mmlu":
        rows = retention_rows.read_mmlu(str(real_data / "hub"))
    else:
        names = retention.subjects("bbh")
        rows = retention_rows.read_bbh(None, str(real_data / "bbh"), names)
    return dict(list(rows.items())[:few])


def agree(both, tasks, rows, limit):
    """Both answer alike; returns how many rows and the largest difference."""
    overrides = {"generation_kwargs": SHORT} if tasks.family == "bbh" else {}
    ours = retention.ask(both.ours, tasks, rows, limit, **overrides)
    theirs = retention.ask(both.theirs, tasks, rows, limit, **overrides)
    assert [a.question for a in ours] == [a.question for a in theirs]
    assert [a.given for a in ours] == [a.given for a in theirs]
    assert [(a.answer, a.right) for a in ours] == [(a.answer, a.right) for a in theirs]
    if tasks.family == "bbh":
        return len(ours), 0.0
    differences = np.array([a.log_likelihoods for a in ours]) - [a.log_likelihoods for a in theirs]
    assert np.abs(differences).max() < 1e-3
    return len(ours), float(np.abs(differences).max())


def read_as_sentencepiece(both, monkeypatch) -> list[str]:
    """Gives the harness SentencePiece's tokens; the texts that transformers splits differently.

    Both use the same pieces there, in another order. Two splits of a run of underscores have equal
    scores, and the rounding of the scores before them decides. T5 was trained on SentencePiece's.
    """
    vocabulary, original = both.ours.model.vocabulary, both.theirs.tok_encode
    unlike = []

    def encode(text, add_special_tokens=None, **arguments):
        theirs = original(text, add_special_tokens=add_special_tokens, **arguments)
        ours = vocabulary.encode(text) + [vocabulary.eos_id] * (add_special_tokens is not False)
        assert sorted(ours) == sorted(theirs), text
        if ours != theirs:
            unlike.append(text)
        return ours

    monkeypatch.setattr(both.theirs, "tok_encode", encode)
    return unlike


@pytest.mark.extras
@pytest.mark.parametrize("tasks", retention.ALL_TASKS[:3], ids=lambda tasks: tasks.variant)
def test_answers_equal_the_harness_on_a_few_real_rows(both, real_data, tasks):
    agree(both, tasks, rows_of(real_data, tasks.family, few=1), limit=2)


@pytest.mark.extras
def test_of_equally_likely_splits_we_read_the_one_that_the_model_was_trained_on(
    both, real_data, monkeypatch
):
    rows = {"marketing": rows_of(real_data, "mmlu")["marketing"]}
    unlike = read_as_sentencepiece(both, monkeypatch)
    agree(both, retention.ALL_TASKS[0], rows, limit=1)
    assert unlike and all("________" in text for text in unlike)


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.parametrize("tasks", retention.ALL_TASKS, ids=lambda tasks: tasks.variant)
def test_answers_equal_the_harness_on_all_subjects_at_hand(both, real_data, tasks, monkeypatch):
    rows = rows_of(real_data, tasks.family)
    unlike = read_as_sentencepiece(both, monkeypatch)
    count, difference = agree(both, tasks, rows, limit=2 if tasks.family == "mmlu" else 5)
    assert count >= 20
    assert len(set(unlike)) <= 2 and all("________" in text for text in unlike)
    print(f"{tasks.variant}: {count} rows, {len(rows)} subjects, {difference:.1e} nats apart")


def test_all_subjects_are_known_and_those_of_the_mirror_are_among_them(real_data):
    known = retention.subjects("mmlu")
    assert (len(known), len(retention.subjects("bbh"))) == (57, 27)
    assert set(rows_of(real_data, "mmlu")) == set(known)
    assert set(rows_of(real_data, "bbh")) < set(retention.subjects("bbh"))
