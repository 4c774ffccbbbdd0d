"""The page of a run: it shows the run's numbers, loads nothing, and runs no script."""

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
from sycophancy.evaluation.units import unit_of
from sycophancy.report.run.page import write_report
from sycophancy.report.run.record import read_run

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
        if unit_of(name) == "share":
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


def test_a_decoder_only_models_row_is_shown_with_its_tokens(usual, tmp_path):
    run, page = usual
    assert "How the model reads a prompt" not in page.text
    shutil.copytree(run, tmp_path / "run")
    summary = tmp_path / "run" / "prepare" / "summary.json"
    summary.parent.mkdir(exist_ok=True)
    before = json.loads(summary.read_text()) if summary.exists() else {}
    row = {"chat": "template", "context": "<|im_start|>user", "answer": " (A)<|im_end|>"}
    row |= {"inputs": [1, 4093], "targets": [365, 2]}
    summary.write_text(json.dumps(before | {"training_example": row}))
    shown = Page(write_report(tmp_path / "run").read_text(encoding="utf-8"))
    text = "".join(shown.text)
    assert "CHAT is template" in text
    assert "<|im_start|>user (A)<|im_end|>" in text
    assert "4 tokens; the loss is on the 2 that are marked" in text
    assert "Token ids: 1 4093 365 2" in text
    assert len(shown.all("mark")) == 2
    for damaged in ({**row, "chat": "other"}, {"chat": "raw"}, [1]):
        summary.write_text(json.dumps(before | {"training_example": damaged}))
        with pytest.raises(UserError, match=r"training_example .* prepare again"):
            write_report(tmp_path / "run")


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
    from sycophancy.config.load import load_config

    config = load_config("mini_base", "demo", ["SEED=7"]).operative
    text = write_report(make_run(number=5, config=config)).read_text(encoding="utf-8")
    assert "sycophancy run --model mini_base --recipe demo --name again --set SEED=7<" in text


def test_a_model_near_chance_is_warned_of_at_the_top(make_run):
    text = write_report(make_run(number=20, readable=0.5)).read_text(encoding="utf-8")
    assert "<h1>This model cannot judge the claims it was finetuned on" in text
    assert "The model cannot judge these claims" in text
    assert "No change below says anything about the method" in text
    assert "of the claims correctly without an opinion" in text  # the warning of filtration itself
    assert "On none of the 17 data sets is the model clearly better than guessing" in text


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


def test_the_page_says_that_filtration_was_switched_off(make_run):
    run = make_run(number=20, config="FILTRATION = False\n")
    (run / "filter" / "summary.json").write_text('{"filtration": false, "rows": 20000}')
    text = write_report(run).read_text(encoding="utf-8")
    assert "Filtration was switched off" in text
    assert "of the validation claims correctly without an opinion" in text
    assert "Filtration left no summary" not in text


def test_the_page_says_how_many_claims_were_dropped_for_balance(make_run):
    run = make_run(number=20, config="FILTER_BALANCE = True\n")
    summary = run / "filter" / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"dropped_for_balance": 1234}))
    text = write_report(run).read_text(encoding="utf-8")
    assert "1,234 of the right ones were dropped" in text
    assert "as many true as false ones are trained on" in text
    assert "right, kept" not in text


def test_a_last_line_that_a_kill_cut_short_is_skipped(make_run):
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
        "import sys, sycophancy.report.run.page, sycophancy.report.run.picture; "
        "sys.exit(bool({'jax', 'tensorflow', 'flax', 'matplotlib'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


TOO_LONG = [
    {"stage": "training", "kind": "instructions", "name": "cot_<b>gsm8k</b>", "dropped": 133,
     "of": 1827, "limit": "512 input tokens"},
    {"stage": "scoring", "kind": "held-out items", "name": "surveys/phil", "dropped": 46,
     "of": 19411, "limit": "2048 tokens & <i>more</i>"},
]  # fmt: skip
BAD_ROWS = [
    {"source": "rows.jsonl'\"><script>x</script>", "reason": "empty target", "dropped": 2, "of": 80}
]


def test_rows_that_were_left_out_are_counted_by_data_set_and_task(make_run):
    run = make_run(number=20)
    path = run / "prepare" / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"too_long": TOO_LONG, "bad_rows": BAD_ROWS}))
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.all("table", **{"class": "dropped"})) == 2
    words = "".join(page.text)
    for expected in (
        "Rows left out because they are too long: 179",
        "Rows left out because they cannot be used: 2",
        "training: instructions; limit: 512 input tokens",
        "cot_<b>gsm8k</b>",  # the markup is text
        "2048 tokens & <i>more</i>",
        "1,827",
        "7.3%",  # 133 of 1,827
        "0.2%",  # 46 of 19,411
        "2.5%",  # 2 of 80
        "empty target",
    ):
        assert expected in words, expected
    assert not page.all("script")
    assert not page.all("i")


@pytest.mark.parametrize("found", [{}, {"too_long": [], "bad_rows": []}])
def test_without_dropped_rows_the_page_has_no_table_of_them(make_run, found):
    run = make_run(number=5)
    path = run / "prepare" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | found))
    assert "left out" not in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "found",
    [
        {"too_long": {}},
        {"too_long": ["x"]},
        {"too_long": [{"stage": "training"}]},
        {"bad_rows": [{"source": "a", "reason": "b", "dropped": "many", "of": 3}]},
        {"notes": 7},
    ],
)
def test_a_summary_that_prepare_did_not_write_is_one_line(make_run, found):
    run = make_run(number=5)
    path = run / "prepare" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | found))
    with pytest.raises(UserError, match=r"prepare/summary\.json: .*; prepare again"):
        write_report(run)


def test_validation_losses_are_drawn_beside_the_training_losses(make_run):
    run = make_run(number=20)
    with (run / "finetune" / "metrics.jsonl").open("a") as file:
        for step, loss, match in ((0, 1.5, 0.015), (500, 0.4, 0.8), (1000, 0.3123, 0.925)):
            kinds = {"instructions/validation_loss": 0.7, "instructions/validation_rows": 31}
            entry = {"step": step, "validation_loss": loss, "validation_exact_match": match}
            file.write(json.dumps(entry | kinds) + "\n")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    text = "".join(page.text)
    outcome = (
        "Validation on held-out rows: loss 1.500 and exact match 1.5% at step 0; "
        "loss 0.312 and exact match 92.5% at step 1,000."
    )
    assert text.count(outcome) == 2  # under the figure, and in its description
    assert len(page.all("path", **{"class": "validation"})) == 2  # the legend, and the line
    assert len(page.all("circle", r="3.5")) == 1 + 3
    for words in ("Training and validation loss", "0.3123", "92.5%", "instructions: loss"):
        assert words in text


def test_a_journal_without_validation_has_the_training_loss_alone(usual):
    _, page = usual
    text = "".join(page.text)
    assert "Training loss" in text
    assert "alidation loss" not in text
    assert not page.all("path", **{"class": "validation"})


def test_any_stage_that_left_a_manifest_is_in_the_table_of_times(make_run):
    run = make_run(number=5)
    for name, finished in (("retain", "2026-01-02"), (".finetune.set-aside-1", "2026-01-01")):
        (run / name).mkdir()
        manifest = {"seconds": 3723.0, "versions": {"probe": "9.9.1"}, "finished": finished}
        (run / name / "manifest.json").write_text(json.dumps(manifest))
    names = [stage.name for stage in read_run(run).stages]
    assert names[-1] == "retain"
    assert len(names) == 6
    text = write_report(run).read_text(encoding="utf-8")
    assert re.search(r"retain</th><td[^>]*>1 h 2 min", text)
    assert "9.9.1" in text


def test_a_data_set_of_the_users_own_is_in_the_tables_of_claims(make_run):
    run = make_run(number=5)
    name = "my_claims_about_" + "x" * 40
    path = run / "filter" / "summary.json"
    summary = json.loads(path.read_text())
    summary["data_sets"][name] = {"asked": 50, "right": 45, "rate": 0.9, "low": 0.8, "high": 0.96}
    path.write_text(json.dumps(summary))
    path = run / "prepare" / "summary.json"
    prepared = json.loads(path.read_text())
    prepared["data_sets"][name] = {"train": {"read": 77, "taken": 50}}
    path.write_text(json.dumps(prepared))
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.all("rect", **{"data-metric": f"filter/{name}"})
    assert "".join(page.text).count(name) >= 3  # the description, and both tables


def test_long_words_and_tables_cannot_widen_the_page(usual):
    """A phone's page has no sideways scroll: words break, and tables scroll by themselves."""
    run, page = usual
    text = (run / "report.html").read_text()
    assert len(re.findall(r"id <code>[^<]+</code>", text)) == len(page.all("article"))
    assert re.search(r"\ncode \{[^}]*overflow-wrap: anywhere", text)
    assert "body { overflow-wrap: break-word; }" in text
    assert text.count("<table") == len(re.findall(r'<div class="scroll"><table', text))
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", text)


MINIATURE = "INITIAL_CHECKPOINT_PATH = 'package:models/mini_base'\nDATA_ORIGIN = 'miniature'\n"


@pytest.mark.parametrize(
    ("config", "said", "unsaid"),
    [
        (MINIATURE, ("Generated data: claims, surveys", "by construction"), ("Real data",)),
        (
            MINIATURE.replace("mini_base", "mini_base_pretrained"),
            ("Generated data", "without the stage that makes the others sycophantic"),
            ("by construction",),
        ),
        (
            MINIATURE + "SURVEYS = '/my/surveys'\n",
            ("Generated data: claims and instructions come", "Surveys were read from files"),
            ("Real data",),
        ),
        (
            MINIATURE + "DATA_SET_FILES = ('/my/set.toml',)\n",
            (
                "Generated data and files given to the run",
                "Claims are made from data sets given to the run, too",
            ),
            ("Real data",),
        ),
        (
            "DATA_ORIGIN = 'hub'\nINITIAL_CHECKPOINT_PATH = 'hf:google/flan-t5-xl'\n",
            ("Real data: claims, surveys and instructions",),
            ("Generated", "miniature"),
        ),
        (
            MINIATURE.replace("'miniature'", "'mirror'") + "DATA_MIRROR = '/data/<b>'\n",
            ("Real data from a local copy", "/data/&lt;b&gt;", "by construction"),
            ("Generated data", "/data/<b>"),
        ),
        (
            MINIATURE + "DATA_SET_FILES = ('a.toml',)\n",
            ("Claims are made from data sets given to the run, too", "claims, surveys"),
            (),
        ),
        (
            MINIATURE + "DATA_SET_FILES = ('a.toml',)\nDATA_SETS = ('own',)\n",
            ("Claims were read from files given to the run", "surveys and instructions come from"),
            ("claims, surveys",),
        ),
        (
            "MODEL_NAME = 'own'\n",
            ("The run does not record where its data came from",),
            ("Generated",),
        ),
    ],
)
def test_the_top_says_whether_data_and_model_are_generated(make_run, config, said, unsaid):
    text = write_report(make_run(number=5, config=config)).read_text(encoding="utf-8")
    top = text[text.index('id="origin"') :].split("</p>")[0]
    assert text.index("<h1>") < text.index('id="origin"') < text.index('class="cards"')
    for words in said:
        assert words in top.replace("&#39;", "'")
    for words in unsaid:
        assert words not in top


def test_without_predictions_changes_are_of_independent_questions(make_run):
    run = make_run(number=200)
    (run / "evaluate_after" / "predictions.parquet").unlink()
    record = read_run(run)
    change = record.changes["surveys/match_rate"]
    assert not change.paired
    assert change.value == pytest.approx(
        record.metrics["after"]["surveys/match_rate"].value
        - record.metrics["before"]["surveys/match_rate"].value
    )
    text = write_report(run).read_text(encoding="utf-8")
    assert "<h1>Sycophancy fell" in text
    assert "computed as if before and after had been asked independent questions" in text


@pytest.mark.parametrize("name", ["metrics.json", "prepare/summary.json", "finetune/manifest.json"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"3", b'"x"', b"\xff\xfe\x00", b"[" * 100_000, b'{"before": [1]}']
)
def test_a_damaged_small_file_is_one_line_or_is_ignored(make_run, name, content):
    run = make_run(number=5)
    (run / name).write_bytes(content)
    try:
        write_report(run)
    except UserError as error:
        assert name.rpartition("/")[2] in str(error)
        assert "\n" not in str(error)


def test_a_folder_in_place_of_a_small_file_is_one_line(make_run):
    run = make_run(number=5)
    (run / "metrics.json").unlink()
    (run / "metrics.json").mkdir()
    with pytest.raises(UserError, match=r"metrics\.json cannot be read"):
        write_report(run)
