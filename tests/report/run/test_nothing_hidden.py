"""Nothing that was measured is hidden: not on the page, not in the terminal, not in the README."""

import copy
import html
import json
import re
import shutil
from pathlib import Path

import pytest

from sycophancy.data import probes
from sycophancy.evaluation import naming
from sycophancy.evaluation.items import Item, write_items
from sycophancy.evaluation.units import unit_of
from sycophancy.report import markdown
from sycophancy.report.run.findings import findings
from sycophancy.report.run.headline import headline
from sycophancy.report.run.page import render, write_report
from sycophancy.report.run.panels import further_panels
from sycophancy.report.run.record import RunRecord, read_run

README = Path(__file__).parents[3] / "README.md"
CONDITIONS = ("neutral", "user_wrong", "user_right")


@pytest.fixture(scope="module")
def record(probed_run) -> RunRecord:
    return read_run(probed_run)


@pytest.fixture(scope="module")
def metrics(probed_run) -> dict:
    return json.loads((probed_run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def page(record) -> str:
    return render(record)


def alone(run: Path, metrics: dict, folder: Path) -> Path:
    """A run that has nothing but these metrics and the configuration of another."""
    folder.mkdir()
    shutil.copy(run / "config.gin", folder)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def shown(page: str) -> set[tuple[str, str, float]]:
    cells = re.findall(r'data-series="([^"]*)" data-metric="([^"]*)" data-value="([^"]*)"', page)
    return {(series, html.unescape(name), float(value)) for series, name, value in cells}


def measured(metrics: dict) -> set[tuple[str, str, float]]:
    return {(s, name, m["value"]) for s, found in metrics.items() for name, m in found.items()}


def rows(lines: list[str]) -> set[str]:
    """The rows of a terminal's table as `heading: words`."""
    found, heading = set(), ""
    for line in lines[1:]:
        if line.startswith("  "):
            found.add(f"{heading}: {line.strip().split('   ')[0]}")
        else:
            heading = line
    return found


def row_of(name: str) -> str:
    return f"{naming.task_words(naming.split(name)[0])}: {naming.measure_words(name)}"


def test_the_page_shows_every_metric(metrics, page):
    assert {naming.split(name)[0] for name in metrics["after"]} >= set(probes.TASKS)
    assert measured(metrics) <= shown(page)
    pictures = set(re.findall(r'<rect class="[^"]*"[^>]*data-metric="([^"]*)"', page))
    assert pictures >= {f"{task}/accuracy_{c}" for task in probes.TASKS for c in CONDITIONS}


def test_the_terminal_shows_every_metric_but_components_of_shown_ones(metrics):
    lines = naming.table(metrics)
    names = {name for found in metrics.values() for name in found}
    left_out = {name for name in names if row_of(name) not in rows(lines)}
    absent = {"truth_margin_user_view"}  # no task of this run has answers and shows a view
    assert {naming.kind(name) for name in left_out} == set(naming.COMPONENTS) - absent
    assert all(len(reason) > 5 for reason in naming.COMPONENTS.values())
    text = "\n".join(lines)
    for found in metrics.values():
        for name in names - left_out:
            m = found[name]
            if unit_of(name) == "nats":
                assert f"{m['value']:.2f} ({m['low']:.2f} to {m['high']:.2f})" in text
            else:
                assert f"{m['value']:.1%} ({m['low']:.1%}-" in text


def test_unknown_metrics_are_shown_under_their_own_names(probed_run, metrics, tmp_path):
    metrics = copy.deepcopy(metrics)
    new = {"value": 0.123456, "low": 0.1, "high": 0.2, "n": 777}
    names = ("addition/new_rate", "new_task/accuracy_user_wrong", "new_task/other", "bare")
    for found in metrics.values():
        found |= dict.fromkeys(names, new)
    record = read_run(alone(probed_run, metrics, tmp_path / "run"))
    assert measured(metrics) <= shown(render(record))
    lines = naming.table(metrics)
    assert {row_of(name) for name in names} <= rows(lines)
    assert sum("12.3% (10.0%-20.0%)" in line for line in lines) == len(names)
    kinds = {finding.name: finding.kind for finding in findings(record)}
    assert kinds["addition/new_rate"] == kinds["bare"] == "no aim"
    assert kinds["new_task/accuracy_user_wrong"] == "no effect"
    words = "new_task (wrong user: right 12.3%, 12.3% before, no measurable change)"
    assert words in headline(record)
    assert "| new_task, n = 777 |" in "\n".join(markdown.tables(record))


OWN_SETS = {
    # Of a set with four choices: before and after finetuning.
    "loyalty": {
        "accuracy_neutral": (0.60, 0.62),
        "accuracy_user_wrong": (0.20, 0.28),
        "accuracy_user_right": (0.95, 0.70),
    },
    "tone": {
        "match_rate": (0.80, 0.81),
        "neutral_match_rate": (0.25, 0.26),
        "accuracy_user_view": (0.90, 0.50),
    },
    "essays": {"accuracy": (0.70, 0.50)},
}


def test_a_users_own_sets_are_in_figures_tables_findings_and_headline(
    probed_run, metrics, tmp_path
):
    metrics = copy.deepcopy(metrics)
    for task, measures in OWN_SETS.items():
        for measure, values in measures.items():
            for found, value in zip(metrics.values(), values, strict=True):
                found[f"{task}/{measure}"] = {
                    "value": value, "low": value - 0.02, "high": value + 0.02, "n": 2000
                }  # fmt: skip
    run = alone(probed_run, metrics, tmp_path / "run")
    names = {f"{task}/{measure}" for task, found in OWN_SETS.items() for measure in found}
    items = [
        Item(f"{task}{number}", task, condition, f"q{number}", "?", tuple("abcd"), answer, (1,))
        for task, condition, answer in (("loyalty", "user_wrong", 0), ("tone", "user_view", -1))
        for number in range(4)
    ]
    write_items(run / "prepare" / "evaluation" / "own.parquet", items)
    record = read_run(run)
    page = render(record)
    assert measured(metrics) <= shown(page)
    drawn = set(re.findall(r'<rect class="[^"]*"[^>]*data-metric="([^"]*)"', page))
    assert drawn >= names
    assert "Added to this run: essays, loyalty, tone." in page
    panels = {panel.title: panel for panel in further_panels(record)}
    right = panels["Loyalty: right answers"]
    assert {row.reference for row in right.rows} == {0.25}
    assert {row.reference for row in panels["Tone: answers that match the user"].rows} == {0.25}
    kinds = {finding.name: finding.kind for finding in findings(record) if finding.name in names}
    assert kinds == {
        "loyalty/accuracy_neutral": "met",  # 62% of four choices is well above guessing
        "loyalty/accuracy_user_wrong": "near chance",
        "loyalty/accuracy_user_right": "lost",
        "tone/match_rate": "no effect",
        "tone/accuracy_user_view": "lost",
        "tone/neutral_match_rate": "met",
        "essays/accuracy": "lost",
    }
    words = headline(record)
    for part in (
        "loyalty (wrong user: right 28.0%, 20.0% before, near guessing; right user: right 70.0%",
        "tone (user's view shown: right 50.0%, 90.0% before; "
        "user's view shown: matches the user 81.0%, 80.0% before, no measurable change)",
        "essays (right 50.0%, 70.0% before)",
    ):
        assert part in words
    assert "| loyalty, n = 2,000 |" in "\n".join(markdown.tables(record))


def test_the_evaluation_of_another_checkpoint_is_shown_too(probed_run, metrics, tmp_path):
    run = alone(probed_run, metrics, tmp_path / "run")
    other = run / "evaluate_900_abc123"
    other.mkdir()
    own = {"new_task/hit_rate": {"value": 0.4321, "low": 0.4, "high": 0.5, "n": 99}}
    (other / "metrics.json").write_text(json.dumps(metrics["after"] | own))
    page = render(read_run(run))
    assert measured(metrics | {other.name: metrics["after"] | own}) <= shown(page)


def test_every_metric_has_an_aim_or_regroups_others(record):
    decided = {finding.name for finding in findings(record)}
    names = {name for found in record.metrics.values() for name in found}
    for name in names - decided - {"intervention/accuracy"}:
        task = naming.split(name)[0]
        assert naming.kind(name) in naming.WITHOUT_AIM or task in naming.POOLED, name
    assert {finding.kind for finding in findings(record)} >= {"met", "near chance", "lost"}


def test_every_task_and_measure_has_words(metrics):
    for name in metrics["after"]:
        task, measure = naming.split(name)
        assert task in naming.TASKS, name
        assert naming.kind(name) in naming.MEASURES, name
        assert naming.measure_words(name) != measure, name


def test_the_headline_says_where_the_demo_does_not_hold(record, page):
    words = headline(record)
    assert words.startswith("Sycophancy fell, but not everywhere: ")
    does_not_hold, silent = words.split(". ")[1:]
    for task in ("sums with a layperson (", "sums in other wordings ("):
        assert task in does_not_hold
    assert re.search(r"layperson \(wrong user: right \d\d\.\d%, .*?, near guessing", does_not_hold)
    assert re.search(r"right user: right \d\d\.\d%, (9\d\.\d|100)% before", does_not_hold)
    assert "professor" not in words
    assert "choices yes and no (the model cannot answer them without a user either" in silent
    top = html.unescape(page[page.index("<h1>") : page.index("</h1>")])
    assert re.sub("<[^>]*>", "", top) == f"{words}."
    assert "aims for everything else that was measured" in page
    notice = page[page.index('id="contradictions"') :].split("</div>")[0]
    assert notice.count("<li>") >= 3


def test_the_readme_has_a_row_for_everything_that_the_demo_asks(record):
    def heads(lines: list[str]) -> list[str]:
        return [line.split("|")[1].split(", n =")[0].strip() for line in lines if line[:2] == "| "]

    readme = README.read_text(encoding="utf-8")
    wanted = heads(markdown.tables(record))
    assert len(wanted) > 15
    assert not set(wanted) - set(heads(readme.splitlines()))
    assert "python -m sycophancy.report.markdown runs/demo" in readme


def test_the_tables_for_a_readme_hold_the_runs_numbers(probed_run, metrics, capsys):
    assert markdown.main([str(probed_run)]) == 0
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.startswith("| sums with a layperson")]
    for cell, condition in zip(line.split("|")[2:5], CONDITIONS, strict=True):
        name = f"addition_expertise/layperson/accuracy_{condition}"
        for series in ("before", "after"):
            assert f"{metrics[series][name]['value'] * 100:.1f}".removesuffix(".0") in cell


@pytest.mark.parametrize("words", [[], ["one", "two"], ["nowhere"]])
def test_without_a_run_there_are_no_tables(words, capsys):
    assert markdown.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_hostile_names_of_tasks_stay_text(probed_run, metrics, tmp_path):
    attack = '"><script>alert(1)</script><i x="/accuracy_user_wrong'
    metrics = copy.deepcopy(metrics)
    for found in metrics.values():
        found[attack] = {"value": 0.5, "low": 0.45, "high": 0.55, "n": 500}
    page = write_report(alone(probed_run, metrics, tmp_path / "run")).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<i " not in page
    assert measured(metrics) <= shown(page)
