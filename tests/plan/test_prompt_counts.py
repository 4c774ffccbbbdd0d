"""The prompts that a plan counts are those that a run asks."""

from __future__ import annotations

import dataclasses
import json

from sycophancy.config.load import load_config
from sycophancy.data import addition, held_out, probes
from sycophancy.data.public_sets.load import load_public_sets
from sycophancy.data.retention_rows import read_mmlu
from sycophancy.evaluation.items import Item
from sycophancy.plan import prompts

PLAIN = ["NUM_SURVEY_ITEMS=1", "NUM_VALIDATION=0", "HELD_OUT_SETS=()", "RETENTION=()"]

SURVEYED = 3 * 2  # a run asks at least one question of each survey


def configured(*settings: str):
    return load_config("mini_base", "paper", [*PLAIN, *settings])


def more(*settings: str, limit: int | None = None) -> int:
    """How many prompts an evaluation has with these settings, beyond those that all have."""
    limits = [f"MAX_QUESTIONS={limit}"] if limit else []
    counted = [
        prompts.total(prompts.evaluation(configured(*limits, *own))) for own in (settings, ())
    ]
    return counted[0] - counted[1]


def distinct(items: list[Item]) -> int:
    return len({(item.inputs, item.choices) for item in items})


def test_sums_and_probes_are_those_that_are_built():
    items = [*addition.build_items(0), *probes.build_items(0)]
    assert prompts.total(prompts.evaluation(configured())) == distinct(items) + SURVEYED


def test_held_out_sets_are_those_that_are_built():
    names = ("comparison", "parity")
    items = held_out.build_items(names, held_out.whole_blocks(192), 0)
    assert more(f"HELD_OUT_SETS={names}", "NUM_HELD_OUT_ITEMS=192") == len(items)


def test_surveys_claims_and_instructions_follow_their_settings():
    assert more("NUM_SURVEY_ITEMS=500") == 3 * 2 * 500 - SURVEYED
    assert more("NUM_VALIDATION=200") == 4 * 200


def test_public_sets_are_at_least_what_is_loaded(real_data):
    names = ("suggested_answer/truthfulqa", "genies/answer")
    settings = (f"PUBLIC_SETS={names}", "NUM_PUBLIC_ITEMS=200")
    folder = str(real_data / "evaluations")
    data = dataclasses.replace(configured(*settings).data, public_sets_folder=folder)
    loaded = load_public_sets(data, [])
    assert more(*settings) == sum(len(items) for items in loaded.values()) == 800


def test_own_sets_count_by_question_and_those_on_other_machines_do_not(tmp_path):
    rows = [
        {"pair": str(n), "condition": condition, "prompt": f"{condition} {n}?", "answer": "(A)",
         "choices": ["(A)", "(B)"]}
        for n in range(9)
        for condition in ("neutral", "user_wrong")
    ]  # fmt: skip
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert more(f"EVALUATIONS=('{file}',)") == 18
    assert more(f"EVALUATIONS=('{file}',)", limit=4) == 8
    assert more(f"EVALUATIONS=('{tmp_path / 'absent.jsonl'}',)") == 0


def test_baselines_ask_some_questions_and_rewrite_those_with_a_user():
    survey = ("NUM_SURVEY_ITEMS=500", "NUM_BASELINE_ITEMS=100", "MAX_QUESTIONS=300")
    once = prompts.baselines(configured(*survey, "BASELINES=('truthful',)"))
    each = 2 * 3 * 100 + 6 * 2 * 100 + 3 * 2 * 100
    assert [kind.count for kind in once] == [each]
    both = prompts.baselines(configured(*survey, "BASELINES=('rewrite', 'truthful')"))
    assert [kind.count for kind in both] == [2 * each, 2 * 2 * 100 + 6 * 100 + 3 * 100]
    assert prompts.total(prompts.baselines(configured(*survey))) == 0


def test_other_abilities_are_asked_two_ways_each(real_data):
    every = prompts.retention(configured("RETENTION=('auto',)"))
    assert [kind.count for kind in every] == [14_042, 14_042, 6_511, 6_511]
    assert prompts.retention(configured("RETENTION=('mmlu', 'bbh')")) == every
    few = prompts.retention(configured("RETENTION=('mmlu',)", "RETENTION_LIMIT=3"))
    subjects = read_mmlu(str(real_data / "hub"))
    assert [kind.count for kind in few] == [3 * len(subjects)] * 2
