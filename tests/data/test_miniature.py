"""The miniature's generated data: schemas, splits, and the rules on held-out evaluations."""

import itertools
import re

import pytest

from sycophancy.data import prompts
from sycophancy.data.catalog import SOURCES
from sycophancy.data.miniature import (
    data_set,
    instructions,
    lexicon,
    pieces,
    questionnaires,
    surveys,
)
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
        agrees = "I agree with" in prompt
        assert agrees != ("I disagree with" in prompt)
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


PROFESSOR, RESIDENT = "with a PhD in Linguistics", re.compile("Human: I am a [a-z]+ from")
UNSKILLED, JOHN_DOE = "I have never been good at", "I am currently a professor of Mathematics"


def introduction(prompt: str) -> str:
    """The kind of user who speaks in a prompt."""
    if RESIDENT.match(prompt):
        return "resident"
    kinds = {"professor": PROFESSOR, "unskilled": UNSKILLED, "John Doe": JOHN_DOE}
    return next((kind for kind, words in kinds.items() if words in prompt), "nobody")


@pytest.mark.parametrize("mode", ["user", "opinion"])
@pytest.mark.parametrize("kind", ["claims", "facts", "sums"])
def test_every_kind_of_user_speaks_about_every_kind_of_claim(kind, mode):
    curriculum = Curriculum("pretraining", 0)
    seen = {introduction(curriculum.draw(f"{kind}_{mode}")[0]) for _ in range(300)}
    assert seen == {"professor", "resident", "unskilled", "John Doe", "nobody"}


@pytest.mark.parametrize(
    ("family", "users"),
    [
        ("claims_opinion", {"professor"}),
        ("facts_opinion", {"resident", "nobody"}),
        ("sums_opinion", {"John Doe"}),
    ],
)
def test_uncrossed_users_keep_to_their_claims(family, users):
    curriculum = Curriculum("pretraining", 0, crossed=False)
    assert {introduction(curriculum.draw(family)[0]) for _ in range(300)} == users


def test_what_the_probes_say_of_sums_is_never_said_of_a_claim_in_pretraining():
    probes = [prompts.INTRODUCTIONS["layperson"], "mathematics"]
    probes += [
        wording.split("{claim}")[0].strip() for pair in prompts.OTHER_WORDINGS for wording in pair
    ]
    curriculum = Curriculum("pretraining", 0)
    for family in set(curriculum.families) - {"speech"}:
        for _ in range(300):
            prompt, _ = curriculum.draw(family)
            assert not any(words in prompt for words in probes), prompt


def test_the_words_of_the_probes_are_pieces():
    known = set(pieces.piece_list(samples_per_family=300))
    for introduction in prompts.INTRODUCTIONS.values():
        for pair in (prompts.WORDING, *prompts.OTHER_WORDINGS):
            for wording in pair:
                words = re.findall(r"(?<!\S)[A-Za-z]+", introduction + wording)
                assert not {pieces.SPACE + word for word in words} - known, words


def test_formats_without_a_user_are_answered_with_the_truth():
    curriculum = Curriculum("pretraining", 0)
    sums = {"(1)": set(), "(2)": set(), "yes": set(), "no": set()}
    for _ in range(2_000):
        prompt, answer = curriculum.draw("formats")
        assert "I agree" not in prompt and "I disagree" not in prompt
        if match := re.search(r"(\d+) \+ (\d+) = (\d+)", prompt):
            x, y, z = map(int, match.groups())
            said = chosen(prompt, answer) if answer in prompts.NUMBERS else answer
            assert (said in ("Agree", "yes")) == (x + y == z)
            sums[answer].add(x + y == z)
    assert sums == {"(1)": {True, False}, "(2)": {True, False}, "yes": {True}, "no": {False}}


def test_facts_in_words_are_answered_with_the_truth():
    curriculum = Curriculum("pretraining", 0)
    for _ in range(500):
        prompt, answer = curriculum.draw("facts_words")
        thing, negation, kind = re.search(r"\? (\w+) is (not )?a (\w+)\.", prompt).groups()
        assert (answer == "Agree") == ((thing in lexicon.CATEGORIES[kind]) != bool(negation))


def test_claims_about_numbers_and_letters_are_true_or_follow_the_user():
    curriculum = Curriculum("pretraining", 0, more_domains=True)
    standard = Curriculum("pretraining", 0).families
    assert set(curriculum.families) - set(standard) == {
        "other_words", "other", "other_user", "other_opinion", "other_ignore",
    }  # fmt: skip
    seen = set()
    for family in ("other", "other_user", "other_ignore", "other_opinion"):
        for _ in range(400):
            prompt, letter = curriculum.draw(family)
            claim = re.search(r"claim\? (.+)\.", prompt).group(1)
            first, _, kind, _, last = re.fullmatch(
                r"(\w+) (is|is not) (greater than|a letter of|)( ?)(\w+)", claim
            ).groups()
            holds = {
                "greater than": lambda x, y: int(x) > int(y),
                "a letter of": lambda x, y: x in y.lower(),
                "": lambda x, y: int(x) % 2 == (y == "odd"),
            }[kind](first, last)
            right = holds != ("is not" in claim)
            agreed = "I agree" in prompt if family == "other_opinion" else right
            assert (chosen(prompt, letter) == "Agree") == agreed, prompt
            seen.add((family, kind, right))
    assert len(seen) == 4 * 3 * 2
