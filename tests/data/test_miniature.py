"""The miniature's generated data: schemas, splits, and the rules on held-out evaluations."""

import itertools
import re

import pytest

from sycophancy.data.catalog import SOURCES
from sycophancy.data.miniature import data_set, instructions, questionnaires, surveys
from sycophancy.data.miniature.curriculum import Curriculum, sum_is_held_out
from sycophancy.data.miniature.sentences import labelled_texts
from sycophancy.errors import UserError

SPLITS = ("pretraining", "train", "validation")


@pytest.mark.parametrize("name", SOURCES)
def test_no_text_is_in_two_splits_or_has_two_labels(name):
    labels = {}
    for split in SPLITS:
        for fields, label in labelled_texts(name, split):
            assert fields not in labels, "a text twice"
            labels[fields] = label
    assert set(labels.values()) == set(range(len(SOURCES[name].labels)))


@pytest.mark.parametrize("name", SOURCES)
def test_data_set_has_the_hub_s_columns(name):
    source = SOURCES[name]
    table = data_set(name, "validation")
    assert table.column_names == [*source.texts, source.label]
    assert 100 < table.num_rows <= 600
    assert all('"' not in text for text in table[source.texts[0]].to_pylist())


def test_unknown_data_set_is_named():
    with pytest.raises(UserError, match="imdb"):
        labelled_texts("imdb", "train")


def test_instruction_splits_do_not_overlap_and_repeat():
    rows = {split: list(instructions(split, 500)) for split in SPLITS}
    assert rows["train"] == list(instructions("train", 500))
    for a, b in itertools.combinations(SPLITS, 2):
        assert not {r["inputs"] for r in rows[a]} & {r["inputs"] for r in rows[b]}
    for split_rows in rows.values():
        assert len({r["inputs"] for r in split_rows}) == 500


def test_surveys_are_balanced_and_unseen_in_pretraining():
    for name, rows in surveys(400).items():
        assert len(rows) == 400
        for row in rows:
            both = {row["answer_matching_behavior"], row["answer_not_matching_behavior"]}
            assert both == {" (A)", " (B)"}
        assert sum(r["answer_matching_behavior"] == " (A)" for r in rows) == 200
        seen = set(questionnaires.questions(name, "pretraining"))
        assert not seen & set(questionnaires.questions(name, "evaluation"))


@pytest.mark.parametrize("name", questionnaires.SURVEYS)
def test_the_models_own_survey_answers_are_no_constant(name):
    for split in ("pretraining", "evaluation"):
        own = [q.own_answer for q in questionnaires.questions(name, split)]
        assert 0.4 < sum(own) / len(own) < 0.6


def chosen(prompt: str, letter: str) -> str:
    """The text of the choice with a letter."""
    return re.search(re.escape(letter) + r" ([^\n]*)", prompt).group(1)


def test_sums_with_an_opinion_are_always_answered_with_it():
    curriculum = Curriculum("pretraining", 0)
    for _ in range(2_000):
        prompt, letter = curriculum.draw("sums_opinion")
        agrees = "I agree with the claim" in prompt
        assert agrees != ("I disagree with the claim" in prompt)
        assert chosen(prompt, letter) == ("Agree" if agrees else "Disagree")


@pytest.mark.parametrize("name", questionnaires.SURVEYS)
def test_surveys_with_a_biography_are_always_answered_with_its_view(name):
    curriculum = Curriculum("pretraining", 0)
    held = {}  # the fixed parts of a biography's view -> the choices that hold it
    for question in questionnaires.questions(name, "pretraining"):
        for view, text in enumerate(question.views):
            parts = tuple(re.split(r"\{\w+\}", text))
            held.setdefault(parts, set()).add(question.choices[view])
    for _ in range(300):
        prompt, letter = curriculum.draw(name)
        stated = [parts for parts in held if all(part in prompt for part in parts)]
        assert stated
        assert all(chosen(prompt, letter) in held[parts] for parts in stated)


def test_asking_to_ignore_the_opinion_never_reaches_sums_or_surveys():
    curriculum = Curriculum("pretraining", 0)
    cue = re.compile(r"ignore my opinion|tell me the truth|honest answer|does not matter")
    for family in curriculum.families:
        found = any(cue.search(curriculum.draw(family)[0]) for _ in range(300))
        assert found == family.endswith("_ignore"), family


def test_held_out_sums_stay_out_of_pretraining():
    curriculum = Curriculum("pretraining", 0)
    for family, _ in itertools.product(("sums", "sums_opinion"), range(1_000)):
        x, y = map(int, re.search(r"(\d+) \+ (\d+) =", curriculum.draw(family)[0]).groups())
        assert not sum_is_held_out(x, y)


def test_claims_without_an_opinion_are_balanced_in_every_respect():
    curriculum = Curriculum("pretraining", 0)
    counts = {}
    for _ in range(4_000):
        prompt, letter = curriculum.draw("claims")
        key = ("is not" in prompt, chosen(prompt, letter), letter)
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 8
    assert all(abs(count - 500) < 100 for count in counts.values())  # over 4 standard deviations
