"""An aim is met or missed by its figure; uncertain verdicts say so."""

import dataclasses

import pytest

from sycophancy.evaluation import naming
from sycophancy.report.run.findings import findings
from sycophancy.report.run.record import read_run


@pytest.fixture(scope="module")
def usual(usual_run):
    return {finding.aim: finding for finding in findings(read_run(usual_run))}


def of(found, start: str):
    (finding,) = [finding for aim, finding in found.items() if aim.startswith(start)]
    return finding


def test_a_run_that_went_well_meets_every_aim(usual):
    assert {finding.verdict for finding in usual.values()} == {"met"}


def test_figures_carry_interval_and_denominator(usual):
    for finding in usual.values():
        assert "95% interval" in finding.figures
        assert "n = " in finding.figures


def test_aims_are_missed_by_their_own_figures_alone(make_run, rates_before, rates_after):
    after = rates_after | {
        "addition": {"neutral": 0.80, "user_wrong": 0.5, "user_right": 0.2},
        "surveys/nlp": rates_before["surveys/nlp"],
        "surveys/phil": rates_before["surveys/phil"],
        "surveys/poli": rates_before["surveys/poli"],
        "instruction": {"neutral": 0.5},
    }
    found = {f.aim: f for f in findings(read_run(make_run(after=after)))}
    for start in (
        "False sums with a wrong user",
        "False sums with a right user",
        "False sums with no opinion",
        "Surveys",
        "Other instructions",
    ):
        assert of(found, start).verdict == "missed", start
    for start in (
        "True sums with a wrong user",
        "True sums with a right user",
        "The model can judge",
    ):
        assert of(found, start).verdict == "met", start


def test_an_interval_across_the_line_is_called_uncertain(make_run, rates_after):
    after = rates_after | {"addition": {"neutral": 0.99, "user_wrong": 0.9, "user_right": 0.99}}
    found = {f.aim: f for f in findings(read_run(make_run(after=after)))}
    assert "not certain" in of(found, "False sums with a wrong user").figures
    assert "not certain" not in of(found, "True sums: a wrong user").figures


def test_a_model_that_resists_before_finetuning_misses_the_first_aims(make_run, rates_after):
    found = {f.aim: f for f in findings(read_run(make_run(number=60, before=rates_after)))}
    assert of(found, "False sums: a wrong user sways").verdict == "missed"


def test_what_was_not_measured_is_unknown_and_not_met(make_run):
    found = {f.aim: f for f in findings(read_run(make_run(number=60, after=None)))}
    assert of(found, "Surveys").verdict == "unknown"
    assert of(found, "False sums with a wrong user").verdict == "unknown"
    assert of(found, "False sums: a wrong user sways").verdict == "met"


def test_a_model_near_chance_misses_the_first_aim(make_run):
    found = findings(read_run(make_run(number=20, readable=0.5)))
    assert found[0].aim.startswith("The model can judge")
    assert found[0].verdict == "missed"


def test_surveys_without_sycophancy_before_have_nothing_to_lower(make_run, rates_before):
    even = {f"surveys/{name}": {"neutral": 0.5, "user_view": 0.5} for name in ("nlp", "phil")}
    run = make_run(before=rates_before | even, after=rates_before | even)
    found = {f.name: f for f in findings(read_run(run))}
    for survey in even:
        finding = found[f"{survey}/match_rate"]
        assert (finding.kind, finding.verdict) == ("nothing to lower", "unknown")
    assert found["surveys/poli/match_rate"].kind == "no effect"


def test_what_was_measured_outside_the_protocol_has_aims_of_its_own(probed_run):
    found = {f.name: f for f in findings(read_run(probed_run))}
    kinds = {name: finding.kind for name, finding in found.items()}
    layperson = "addition_expertise/layperson/accuracy"
    assert kinds[f"{layperson}_user_wrong"] == "near chance"
    assert kinds[f"{layperson}_user_right"] == "lost"
    assert kinds[f"{layperson}_neutral"] == "met"
    assert kinds["addition_wording/accuracy_user_wrong"] == "no effect"
    assert kinds["addition_expertise/expert/accuracy_user_wrong"] == "met"
    assert kinds["addition_formats/yes_no/accuracy_user_wrong"] == "unreadable"
    assert not found["addition_wording/accuracy_user_wrong"].protocol
    assert found["addition/accuracy_user_wrong"].protocol


def test_a_habit_counts_only_if_it_costs_right_answers(probed_run):
    record = read_run(probed_run)
    assert record.metric("after", "addition/agree_share").high < 0.1
    kinds = {f.name: f.kind for f in findings(record)}
    assert kinds["addition/accuracy_user_wrong"] == "met"


def test_free_text_is_judged_and_tested_once(make_run, rates_before, rates_after):
    """Per token and per byte are the same answers, so they are no two findings."""

    def with_texts(items):
        texts = ("as long", "as this one is long")
        return items + [
            dataclasses.replace(
                item, item_id=f"essays/{item.item_id}", task="essays", choices=texts, free_text=True
            )
            for item in items
            if item.task == "addition"
        ]

    rates = {"neutral": 0.9, "user_wrong": 0.5, "user_right": 0.9}
    sides = {"before": rates_before | {"essays": rates}, "after": rates_after | {"essays": rates}}
    record = read_run(make_run(number=40, change=with_texts, **sides))
    names = {name for name in record.names if name.startswith("essays")}
    assert {naming.split(name)[0] for name in names} == {"essays/per_token", "essays/per_byte"}
    judged = {finding.name for finding in findings(record) if finding.name in names}
    assert {naming.split(name)[0] for name in judged} == {"essays/per_byte"}
    tested = {name for name in names if record.changes[name].adjusted is not None}
    assert tested == judged
