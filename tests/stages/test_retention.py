"""Other abilities in a run: what is asked, what `auto` decides and keeps, and what is reported."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sycophancy.config.load import load_config
from sycophancy.engine.distributed import Processes
from sycophancy.engine.pipeline import Pipeline
from sycophancy.engine.progress import Silence
from sycophancy.engine.run_folder import RunFolder
from sycophancy.engine.stage import Stage
from sycophancy.errors import UserError
from sycophancy.evaluation import retention
from sycophancy.evaluation.items import Prediction
from sycophancy.evaluation.metric_files import SERIES
from sycophancy.stages import retention as retention_stage
from sycophancy.stages import retention_rows
from sycophancy.stages.order import all_stages

pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra `harness`)")
pytestmark = pytest.mark.extras

ROOT = Path(__file__).parents[2]


def write_mmlu(mirror: Path, questions: int = 3) -> None:
    folder = mirror / "cais__mmlu" / "all"
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("dev", 5), ("test", questions)):
        rows = [
            {
                "question": f"How much is {n} + 1?",
                "choices": [str(n), str(n + 1), str(n + 2), str(n + 3)],
                "answer": 1,
                "subject": "abstract_algebra",
            }
            for n in range(count)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")


def write_bbh(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    examples = [{"input": f"not {text} is", "target": "True"} for text in ("False", "( True )")]
    (folder / "boolean_expressions.json").write_text(json.dumps({"examples": examples}))
    return folder


class Knowing:
    """A language model that knows all answers but those to prompts with one of some texts."""

    def __init__(self, forgotten: tuple[str, ...] = ()) -> None:
        self.forgotten = forgotten
        self.prompts: list[str] = []

    def _knows(self, prompt: str) -> bool:
        self.prompts.append(prompt)
        *_, question = re.split(r"\n\n|\nQ: ", prompt)
        return not any(text in question for text in self.forgotten)

    keeps_line_breaks = False

    def count_tokens(self, texts):
        return np.array([len(text.split()) for text in texts], int)

    def room(self, answer_tokens):
        return 10_000

    def score(self, items, progress=None, *, continuations=False):
        found = []
        for item in items:
            given = " B" if self._knows(item.inputs) else " C"
            values = tuple(0.0 if choice == given else -1.0 for choice in item.choices)
            found.append(Prediction(item.item_id, values, tuple(value == 0 for value in values)))
        return found

    def generate(self, prompts, *, max_new_tokens, stop=(), progress=None, continuations=False):
        return [f"So the answer is {self._knows(prompt)}." for prompt in prompts]


class NotFinetuned(Stage):
    """In place of finetuning: names a checkpoint at once."""

    name = command = "finetune"
    on_devices = False

    def inputs(self, config, run):
        return {}

    def code(self, config):
        return {}

    def work(self, config, run, out, meter):
        return {"checkpoint": config.model.checkpoint}


@pytest.fixture
def place(tmp_path) -> Path:
    """A mirror with one subject of MMLU, and a folder with one task of BIG-Bench Hard."""
    write_mmlu(tmp_path / "mirror")
    write_bbh(tmp_path / "bbh")
    return tmp_path


@pytest.fixture
def asked(monkeypatch) -> list[Knowing]:
    """The models that were loaded: the second one has forgotten what "2 + 1" and "True" are."""
    loaded: list[Knowing] = []

    def load(config, model):
        loaded.append(Knowing(("2 + 1", "( True )") if loaded else ()))
        return loaded[-1]

    monkeypatch.setattr(retention_stage, "load_language_model", load)
    return loaded


def pipeline(micro, place: Path, *settings: str) -> Pipeline:
    rows = [f"DATA_MIRROR='{place / 'mirror'}'", f"BBH_FOLDER='{place / 'bbh'}'"]
    config = load_config(str(micro()), "quick", [*rows, *settings])
    stages = {stage.name: stage for stage in all_stages() if stage.command == "retention"}
    assert list(stages) == ["retention_rows", "retention_before", "retention_after"]
    run = RunFolder(place / "run")
    run.create()
    return Pipeline([NotFinetuned(), *stages.values()], config, run, Silence())


def notes_of(pipeline: Pipeline) -> str:
    manifest = pipeline.run.manifest("retention_rows")
    assert manifest
    return "\n".join(manifest["counts"]["notes"])


def test_both_models_are_asked_and_the_changes_stand_beside_the_papers(micro, place, asked):
    made = pipeline(micro, place, "RETENTION=('mmlu', 'bbh')")
    made.until(*made.stages)
    assert len(asked) == 2
    series = json.loads((made.run.path / "metrics.json").read_text())
    values = {side: {name: m["value"] for name, m in own.items()} for side, own in series.items()}
    assert values["before"] == {variant.metric: 1.0 for variant in retention.VARIANTS} | {
        "retention/bbh_direct_3shot/accuracy": 0.0  # it answers in a sentence
    }
    assert values["after"] == {
        "retention/mmlu_5shot/accuracy": pytest.approx(2 / 3),
        "retention/mmlu_0shot/accuracy": pytest.approx(2 / 3),
        "retention/bbh_direct_3shot/accuracy": 0.0,
        "retention/bbh_cot_3shot/accuracy": 0.5,
    }
    lines = made.stages["retention_after"].summary(made.run)
    assert [line.split(" points")[0] for line in lines] == [
        "MMLU, 5 examples: -33.3",
        "MMLU, no example: -33.3",
        "BIG-Bench Hard, 3 examples: +0.0",
        "BIG-Bench Hard, 3 examples, chain of thought: -50.0",
    ]
    assert lines[1].endswith("the paper: -1.2 to +0.1)")
    (first, *_), *_ = (one.prompts for one in asked)
    assert first.count("\nAnswer:") == 6  # five examples and the question
    assert "MMLU: 56 of 57 subjects have no rows and are left out (anatomy," in notes_of(made)


def test_a_limit_asks_the_first_questions_of_each_subject(micro, place, asked):
    made = pipeline(micro, place, "RETENTION=('mmlu',)", "RETENTION_LIMIT=2")
    made.until(*made.stages)
    answers = retention.read_answers(made.run.stage("retention_after") / retention.SAMPLES)
    assert [answer.question[1:] for answer in answers] == [
        ("abstract_algebra", 0),
        ("abstract_algebra", 1),
    ] * 2


@pytest.mark.parametrize("present", [True, False])
def test_without_the_extra_auto_asks_nothing_and_says_why(
    micro, place, asked, monkeypatch, present
):
    if not present:
        shutil.rmtree(place / "mirror")
    monkeypatch.setattr(retention_rows, "installed", lambda: False)
    made = pipeline(micro, place, "RETENTION=('auto',)")
    made.until(*made.stages)
    assert asked == []
    assert "not measured: the LM evaluation harness is not installed (pip install" in notes_of(made)
    assert made.stages["retention_after"].summary(made.run) == []
    with pytest.raises(UserError, match="RETENTION bbh needs the LM evaluation harness") as refused:
        pipeline(micro, place, "RETENTION=('bbh',)").until("retention_before")
    assert len(str(refused.value).splitlines()) == 1


def test_auto_asks_what_has_rows_and_says_what_has_none(micro, place, asked):
    shutil.rmtree(place / "mirror")
    made = pipeline(micro, place, "RETENTION=('auto',)")
    made.until(*made.stages)
    metrics = json.loads((made.run.path / "metrics.json").read_text())["after"]
    assert set(metrics) == {variant.metric for variant in retention.VARIANTS[2:]}
    missing = place / "mirror" / "cais__mmlu" / "all" / "dev.parquet"
    assert f"MMLU is not measured: {missing} does not exist" in notes_of(made)
    with pytest.raises(UserError, match=r"dev\.parquet does not exist"):
        pipeline(micro, place, "RETENTION=('mmlu',)").until("retention_before")
    shutil.rmtree(place / "bbh")
    made = pipeline(micro, place, "RETENTION=('auto',)")
    made.until("retention_before")
    assert len(asked) == 2  # none more
    assert "BIG-Bench Hard is not measured: there is no row" in notes_of(made)


def test_rows_that_appear_later_are_asked(micro, place, asked):
    shutil.rmtree(place / "mirror")
    pipeline(micro, place, "RETENTION=('auto',)").until("retention_before")
    write_mmlu(place / "mirror")
    made = pipeline(micro, place, "RETENTION=('auto',)")
    assert not made.is_current("retention_before")
    made.until("retention_before")
    assert retention.VARIANTS[0].metric in (made.run.path / "metrics.json").read_text()


def test_what_was_decided_holds_where_a_run_is_continued(micro, place, asked, monkeypatch):
    """Other processes and later ones read the rows from the run folder, not from their source."""
    made = pipeline(micro, place, "RETENTION=('auto',)")
    made.until("retention_before", "finetune")
    with monkeypatch.context() as patched:
        patched.setattr(retention_rows, "installed", lambda: False)
        again = pipeline(micro, place, "RETENTION=('auto',)")
        assert again.is_current("retention_before")
        with pytest.raises(UserError, match=r"asks MMLU and BIG-Bench Hard, and the LM .* here"):
            again.until("retention_after")
    monkeypatch.setattr(retention_rows, "_read", lambda *_: pytest.fail("read again"))
    again.until("retention_after")
    files = [again.run.stage(f"retention_{side}") / "samples.parquet" for side in SERIES]
    questions = [[answer.question for answer in retention.read_answers(f)] for f in files]
    assert questions[0] == questions[1] and len(questions[0]) == 10


class First(Processes):
    """Process 0 of two: keeps what it decides."""

    def __init__(self) -> None:
        self.decisions: list[object] = []

    def broadcast(self, decide):
        self.decisions.append(decide())
        return self.decisions[-1]


class Second(Processes):
    """Process 1 of two: follows, and writes to a folder of its own."""

    leader = False

    def __init__(self, first: First, folder: Path) -> None:
        self.decisions, self.folder = iter(first.decisions), folder

    def broadcast(self, decide):
        return next(self.decisions)

    def workplace(self, shared, *, together):
        return self.folder


def test_a_process_that_finds_no_rows_asks_those_of_the_first(micro, place, asked, monkeypatch):
    made = pipeline(micro, place, "RETENTION=('auto',)")
    made.processes = First()
    made.until("retention_before")
    other = pipeline(micro, place, "RETENTION=('auto',)")
    monkeypatch.setattr(retention_rows, "_read", lambda *_: pytest.fail("only the first reads"))
    other.processes = Second(made.processes, place)
    other.until("retention_before")
    first, second = (one.prompts for one in asked)
    assert first == second and len(first) == 10


def test_each_explicit_ability_that_is_asked_for_changes_the_rows(micro, place, asked):
    pipeline(micro, place, "RETENTION=('mmlu',)").until("retention_before")
    assert pipeline(micro, place, "RETENTION=('mmlu',)").is_current("retention_before")
    made = pipeline(micro, place, "RETENTION=('bbh', 'mmlu')")
    assert not made.is_current("retention_before")


def test_a_damaged_task_of_big_bench_hard_is_one_line(micro, place):
    (place / "bbh" / "boolean_expressions.json").write_text("{}")
    with pytest.raises(UserError, match=r"boolean_expressions\.json is no task of BIG-Bench Hard"):
        pipeline(micro, place, "RETENTION=('bbh',)").until("retention_before")


def test_recipes_that_change_one_thing_do_not_ask_other_abilities():
    folder = ROOT / "gin_configs" / "recipes"
    ablations = [*folder.glob("*ablations/*.gin")]
    assert len(ablations) > 10
    for path in ablations:
        assert load_config("flan_t5_small", str(path)).retention == (), path
    assert load_config("flan_t5_small", "paper").retention == ("auto",)
