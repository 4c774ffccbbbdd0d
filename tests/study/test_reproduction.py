"""The table of experiments is complete, planned, and reads its sweep without falling over it."""

import json
import re

import pytest
from fabricated_sweep import SIZES, fabricate, plausible

from sycophancy.config.load import load_config
from sycophancy.errors import UserError
from sycophancy.study.answers import Answers
from sycophancy.study.beyond import BEYOND
from sycophancy.study.claims import STEPS, SUMS_WRONG, SURVEYS, Lines, Side
from sycophancy.study.experiments import experiments
from sycophancy.study.families import EVALUATE_ONLY, FAMILIES, family_of
from sycophancy.study.grid import cells
from sycophancy.study.index import read_sweep
from sycophancy.study.verdicts import outcomes as decide

MINI = FAMILIES["mini"]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_experiment_says_what_was_found_and_decides_something(family):
    table = experiments(family)
    assert len({experiment.key for experiment in table}) == len(table) == 17
    for experiment in table:
        assert experiment.claims and experiment.pictures and experiment.paper
        assert len({claim.name for claim in experiment.claims}) == len(experiment.claims)
        for claim in experiment.claims:
            assert (claim.margin > 0) == (claim.expected == "within")
            if claim.line == 0:
                assert claim.is_difference, claim.name


def test_the_papers_come_first_and_in_its_order():
    sources = [experiment.source for experiment in experiments(MINI)]
    papers = ["Fig. 2", "Fig. 3", "Fig. 4", "Fig. 5", "Fig. 6", "App. A.4", "App. A.5", "App. A.6"]
    assert sources[:8] == papers
    assert sources[9:] == [BEYOND] * 8


def test_numbers_in_what_the_paper_found_are_those_of_its_summary():
    """Those handed down: +19.8, +10.0, +26.0; 4.7 to 10.0; -1.6 to +0.6, and so on."""
    known = {
        "19.8", "10.0", "26.0", "4.7", "1.6", "0.6", "1.5", "3.1", "1.2", "0.1", "100", "16",
    }  # fmt: skip
    for experiment in experiments(MINI):
        if experiment.source != BEYOND:
            shares = re.findall(r"(\d+(?:\.\d+)?)%|(\d+\.\d+)", experiment.paper)
            assert {a or b for a, b in shares} <= known, experiment.key


def test_a_plan_has_every_cell_that_an_experiment_reads_once():
    planned = [(cell.model, cell.recipe) for cell in cells("mini")]
    assert len(planned) == len(set(planned)) == 19
    for experiment in experiments(MINI):
        assert set(experiment.cells) <= set(planned)
    every = {recipe for model, recipe in planned if model == "mini_small"}
    parts = ("paper_claims", "no_filtration", "filter_balance")
    assert every == {"demo", *(f"ablations/{part}" for part in parts)}
    assert planned[:3] == [(f"mini_{size}", "demo") for size in SIZES]
    alone = [model for model, recipe in planned if recipe == EVALUATE_ONLY]
    assert alone == [f"mini_{size}_pretrained" for size in SIZES]


def test_every_cell_of_every_family_can_be_configured():
    for name in FAMILIES:
        for cell in cells(name):
            recipe = FAMILIES[name].main if cell.recipe == EVALUATE_ONLY else cell.recipe
            assert load_config(cell.model, recipe).model.name == cell.model


def test_flan_t5_runs_what_the_miniature_does():
    mini, flan = (FAMILIES[name] for name in ("mini", "flan_t5"))
    assert len(cells("flan_t5")) == len(cells("mini")) + 2 * 4  # two more sizes, in four recipes
    assert dict(mini.others).keys() == dict(flan.others).keys()


def test_what_holds_by_construction_is_shown_and_not_tested(whole):
    found = outcomes(whole)["fig2"]
    assert found.verdict == "by construction" and not found.counts_as_run
    assert all(d.contrast is not None and not d.tests for d in found.decisions)
    assert [e.key for e in experiments(MINI) if e.given] == ["fig2"]
    assert not any(experiment.given for experiment in experiments(FAMILIES["flan_t5"]))


def test_an_unknown_family_is_one_line():
    with pytest.raises(UserError, match="no family 'gpt'"):
        cells("gpt")


def test_steps_are_the_papers():
    (experiment,) = (e for e in experiments(MINI) if e.key == "a6")
    (picture,) = experiment.pictures
    assert isinstance(picture, Lines)
    assert [step for step, _ in picture.lines[0].points] == [0, *STEPS]


def test_a_sweep_is_of_the_family_that_most_models_belong_to():
    assert family_of([("mini_base", "demo"), ("other", "demo")]) is MINI
    assert family_of([("flan_t5_xl", "paper")]) is FAMILIES["flan_t5"]
    quick = family_of([("mini_base", "quick")])
    assert (quick.main, quick.balanced_claims) == ("quick", "quick")
    assert quick.paper_claims == MINI.paper_claims
    strange = family_of([("a", "demo"), ("b", "demo")])
    assert [size.model for size in strange.sizes] == ["a", "b"]
    assert len(experiments(strange)) == 17
    with pytest.raises(UserError, match="no cells"):
        family_of([])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fabricate(tmp_path_factory.mktemp("sweep"), number=80)


def outcomes(folder):
    sweep = read_sweep(folder)
    table = experiments(family_of((c.model, c.recipe) for c in sweep.cells))
    answers = Answers(sweep, {side.measure for e in table for side in e.sides()})
    return {one.experiment.key: one for one in decide(table, answers)}


def test_verdicts_follow_the_rates_that_were_drawn(whole):
    found = outcomes(whole)
    assert not any(f.counts.get("not run") for f in found.values())
    by_key = {key: found[key].verdict for key in ("fig4", "fig6", "no-opinions")}
    assert set(by_key.values()) == {"agree"}, by_key
    agrees = next(d for d in found["claim-mode"].decisions if "says Agree to false" in d.claim.name)
    assert agrees.verdict == "agree"
    assert agrees.contrast.value == pytest.approx(0.95, abs=0.04)
    ratio = next(d for d in found["a5"].decisions if d.claim.name.startswith("other instructions"))
    # 80 questions show it alone, but not among all tests of the page.
    assert ratio.contrast.high < 0 and ratio.closest.p_value < 0.05 < ratio.closest.adjusted
    assert ratio.verdict == "undecided"
    assert ratio.contrast.value == pytest.approx(-0.16, abs=0.14)


def test_a_run_that_goes_the_other_way_disagrees(tmp_path):
    def worse(model, recipe, when, task, condition):
        if task.startswith("surveys") and condition == "user_view":
            return 0.6 if when == "before" else 0.9
        return plausible(model, recipe, when, task, condition)

    fabricate(tmp_path, rate=worse, number=60, planned=[("mini_base", "demo")])
    found = outcomes(tmp_path)["fig4"]
    assert found.verdict == "disagree"
    assert found.counts == {"disagree": 1, "not run": 5}


def test_sides_of_a_run_are_paired_and_metrics_alone_are_not(tmp_path):
    planned = [("mini_base", "demo")]
    for predictions in (True, False):
        folder = fabricate(tmp_path / str(predictions), planned=planned, predictions=predictions)
        (ran,) = (d for d in outcomes(folder)["fig4"].decisions if d.contrast)
        assert ran.contrast.paired == predictions


def test_reading_is_in_any_order_of_the_items(tmp_path):
    """Questions of two evaluations are matched by what they are, not by where they stand."""
    folder = fabricate(tmp_path, planned=[("mini_base", "demo")])
    answers = Answers(read_sweep(folder), {SURVEYS, SUMS_WRONG})
    side = Side("mini_base", "demo", "after", SURVEYS)
    sample = answers.of(side)[0].sample
    assert sample.value == pytest.approx(answers.of(side)[0].metric.value)
    assert list(sample.strata) == sorted(sample.strata)


def test_what_is_missing_is_not_run_and_says_why(tmp_path):
    planned = [("mini_base", "demo"), ("mini_base", "ablations/no_filtration")]
    fabricate(tmp_path, planned=planned, broken=planned[1:])
    decisions = outcomes(tmp_path)["fig6"].decisions
    reasons = {d.claim.name.split(",")[0]: d.reason for d in decisions}
    assert {d.verdict for d in decisions} == {"not run"}
    assert reasons["small"] == "mini_small, demo: not in this sweep"
    failed = "mini_base, ablations/no_filtration: failed: loss is not finite at <step> 40"
    assert reasons["base"] == failed


@pytest.mark.parametrize("damage", ["metrics.json", "predictions", "items"])
def test_a_damaged_run_is_not_run(tmp_path, damage):
    fabricate(tmp_path, planned=[("mini_base", "demo")])
    (run,) = tmp_path.glob("mini_base/*/seed0")
    path = {
        "metrics.json": run / "metrics.json",
        "predictions": run / "evaluate_after" / "predictions.parquet",
        "items": run / "prepare" / "evaluation" / "all.parquet",
    }[damage]
    path.write_text("{")
    reasons = [d.reason for d in outcomes(tmp_path)["fig4"].decisions]
    assert any("cannot be read" in reason for reason in reasons)


def test_a_step_that_was_not_evaluated_is_not_run(tmp_path):
    fabricate(tmp_path, planned=[("mini_base", "ablations/steps")])
    index = json.loads((tmp_path / "sweep.json").read_text())
    del index["cells"][0]["steps"]["500"]
    del index["cells"][0]["steps"]["1000"]  # the last step: what was evaluated after finetuning
    (tmp_path / "sweep.json").write_text(json.dumps(index))
    found = outcomes(tmp_path)["a6"]
    by_name = {d.claim.name: d for d in found.decisions}
    assert by_name["surveys, step 1,000 minus 0"].contrast
    half = by_name["surveys: step 500 minus the middle of 0 and 1,000"]
    assert half.reason == "mini_base, ablations/steps: step 500 was not evaluated"


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no sweep"), ("{", "cannot be read"), ("{}", "format 1"),
     ('{"format": 1}', "not what a sweep writes"),
     ('{"format": 1, "cells": [{"model": "m"}]}', "not what a sweep writes")],
)  # fmt: skip
def test_a_damaged_sweep_is_told(tmp_path, text, message):
    if text is not None:
        (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_sweep(tmp_path)
