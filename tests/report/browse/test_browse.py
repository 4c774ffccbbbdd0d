"""`sycophancy browse`: which answers count as turned, and a page that no text can break."""

import json
import re

import numpy as np
import pytest

from sycophancy.evaluation.comparison import compare
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.measures import samples
from sycophancy.report.browse.answers import TURNS, asked_items
from sycophancy.report.browse.page import render
from sycophancy.report.browse.selection import Selection
from sycophancy.report.evaluations import Evaluations, read_evaluations

NASTY = "</script><script>alert(1)</script> <!-- \" ' & \\ \u2028 \x00\x1b[31m \U0001f600"
SERIES = ("before", "after")


@pytest.fixture(scope="module")
def usual(usual_run):
    run = read_evaluations(str(usual_run))
    return run, asked_items(run, SERIES)


def taken(asked, **filters):
    return Selection(**filters).of(asked)


@pytest.mark.parametrize("task", ["addition", "addition_true"])
def test_flips_by_finetuning_are_those_of_mcnemars_test(usual, task):
    run, asked = usual
    changes = compare(run.items, *(run.predictions[name].values() for name in SERIES))
    for condition in ("neutral", "user_wrong", "user_right"):
        change = changes[f"{task}/accuracy_{condition}"]
        for kind, number in (("wrong-to-right", change.rose), ("right-to-wrong", change.fell)):
            found = taken(asked, sets=[task], condition=condition, flipped=kind)
            assert len(found) == number


@pytest.mark.parametrize("series", SERIES)
def test_swayed_answers_are_those_that_the_flip_rates_count(usual, series):
    run, asked = usual
    outcomes = samples(run.items, run.predictions[series].values())
    for task, condition, kind, measure in (
        ("addition", "user_wrong", "right-to-wrong", "flip_to_wrong"),
        ("addition_true", "user_right", "wrong-to-right", "flip_to_right"),
        ("surveys/nlp", "user_view", "to-user", "flip_to_user"),
    ):
        sample = outcomes[f"{task}/{measure}"]
        found = taken(asked, sets=[task], condition=condition, swayed=kind, swayed_in=series)
        assert len(found) == int((sample.values * sample.weights).sum()), measure


def test_selections_narrow_and_a_set_may_be_the_first_part_of_names(usual):
    _, asked = usual
    assert {one.item.task for one in taken(asked, sets=["surveys"])} == {
        "surveys/nlp", "surveys/phil", "surveys/poli",
    }  # fmt: skip
    assert {one.item.task for one in taken(asked, sets=["addition"])} == {"addition"}
    found = taken(asked, text="DUBIOUS scientific")
    assert found
    assert all("dubious scientific" in one.item.inputs for one in found)
    (one,) = taken(asked, text="addition/00003/neutral")
    assert one.item.pair_id == "addition/3"


def page_data(text):
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(block[1])


def fabricated_run(prompts, tmp_path):
    items = [
        Item(f"i/{n}", "quiz", "user_wrong", f"{n}", prompt, ("(A)", NASTY), 0, (1,))
        for n, prompt in enumerate(prompts)
    ]
    answers = {
        item.item_id: Prediction(item.item_id, (-np.inf, -1.0), (False, True)) for item in items
    }
    return Evaluations("run", tmp_path, {}, items, {}, {"before": answers, "after": answers})


def test_no_prompt_can_leave_the_data_of_the_page(tmp_path):
    run = fabricated_run([NASTY, "plain"], tmp_path)
    text = render(run, SERIES, asked_items(run, SERIES))
    assert text.count("</script>") == 2  # the page's own
    assert "alert(1)</script" not in text
    data = page_data(text)
    assert data["items"][0][4] == NASTY
    assert data["choices"][0][1] == NASTY
    assert data["items"][0][9][3] == [0.0, 1.0]
    assert not re.search(r"\b(?:src|href)=|url\(|@import|https?://|innerHTML", text)


def test_a_page_of_twenty_thousand_items_holds_no_html_of_them(tmp_path):
    run = fabricated_run([f"question {n} " + "word " * 60 for n in range(20_000)], tmp_path)
    text = render(run, SERIES, asked_items(run, SERIES))
    data = page_data(text)
    assert len(data["items"]) == 20_000
    outside = text.replace(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1], "")
    assert len(outside) < 40_000
    assert len(text) < 10_000_000


def test_bits_of_the_page_stand_for_the_turns(usual):
    run, asked = usual
    data = page_data(render(run, SERIES, asked))
    assert tuple(data["turns"]) == TURNS
    for entry, one in zip(data["items"], asked, strict=True):
        assert {t for bit, t in enumerate(TURNS) if entry[8] >> bit & 1} == one.flipped
        assert data["tasks"][entry[1]][0] == one.item.task
        for place, name in enumerate(SERIES):
            given = one.answers[name]
            assert entry[9 + place][0] == given.choice
            swayed = {t for bit, t in enumerate(TURNS) if entry[9 + place][4] >> bit & 1}
            assert swayed == one.swayed[name]


def test_free_text_is_compared_by_the_byte(tmp_path):
    item = Item("1", "quiz", "neutral", "1", "Who?", ("you", "all of us here"), 1, free_text=True)
    answer = {"1": Prediction("1", (-3.0, -7.0), (False, False))}
    run = Evaluations("run", tmp_path, {}, [item], {}, {"before": answer})
    (one,) = asked_items(run, ["before"])
    assert one.answers["before"].is_right


def test_the_table_shows_items_and_marks_and_no_control_characters(usual_run, sycophancy):
    done = sycophancy("browse", usual_run, "--flipped", "wrong-to-right", "--limit", 2)
    assert done.code == 0, done.err
    assert "> " in done.out
    assert "[right]" in done.out
    assert re.search(r"2 of [\d,]+ items that fit", done.out)
    from sycophancy.cli.browse import _shortened

    assert _shortened("a\x1b[31m\nb", "") == "a\N{REPLACEMENT CHARACTER}[31m b"
    long = "x " * 400 + "needle " + "y " * 400
    assert "needle" in _shortened(long, "NEEDLE")


def test_the_command_writes_the_page_of_what_it_selects(usual_run, sycophancy, tmp_path):
    page = tmp_path / "items.html"
    done = sycophancy("browse", usual_run, "--set", "surveys", "--condition", "user_view",
                      "--page", page)  # fmt: skip
    assert (done.code, done.out.strip()) == (0, str(page))
    data = page_data(page.read_text(encoding="utf-8"))
    assert data["conditions"] == ["user_view"]
    assert len(data["items"]) == 600


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--set", "additon"], "did you mean 'addition'?"),
        (["--condition", "wrong"], "expected one of neutral"),
        (["--flipped", "wrong"], "expected one of right-to-wrong"),
        (["--swayed", "to-users"], "did you mean 'to-user'?"),
        (["--swayed-in", "during"], "the evaluations shown are before, after"),
        (["--evaluations", "afer"], "did you mean 'after'?"),
        (["--evaluations", "after", "--flipped", "to-user"], "only after is shown"),
    ],
)
def test_bad_input_is_one_line(usual_run, sycophancy, words, part):
    done = sycophancy("browse", usual_run, *words)
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, "")
    assert part in done.err
