"""The page shows the run's numbers, stands alone, and runs nobody's script."""

import dataclasses
import html.parser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sycophancy.errors import UserError
from sycophancy.report.page import write_report

VOID = "area base br col embed hr img input link meta source track wbr".split()


class Page(html.parser.HTMLParser):
    """The elements of a page with their attributes, and whether every one is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]


@pytest.fixture(scope="module")
def usual(usual_run, tmp_path_factory) -> tuple[Path, Page]:
    run = tmp_path_factory.mktemp("written") / "usual"
    shutil.copytree(usual_run, run)
    return run, Page(write_report(run).read_text(encoding="utf-8"))


def test_bars_and_tables_hold_the_numbers_of_metrics_json(usual):
    run, page = usual
    metrics = json.loads((run / "metrics.json").read_text())
    bars = [bar for bar in page.all("rect") if "data-metric" in bar]
    shown = {(bar["data-series"], bar["data-metric"]): bar for bar in bars}
    in_file = {
        key: bar for key, bar in shown.items() if not key[1].startswith(("sums/", "filter/"))
    }
    assert len(in_file) >= 2 * 18
    for (series, name), bar in in_file.items():
        value = metrics[series][name]["value"]
        assert float(bar["data-value"]) == value
        assert float(bar["width"].rstrip("%")) == pytest.approx(82 * value, abs=0.001)
    rows = iter(page.elements)
    seen = 0
    for tag, row in rows:
        if tag == "tr" and "data-metric" in row:
            _, value, bounds, n = (next(rows)[1] for _ in range(4))
            expected = metrics[row["data-series"]].get(row["data-metric"])
            if expected:
                seen += 1
                assert float(value["data-value"]) == expected["value"]
                assert float(bounds["data-low"]) == expected["low"]
                assert float(bounds["data-high"]) == expected["high"]
                assert int(n["data-n"]) == expected["n"]
    assert seen == len(in_file)


def test_every_figure_has_a_title_a_description_and_a_table(usual):
    _, page = usual
    ids = {element["id"] for _, element in page.elements if "id" in element}
    pictures = page.all("svg", role="img")
    assert len(pictures) >= 10
    for picture in pictures:
        assert set(picture["aria-labelledby"].split()) <= ids
    named = [element["id"] for _, element in page.elements if "id" in element]
    assert len(named) == len(set(named))
    assert len(page.all("details")) >= len(pictures)


def test_the_page_loads_nothing(usual):
    run, page = usual
    text = (run / "report.html").read_text()
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base"), tag
        assert not {"src", "href", "srcset", "xlink:href", "data"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?://", text)
    assert len(text) < 1_000_000


def test_prompts_cannot_become_markup(make_run):
    attack = "</pre><script>alert(1)</script><img src=x onerror=alert(2)> & \" '"

    def poisoned(items):
        return [
            dataclasses.replace(
                item,
                inputs=f"{attack}{item.inputs}",
                choices=tuple(f"{choice}<b>" for choice in item.choices),
            )
            for item in items
        ]

    run = make_run(
        number=20, change=poisoned, config="MODEL_NAME = '<script>x</script>'\nRECIPE = '\"><i>'\n"
    )
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert not page.all("script")
    assert not page.all("img")
    assert not page.all("i")
    assert attack in "".join(page.text)


def test_examples_show_whole_prompts_and_probabilities_that_sum_to_one(usual):
    _, page = usual
    assert len(page.all("article")) == 3
    text = "".join(page.text)
    assert "I agree with the claim that 1 + 2 = 7654321. What is your opinion" in text
    assert "Assistant: I believe the best answer is" in text
    descriptions = re.findall(r"\(A\) \w+: before ([\d.]+)%.*?\(B\) \w+: before ([\d.]+)%", text)
    assert len(descriptions) == 3
    for first, second in descriptions:
        assert float(first) + float(second) == pytest.approx(100, abs=0.11)


def test_configuration_versions_times_and_counts_are_shown(usual):
    run, page = usual
    text = "".join(page.text)
    assert (run / "config.gin").read_text() in text
    for words in ("0.10.2", "evaluate_after", "9 min 51 s", "unlabelled", "held out"):
        assert words in text, words
    assert "sycophancy run --name again" in text


def test_a_shipped_recipe_is_given_back_as_a_command(make_run):
    from sycophancy.config import load_config

    config = load_config("mini_base", "demo", ["SEED=7"]).operative
    text = write_report(make_run(number=5, config=config)).read_text(encoding="utf-8")
    assert "sycophancy run --model mini_base --recipe demo --name again --set SEED=7<" in text


def test_near_chance_is_said_plainly(make_run):
    text = write_report(make_run(number=20, readable=0.5)).read_text(encoding="utf-8")
    assert "<h1>This model cannot read the claims it was finetuned on" in text
    assert "It cannot read these claims" in text
    assert "it means nothing about the method" in text
    assert "of the claims rightly without an opinion" in text  # the warning of filtration itself
    assert "On none of the 17 data sets is it clearly better than chance" in text


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("finetune/metrics.jsonl", "no metrics.jsonl"),
        ("filter/summary.json", "Filtration left no summary"),
        ("evaluate_after/predictions.parquet", "Items or predictions are absent"),
        ("prepare/evaluation", "Items or predictions are absent"),
        ("prepare/summary.json", "Findings"),
        ("finetune/manifest.json", "Findings"),
        ("metrics.json", "Findings"),
    ],
)
def test_what_is_missing_is_named_and_the_rest_is_shown(make_run, missing, words):
    run = make_run(number=20)
    path = run / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert words in "".join(page.text)
    assert page.all("rect", **{"data-metric": "addition/accuracy_user_wrong"})


@pytest.mark.parametrize("series", ["before", "after"])
def test_one_evaluation_makes_a_report_without_changes(make_run, series):
    given = {"before": None} if series == "after" else {"after": None}
    page = Page(write_report(make_run(number=20, **given)).read_text(encoding="utf-8"))
    assert {bar["data-series"] for bar in page.all("rect") if "data-series" in bar} <= {
        series,
        "before",  # filtration asked the model before
    }
    assert "what the finetuning changed was not measured" in "".join(page.text)


def test_filtration_that_was_switched_off_is_said(make_run):
    run = make_run(number=20, config="FILTRATION = False\n")
    (run / "filter" / "summary.json").write_text('{"filtration": false, "rows": 20000}')
    text = write_report(run).read_text(encoding="utf-8")
    assert "Filtration was switched off" in text
    assert "Of the validation claims it judged" in text
    assert "Filtration left no summary" not in text


def test_the_line_that_a_kill_cut_short_is_passed_over(make_run):
    run = make_run(number=20)
    with (run / "finetune" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1020, "lo')
    assert "at step 1,000" in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.gin").unlink(), "is not a run folder: it has no config.gin"),
        (
            lambda run: (run / "metrics.json").write_text("{"),
            r"metrics\.json cannot be read as JSON",
        ),
        (
            lambda run: (run / "metrics.json").write_text('{"before": {"a/b": {"value": 1}}}'),
            r"metrics\.json: a/b should have value, low, high and n",
        ),
        (
            lambda run: (run / "metrics.json").write_text(
                '{"before": {"a": {"value": NaN, "low": 0, "high": 1, "n": 3}}}'
            ),
            r"metrics\.json: a holds a number that is not finite",
        ),
        (
            lambda run: (run / "filter" / "summary.json").write_text('{"total": {"asked": 3}}'),
            r"filter/summary\.json is not what filtration writes",
        ),
        (
            lambda run: (run / "evaluate_before" / "predictions.parquet").write_text("x"),
            r"predictions\.parquet cannot be read as parquet",
        ),
    ],
)
def test_a_damaged_run_is_one_line_and_leaves_the_old_report(make_run, damage, message):
    run = make_run(number=5)
    (run / "report.html").write_text("old")
    damage(run)
    with pytest.raises(UserError, match=message) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert (run / "report.html").read_text() == "old"


def test_a_run_without_evaluations_is_refused(make_run):
    with pytest.raises(UserError, match="nothing to report: neither model was evaluated"):
        write_report(make_run(number=5, before=None, after=None))


def test_a_failed_write_leaves_nothing_behind(make_run, monkeypatch):
    run = make_run(number=5)
    before = sorted(run.iterdir())

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(UserError, match=r"cannot write .*report\.html.*No space left"):
        write_report(run)
    assert sorted(run.iterdir()) == before


def test_the_same_run_gives_the_same_page(usual):
    run, _ = usual
    text = (run / "report.html").read_bytes()
    assert write_report(run).read_bytes() == text


def test_reporting_imports_neither_jax_nor_tensorflow():
    code = (
        "import sys, sycophancy.report.page, sycophancy.report.picture; "
        "sys.exit(bool({'jax', 'tensorflow', 'flax', 'matplotlib'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
