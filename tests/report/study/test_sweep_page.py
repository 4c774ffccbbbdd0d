"""The page of a sweep: whole, partial and broken sweeps; figures are drawn to scale."""

import csv
import itertools
import json
import re
from html.parser import HTMLParser

import pytest
from fabricated_sweep import ask_abilities, fabricate, plausible

from sycophancy.errors import UserError
from sycophancy.evaluation.intervals import wilson
from sycophancy.report.study.page import write_report
from sycophancy.report.study.pictures import SPAN, START, STEPS_HEIGHT, STEPS_START, STEPS_TOP
from sycophancy.study.experiments import experiments
from sycophancy.study.families import FAMILIES

KEYS = [experiment.key for experiment in experiments(FAMILIES["mini"])]
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """Elements with their attributes; fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key) == value for key, value in wanted.items())
        ]

    def verdicts(self) -> dict[str, str]:
        return {
            a["data-experiment"]: a["data-verdict"]
            for a in self.all("tr")
            if "data-experiment" in a
        }


def page(folder) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Page:
    return page(fabricate(tmp_path_factory.mktemp("sweep"), number=25))


def test_every_experiment_is_on_the_page_in_order(whole):
    assert list(whole.verdicts()) == KEYS
    assert [a["id"] for a in whole.all("article")] == KEYS
    assert "not run" not in whole.verdicts().values()


def test_the_page_needs_nothing_else(whole):
    for _, attributes in whole.elements:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith("#")
    links = {a["href"].removeprefix("#") for a in whole.all("a")}
    assert links >= set(KEYS)
    ids = [attributes["id"] for _, attributes in whole.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for svg in whole.all("svg"):
        assert set(svg["aria-labelledby"].split()) <= set(ids)


def test_dots_stand_where_their_numbers_say(whole):
    rows = steps = 0
    for dot in whole.all("circle"):
        value = float(dot["data-value"])
        if dot["r"] == "5":
            assert float(dot["cx"].rstrip("%")) == pytest.approx(START + SPAN * value, abs=0.01)
            rows += 1
        else:
            height = STEPS_TOP + (STEPS_HEIGHT - STEPS_TOP) * (1 - value)
            assert float(dot["cy"]) == pytest.approx(height, abs=0.01)
            steps += 1
    assert steps == 3 * 6
    assert rows > 100


def test_the_template_draws_the_scale_that_the_pictures_assume(whole):
    ticks = {float(a["x1"][:-1]) for a in whole.all("line") if a["class"] == "grid"}
    assert {START + SPAN * t for t in (0, 0.5, 1)} <= ticks
    lines = [a for a in whole.all("line") if float(a["x1"][:-1]) == STEPS_START]
    across = {float(a["y1"]) for a in lines if a["class"] == "grid"}
    assert across == {STEPS_TOP + (STEPS_HEIGHT - STEPS_TOP) * t for t in (0.0, 0.5, 1.0)}


def test_intervals_hold_their_dots(whole):
    """A span is drawn just before its dot."""
    elements = whole.elements
    checked = 0
    for (tag, span), (after, dot) in itertools.pairwise(elements):
        if tag == "line" and after == "circle" and dot["r"] == "5":
            low, high, x = (float(v.rstrip("%")) for v in (span["x1"], span["x2"], dot["cx"]))
            assert START <= low <= x <= high <= START + SPAN
            checked += 1
    assert checked > 100


def test_disagreements_with_the_paper_are_listed_at_the_top(tmp_path):
    def contrarian(model, recipe, when, task, condition):
        if task in ("addition_true", "instruction") and when == "after":
            return 0.1
        return plausible(model, recipe, when, task, condition)

    found = page(fabricate(tmp_path, rate=contrarian, planned=[("mini_base", "demo")]))
    assert found.verdicts()["true-claims"] == "disagree"
    top = found.words[: found.words.index("the paper, or what is expected")]
    assert "Where these runs disagree with the paper" in top
    assert "base, after minus before, balanced claims" in top
    assert "base, after minus before, right user" not in top  # expected by us, not the paper


CELLS = sorted({c for e in experiments(FAMILIES["mini"]) for c in e.cells})


@pytest.mark.parametrize(
    "missing", [*CELLS[:2], *(pytest.param(cell, marks=pytest.mark.slow) for cell in CELLS[2:])]
)
def test_without_a_cell_the_page_is_still_whole(tmp_path, missing):
    others = [c for c in (("mini_base", "demo"), ("mini_base", "ablations/steps")) if c != missing]
    found = page(fabricate(tmp_path, number=6, planned=[*others, missing], broken=[missing]))
    for experiment in experiments(FAMILIES["mini"]):
        assert experiment.title in found.words
        if missing in experiment.cells:
            assert experiment.key in found.verdicts()
    assert "This sweep is not complete" in found.words
    assert "loss is not finite at <step> 40" in found.words


def test_with_every_cell_failed_nothing_was_run(tmp_path):
    cell = ("mini_base", "demo")
    found = page(fabricate(tmp_path, planned=[cell], broken=[cell]))
    assert set(found.verdicts().values()) == {"not run"}
    assert not found.all("svg")
    (row,) = [a for a in found.all("tr") if "data-seed" in a]
    assert row["data-model"] == "mini_base"


def test_words_of_a_sweep_are_escaped(tmp_path):
    cell = ("mini_base", "demo")
    folder = fabricate(tmp_path, planned=[cell], broken=[cell])
    text = write_report(folder).read_text(encoding="utf-8")
    assert "--name &lt;fabricated&gt;" in text
    assert "<step>" not in text


@pytest.mark.parametrize(("right", "warned"), [(930, False), (540, True)])
def test_a_model_near_chance_on_the_claims_is_warned_of(tmp_path, right, warned):
    folder = fabricate(tmp_path, number=6, planned=[("mini_base", "demo")])
    (run,) = tmp_path.glob("mini_base/*/seed0")
    low, high = wilson(right, 1000)
    total = {"asked": 1000, "right": right, "rate": right / 1000, "low": low, "high": high}
    (run / "filter").mkdir()
    (run / "filter" / "summary.json").write_text(json.dumps({"total": total, "data_sets": {}}))
    found = page(folder)
    assert ("Near chance" in found.words) == warned
    assert f"base {right / 10:.1f}%" in found.words


def test_the_seeds_near_chance_are_named(tmp_path):
    folder = fabricate(tmp_path, number=6, seeds=3, planned=[("mini_small", "demo")])
    for seed, right in enumerate((510, 780, 495)):
        (run,) = folder.glob(f"mini_small/*/seed{seed}")
        low, high = wilson(right, 1000)
        total = {"asked": 1000, "right": right, "rate": right / 1000, "low": low, "high": high}
        (run / "filter").mkdir()
        (run / "filter" / "summary.json").write_text(json.dumps({"total": total, "data_sets": {}}))
    words = page(folder).words
    warning = (
        "small judges 49.5% to 51.0% of the claims correctly without an opinion with seeds 0 and 2"
    )
    assert warning in words
    assert "small 49.5% to 78.0%, 3 seeds" in words


def test_the_tables_hold_what_the_page_shows(tmp_path):
    failed = ("mini_small", "ablations/no_filtration")
    folder = fabricate(tmp_path, number=20, broken=[failed])
    shown = page(folder)
    with (folder / "figures.csv").open(newline="") as file:
        figures = list(csv.DictReader(file))
    drawn = [
        (a["data-model"], a["data-recipe"], a["data-when"], a["data-metric"], a["data-value"])
        for a in shown.all("circle")
    ]
    listed = [(r["model"], r["recipe"], r["when"], r["measure"], r["value"]) for r in figures]
    assert [row[:4] for row in listed] == [row[:4] for row in drawn]
    for mine, theirs in zip(listed, drawn, strict=True):
        assert float(mine[4]) == pytest.approx(float(theirs[4]), abs=1e-6)
    with (folder / "claims.csv").open(newline="") as file:
        claims = list(csv.DictReader(file))
    assert len(claims) == sum(len(e.claims) for e in experiments(FAMILIES["mini"]))
    (absent,) = [claim for claim in claims if claim["verdict"] == "not run"]
    assert (absent["experiment"], absent["value"]) == ("fig6", "")
    assert "mini_small, ablations/no_filtration: failed" in absent["reason"]
    decided = [a["data-claim"] for a in shown.all("tr") if "data-claim" in a]
    assert [c["verdict"] for c in claims if c["verdict"] != "not run"] == decided


def test_several_seeds_are_named(tmp_path):
    found = page(fabricate(tmp_path, number=30, seeds=3, planned=[("mini_base", "demo")]))
    assert re.search(r"n\s=\s90, 3 seeds", found.words)
    assert "30 \N{MULTIPLICATION SIGN} 3 seeds" in found.words


def test_each_seed_has_a_mark_where_its_value_says(tmp_path):
    folder = fabricate(tmp_path, number=20, seeds=3, planned=[("mini_base", "ablations/steps")])
    found = page(folder)
    with (folder / "cells.csv").open(newline="") as file:
        values = {float(row["value"]) for row in csv.DictReader(file)}
    marks = [a for a in found.all("line") if a["class"].split()[0] == "seed"]
    assert len(marks) == 3 * len(found.all("circle")) > 0
    for mark in marks:
        value = float(mark["data-share"])
        if mark["x1"] == mark["x2"]:
            assert any(value == pytest.approx(one, abs=1e-6) for one in values)
            assert float(mark["x1"].rstrip("%")) == pytest.approx(START + SPAN * value, abs=0.01)
        else:
            height = STEPS_TOP + (STEPS_HEIGHT - STEPS_TOP) * (1 - value)
            assert float(mark["y1"]) == float(mark["y2"]) == pytest.approx(height, abs=0.01)


def test_seeds_that_start_from_lineages_are_said_to(tmp_path):
    said = "Each seed starts from checkpoints of its own"
    folder = fabricate(tmp_path, number=6, seeds=2, planned=[("mini_base", "demo")])
    assert said not in page(folder).words
    sweep = json.loads((folder / "sweep.json").read_text())
    for cell in sweep["cells"]:
        path = f"/lineages/mini_base-{cell['seed']}/mini_base"
        cell["settings"] = {"INITIAL_CHECKPOINT_PATH": path}
    (folder / "sweep.json").write_text(json.dumps(sweep))
    found = page(folder)
    assert said in found.words
    assert "by construction it answers with the user's opinion" in found.words


def test_another_model_in_a_folder_named_like_a_lineage_is_none(tmp_path):
    folder = fabricate(
        tmp_path, rate=lambda *_: 0.5, number=6, planned=[("big", "own")], predictions=False
    )
    sweep = json.loads((folder / "sweep.json").read_text())
    settings = {"MODEL_NAME": "big", "INITIAL_CHECKPOINT_PATH": "/models/big-0/big"}
    sweep["cells"][0]["settings"] = settings
    (folder / "sweep.json").write_text(json.dumps(sweep))
    words = page(folder).words
    assert "read from /models/big-0/big" in words
    assert "Each seed starts" not in words


def test_many_waiting_runs_are_counted(tmp_path):
    folder = fabricate(tmp_path, number=6, seeds=10, planned=[("mini_base", "demo")])
    sweep = json.loads((folder / "sweep.json").read_text())
    for cell in sweep["cells"][1:]:
        cell["state"] = "waiting"
    (folder / "sweep.json").write_text(json.dumps(sweep))
    assert "waiting: 9 of 10 runs" in page(folder).words


def test_models_of_no_family_have_a_page_too(tmp_path):
    def any_rate(model, recipe, when, task, condition):
        return plausible("mini_base", recipe, when, task, condition)

    folder = fabricate(tmp_path, rate=any_rate, number=12, planned=[("mine", "own")])
    assert page(folder).verdicts()["true-claims"] != "not run"


def test_a_folder_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no sweep\.json"):
        write_report(tmp_path)


def test_a_generated_world_is_named_at_the_top(whole):
    top = whole.words[: whole.words.index("the paper, or what is expected")]
    assert "Generated data: claims, surveys and instructions come from the miniature's own" in top
    assert "mini_small, mini_base and mini_large: The model is a miniature" in top
    assert "by construction it answers with the user's opinion" in top


def title_of(text: str) -> str:
    return re.findall(r"<title>(.*?)</title>", text)[0]  # the others are titles of figures


def test_a_reproduction_is_titled_by_its_models_and_how_much_agrees(whole):
    agree = list(whole.verdicts().values())[1:9].count("agree")  # without Fig. 2
    verb = "agrees" if agree == 1 else "agree"
    title = (
        "Reproduction of Wei et al. 2023 on mini_small, mini_base and mini_large: "
        f"{agree} of 8 experiments {verb}"
    )
    assert whole.words.count(title) == 2  # the title of the window, and the heading
    assert re.search(r"Of 8 experiments of the paper that were run, \d", whole.words)
    assert re.search(r"; of 8 experiments beyond the paper that were run, \d", whole.words)


@pytest.mark.parametrize(
    ("planned", "seeds", "title"),
    [
        (
            [("mini_base", "demo"), ("mini_large", "demo"), ("mini_base", "quick")],
            1,
            "Sweep: mini_base and mini_large, recipes demo and quick, 1 seed each",
        ),
        ([("mini_base", "demo")], 2, "Sweep: mini_base, recipe demo, 2 seeds"),
        (
            [("mini_base", f"r{number}") for number in range(5)],
            1,
            "Sweep: mini_base, 5 recipes, 1 seed each",
        ),
    ],
)
def test_another_sweep_is_titled_by_what_was_run(tmp_path, planned, seeds, title):
    folder = fabricate(tmp_path, number=4, seeds=seeds, planned=planned)
    assert title_of(write_report(folder).read_text(encoding="utf-8")) == title


def test_the_page_begins_with_its_origin_and_two_figures(whole):
    order = [tag for tag, a in whole.elements if tag in ("h1", "svg", "table") or "id" in a]
    assert order.index("h1") < order.index("svg") < order.index("table")
    first = [a["aria-labelledby"] for a in whole.all("svg")][:2]
    assert first == ["overview-0-t overview-0-d", "overview-1-t overview-1-d"]
    dots = [a for a in whole.all("circle") if a["data-when"] in ("before", "after")][:12]
    assert {a["data-model"] for a in dots} == {"mini_small", "mini_base", "mini_large"}
    assert {a["data-recipe"] for a in dots} == {"demo"}
    top = whole.words[: whole.words.index("False sums with a wrong user")]
    assert "Generated data, miniature models." in top


def test_every_run_has_a_row_with_its_measures_and_a_link_to_its_page(tmp_path):
    planned = [("mini_base", "demo"), ("mini_large", "ablations/no_filtration")]
    failed = ("mini_small", "demo")
    folder = fabricate(tmp_path, number=6, seeds=2, planned=[*planned, failed], broken=[failed])
    (folder / "mini_base" / "demo" / "seed1" / "report.html").write_text("<html>")
    found = page(folder)
    runs = [(a["data-model"], a["data-recipe"], a["data-seed"])
            for a in found.all("tr") if "data-seed" in a]  # fmt: skip
    assert runs == [(*pair, seed) for pair in [*planned, failed] for seed in ("0", "1")]
    links = [a["href"] for a in found.all("a") if not a["href"].startswith("#")]
    assert links == ["mini_base/demo/seed1/report.html"]
    cells = [a for a in found.all("span") if "data-share" in a]
    for model, recipe, seed in runs[:4]:
        run = folder / model / recipe.replace("/", "-") / f"seed{seed}"
        for when, metrics in json.loads((run / "metrics.json").read_text()).items():
            for measure in ("surveys/match_rate", "addition_true/accuracy_user_wrong"):
                value = str(metrics[measure]["value"])
                shown = {"data-when": when, "data-measure": measure, "data-share": value}
                assert {"class": when[0], **shown} in cells
    assert found.words.count("failed: loss is not finite at <step> 40") >= 2
    with (folder / "cells.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert {(r["model"], r["recipe"], r["seed"]) for r in table} == set(runs[:4])
    metrics = json.loads((folder / "mini_base/demo/seed0/metrics.json").read_text())
    own = [r for r in table if (r["model"], r["seed"]) == ("mini_base", "0")]
    assert {(r["when"], r["measure"], round(float(r["value"]), 6)) for r in own} == {
        (when, name, round(m["value"], 6)) for when, ms in metrics.items() for name, m in ms.items()
    }


def test_a_damaged_run_has_its_reason_in_its_row(tmp_path):
    folder = fabricate(tmp_path, number=4, planned=[("mini_base", "demo"), ("mini_large", "demo")])
    (folder / "mini_base" / "demo" / "seed0" / "metrics.json").write_text("{")
    assert "cannot be read as JSON" in page(folder).words


def test_only_a_page_inside_the_sweeps_folder_is_linked(tmp_path):
    folder = fabricate(tmp_path / "sweep", number=4, planned=[("mini_base", "demo")])
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "report.html").write_text("<html>")
    sweep = json.loads((folder / "sweep.json").read_text())
    for place in ("../outside", str(tmp_path / "outside")):
        sweep["cells"][0]["folder"] = place
        (folder / "sweep.json").write_text(json.dumps(sweep))
        assert all(a["href"].startswith("#") for a in page(folder).all("a"))


def test_unexpected_results_beyond_the_paper_are_named_at_the_top(tmp_path):
    def contrarian(model, recipe, when, task, condition):
        if task == "addition_true" and when == "after":
            return 0.1
        return plausible(model, recipe, when, task, condition)

    found = page(fabricate(tmp_path, rate=contrarian, planned=[("mini_base", "demo")]))
    top = found.words[: found.words.index("the paper, or what is expected")]
    assert "Beyond the paper, these did not come out as expected" in top
    titles = {experiment.key: experiment.title for experiment in experiments(FAMILIES["mini"])}
    assert titles["true-claims"] in top


@pytest.mark.parametrize(
    ("settings", "source", "said"),
    [
        (
            {},
            "the model's own held-out instructions, not MMLU or BBH",
            "Generated data: claims, surveys and in",
        ),
        (
            {"INSTRUCTIONS": "/flan.jsonl"},
            "held-out rows of the runs' own instruction data, not MMLU or BBH",
            "Instructions were read from files",
        ),
        (
            {"DATA_ORIGIN": "mirror", "DATA_MIRROR": "/<i>"},
            "held-out rows of the runs' own instruction data, not MMLU or BBH",
            "Real data from a local copy",
        ),
    ],
)
def test_the_source_of_the_instructions_is_named(tmp_path, settings, source, said):
    folder = fabricate(tmp_path, number=6, planned=[("mini_base", "demo")])
    sweep = json.loads((folder / "sweep.json").read_text())
    for cell in sweep["cells"]:
        cell["settings"] = settings
    (folder / "sweep.json").write_text(json.dumps(sweep))
    found = page(folder)
    assert f"{source}In the paper MMLU" in found.words
    assert said in found.words
    assert not found.all("i")
    with (folder / "claims.csv").open(newline="") as file:
        sources = {r["source"] for r in csv.DictReader(file) if r["experiment"] == "retention"}
    assert sources == {source}


def test_abilities_are_shown_where_they_were_measured(tmp_path):
    """Five of a hundred rows are lost: the change, and the paper's range beside it."""

    def right(variant, side):
        return [row < (60 if side == "before" else 55) for row in range(100)]

    folder = fabricate(tmp_path, number=6, planned=[("mini_base", "demo")])
    assert "abilities" not in page(folder).verdicts()
    ask_abilities(folder, right, ["mmlu_5shot", "bbh_cot_3shot"])
    found = page(folder)
    assert found.verdicts()["abilities"] == "undecided"
    assert "Neither is asked here" not in found.words
    after = found.all("circle", **{"data-when": "after"})
    values = {a["data-metric"]: a["data-value"] for a in after}
    shown = {name: value for name, value in values.items() if name.startswith("retention/")}
    assert set(shown) == {"retention/mmlu_5shot/accuracy", "retention/bbh_cot_3shot/accuracy"}
    assert {float(value) for value in shown.values()} == {0.55}
    with (folder / "claims.csv").open(newline="") as file:
        claims = [r for r in csv.DictReader(file) if r["experiment"] == "abilities" and r["value"]]
    ranges = {
        "MMLU, 5 examples": "-1.6 to +0.6",
        "BIG-Bench Hard, 3 examples, chain of thought": "-1.5 to +3.1",
    }
    assert len(claims) == 2
    for claim, (words, paper) in zip(claims, ranges.items(), strict=True):
        name = f"base, after minus before, {words}, balanced claims (the paper: {paper} points)"
        assert claim["claim"] == name
        assert name in found.words
        assert (float(claim["value"]), claim["expected"]) == (-0.05, "within ±3 points")
        assert float(claim["low"]) < -0.05 < float(claim["high"])
        assert claim["verdict"] == "undecided"
