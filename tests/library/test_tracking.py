"""What a run sends to Weights & Biases, read back from what its offline mode writes."""

import importlib.util
import json
import struct
import sys
import zlib
from pathlib import Path

import pytest

from sycophancy.config.load import load_config
from sycophancy.engine.pipeline import Pipeline
from sycophancy.engine.progress import Silence
from sycophancy.engine.run_folder import RunFolder
from sycophancy.library import tracking

needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="the extra `wandb` is not installed"
)

JOURNAL = [
    {"step": 0, "validation_loss": 2.5, "intervention/validation_loss": 2.25},
    {"step": 20, "loss": 1.5, "learning_rate": 5e-4},
    {"step": 20, "validation_loss": 1.25},
    {"step": 40, "loss": 0.75, "learning_rate": 5e-4},
    {"step": 40, "validation_loss": 0.5},
]
METRICS = {
    side: {"addition/accuracy_user_wrong": {"value": value, "low": 0.1, "high": 0.9, "n": 10}}
    for side, value in (("before", 0.25), ("after", 0.75))
}


class Notes(Silence):
    """A screen that keeps its notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb_own"))


def pipeline_of(folder: Path, project: str | None = "sycophancy", **more) -> Pipeline:
    bindings = [] if project is None else [f"WANDB_PROJECT={project!r}"]
    config = load_config("mini_small", "quick", bindings)
    folder.mkdir(exist_ok=True)
    return Pipeline([], config, RunFolder(folder), Notes(), **more)


def work(pipeline: Pipeline) -> None:
    """Writes what a run's stages write; the validation losses without a report, as a trainer."""
    folder = Path(pipeline.run.path)
    (folder / "finetune").mkdir(exist_ok=True)
    with (
        pipeline.screen.meter("finetune", "steps", 40) as meter,
        (folder / "finetune" / "metrics.jsonl").open("w") as file,
    ):
        for entry in JOURNAL:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            if "loss" in entry:
                meter.report(entry["step"], entry)
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "report.html").write_text("<html>the report</html>")


def sent(folder: Path) -> list:
    """The records of the one offline run: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, position, whole, records = path.read_bytes(), 7, b"", []
    assert data[:4] == b":W&B"
    while position < len(data):
        if (left := 32_768 - position % 32_768) < 7:  # no header fits into the rest of the block
            position += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        part = data[position + 7 : position + 7 + length]
        assert checksum == zlib.crc32(bytes([kind]) + part), "a damaged record"
        position, whole = position + 7 + length, whole + part
        if kind in (1, 4):  # a whole record, or the last part of one
            records.append(wandb_internal_pb2.Record.FromString(whole))
            whole = b""
    return records


def history(records: list) -> dict[int, dict[str, float]]:
    """Step -> the values logged at it, without W&B's own."""
    steps: dict[int, dict[str, float]] = {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {
                item.key or item.nested_key[0]: json.loads(item.value_json)
                for item in record.history.item
            }
            values = {name: value for name, value in items.items() if not name.startswith("_")}
            steps.setdefault(record.history.step.num, {}).update(values)
    return {step: values for step, values in steps.items() if values}


@needs_wandb
def test_what_is_sent_equals_the_files_of_the_run(tmp_path):
    pipeline = pipeline_of(tmp_path / "large")
    with tracking.tracked(pipeline, "large"):
        work(pipeline)
    records = sent(tmp_path / "large")
    expected: dict[int, dict[str, float]] = {}
    for entry in JOURNAL:
        values = {name: value for name, value in entry.items() if name != "step"}
        expected.setdefault(entry["step"], {}).update(values)
    assert history(records) == expected
    summary = {
        update.key or "/".join(update.nested_key): json.loads(update.value_json)
        for record in records
        if record.WhichOneof("record_type") == "summary"
        for update in record.summary.update
    }
    assert {side: summary[side] for side in METRICS} == METRICS
    (page,) = tmp_path.glob("large/wandb/offline-run-*/files/media/html/*.html")
    assert page.read_text() == "<html>the report</html>"
    assert page.name in summary["report"]["path"]
    (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.project, run.display_name) == ("sycophancy", "large")
    settings = {item.key: item.value_json for item in run.config.update}
    assert json.loads(settings["FINETUNE_STEPS"]) == pipeline.config.training.finetune_steps
    assert pipeline.screen._screen.lines == []


@needs_wandb
def test_a_continued_run_has_the_same_id_and_a_redone_or_moved_one_another(tmp_path, monkeypatch):
    begun = []

    class Begun:
        starting_step = 41  # all steps were sent before
        summary: dict = {}  # noqa: RUF012

        def log(self, *_, **__):
            raise AssertionError("a step was sent twice")

        def finish(self, exit_code):
            assert exit_code == 0

    monkeypatch.setattr("wandb.init", lambda **given: begun.append(given["id"]) or Begun())
    for more in ({}, {}, {"project": "other"}, {"project": "other", "redo": ("finetune",)}):
        pipeline = pipeline_of(tmp_path / "run", **more)
        with tracking.tracked(pipeline, "run"):
            work(pipeline)
        assert pipeline.screen._screen.lines == []
    first, again, other, redone = begun
    assert first == again
    assert len({first, other, redone}) == 3


@needs_wandb
@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_an_error_of_wandb_stops_nothing_and_is_said_once(tmp_path, monkeypatch, where):
    class Failing:
        starting_step = 0
        summary: dict = {}  # noqa: RUF012

        def __init__(self, **_):
            self._fail("init")

        def log(self, *_, **__):
            self._fail("log")

        def finish(self, exit_code):
            self._fail("finish")

        def _fail(self, here):
            if here == where:
                raise RuntimeError("no\nnetwork")

    monkeypatch.setattr("wandb.init", Failing)
    pipeline = pipeline_of(tmp_path / "run")
    with tracking.tracked(pipeline, "run"):
        work(pipeline)
    assert pipeline.screen._screen.lines == ["note: W&B does not show this run: no network"]


def test_a_run_that_fails_before_it_has_anything_to_show_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    pipeline = pipeline_of(tmp_path / "run")
    with pytest.raises(KeyError), tracking.tracked(pipeline, "run"):
        raise KeyError
    assert list((tmp_path / "run").iterdir()) == []


def test_without_the_package_a_setting_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # so that no import finds it
    pipeline = pipeline_of(tmp_path / "run")
    with tracking.tracked(pipeline, "run"):
        work(pipeline)
    (line,) = pipeline.screen._screen.lines
    assert "wandb is not installed" in line


def test_without_the_package_the_option_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, sycophancy
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.chdir(tmp_path)
    outcome = sycophancy("prepare", "--model", "mini_small", "--wandb", "mine", "--out", "run")
    assert outcome.code == 2
    assert "--wandb mine needs the package wandb" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_it_is_off_by_default_and_in_other_processes_and_then_imports_nothing(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tracking, "_Tracker", None)
    pipeline = pipeline_of(tmp_path / "run", project=None)
    screen = pipeline.screen
    with tracking.tracked(pipeline, "run"):
        work(pipeline)
    assert pipeline.screen is screen
    assert screen.lines == []
    follower = pipeline_of(tmp_path / "run")
    monkeypatch.setattr(follower.processes, "leader", False)
    with tracking.tracked(follower, "run"):
        pass
    assert isinstance(follower.screen, Notes)


@needs_wandb
def test_a_missing_key_is_a_note_and_no_question_that_waits(tmp_path, monkeypatch):
    import wandb

    wandb.teardown()  # it keeps the mode of the tests before
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))  # no key there
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(f"wandb.errors.term._sys_{stream}_isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked for a key"))
    pipeline = pipeline_of(tmp_path / "run")
    with tracking.tracked(pipeline, "run"):
        work(pipeline)
    (line,) = pipeline.screen._screen.lines
    wandb.teardown()
    assert "No API key configured" in line
