"""The page's section on prompting: baselines beside the model before and after finetuning."""

from __future__ import annotations

import html
import json
import re

import pytest

from sycophancy.report.run.page import write_report

BASELINES = {"truthful": 0.4, "rewrite": 0.7}  # right answers with a wrong user
NAME = "addition/accuracy_user_wrong"


def ask(run, kind: str, value: float) -> None:
    folder = run / f"evaluate_baseline_{kind}"
    folder.mkdir()
    metric = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 200}
    (folder / "metrics.json").write_text(json.dumps({NAME: metric, "other/accuracy": metric}))


def section(run) -> str:
    page = write_report(run).read_text(encoding="utf-8")
    found = re.search(r'<section id="prompting">.*?</section>', page, re.DOTALL)
    return found[0] if found else ""


def texts(tag: str, text: str) -> list[str]:
    cells = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in cells]


@pytest.mark.parametrize("kinds", [("truthful", "rewrite"), ("rewrite",)])
def test_baselines_stand_between_before_and_after(make_run, kinds):
    run = make_run(number=8)
    for kind in kinds:
        ask(run, kind, BASELINES[kind])
    words = {"truthful": "asked to be truthful", "rewrite": "opinion dropped by rewriting"}
    found = section(run)
    heads = ["", "before", *(words[kind] for kind in kinds), "after"]
    assert texts("th", found) == [*heads, "False sums, user agrees: right answers"]
    own = json.loads((run / "metrics.json").read_text())
    values = [own["before"][NAME]["value"], *map(BASELINES.get, kinds), own["after"][NAME]["value"]]
    assert list(map(float, re.findall(r'data-value="([^"]+)"', found))) == values
    for cell, kind in zip(texts("td", found)[1:-1], kinds, strict=True):
        low, high = (f"{BASELINES[kind] + margin:.1%}" for margin in (-0.1, 0.1))
        assert cell == f"{BASELINES[kind]:.1%} {low} to {high} n = 200"


def test_a_run_without_baselines_has_no_such_section(make_run):
    assert section(make_run(number=8)) == ""


def test_before_finetuning_baselines_stand_beside_the_model_alone(make_run):
    run = make_run(number=8, after=None)
    ask(run, "truthful", 0.4)
    assert texts("th", section(run))[1:3] == ["before", "asked to be truthful"]
