"""The pipeline does what is missing, does again what changed, and survives being killed."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sycophancy.config import load
from sycophancy.data.surveys import FILES
from sycophancy.engine.pipeline import Pipeline
from sycophancy.engine.progress import Screen
from sycophancy.engine.run_folder import RunFolder
from sycophancy.engine.stage import Stage
from sycophancy.errors import UserError
from sycophancy.stages.finetune import Finetune
from sycophancy.stages.order import all_stages
from sycophancy.system import paths


class ToyStage(Stage):
    """A stage of the toy run, whose work is a method of the run's test object."""

    on_devices = False  # nothing to collect afterwards, which takes as long as a hundred toys

    def __init__(self, name, depends_on, inputs, work, **declared) -> None:
        self.name = self.command = name
        self.depends_on = depends_on
        self.inputs, self.work = inputs, work
        for attribute, value in declared.items():
            setattr(self, attribute, value)

    def modules(self, config):
        return ()


class Toy(Pipeline):
    """Three stages that write a few bytes; `grow` saves as it goes."""

    def __init__(self, run: RunFolder, source: Path, steps: int = 4, on_step=None, **given) -> None:
        loaded = load.load_config("mini_base", "quick", [f"FINETUNE_STEPS={steps}"])
        self.worked: list[str] = []
        self.on_step = on_step or (lambda where: None)
        stages = (
            ToyStage("read", (), lambda *_: {"the source": source}, self.read),
            ToyStage(
                "grow",
                ("read",),
                lambda _, run: {"read/text": run.path / "read" / "text"},
                self.grow,
                unit="steps",
                settings=frozenset({"FINETUNE_STEPS"}),
                step_setting="FINETUNE_STEPS",
                checkpoints=("text",),
            ),
            ToyStage(
                "count",
                ("grow",),
                lambda _, run: {"grow/text": run.path / "grow" / "text"},
                self.count,
            ),
            Sum(),
        )
        super().__init__(stages, loaded, run, Screen(), **given)
        self.source = source

    def read(self, _, run, out, meter):
        self.worked.append("read")
        self.on_step("read before")
        (out / "text").write_text(self.source.read_text().upper())
        self.on_step("read after")
        return {"letters": 1}

    def grow(self, loaded, run, out, meter):
        self.worked.append("grow")
        text = out / "text"
        grown = text.read_text() if text.exists() else (run.path / "read" / "text").read_text()
        while grown.count("+") < loaded.training.finetune_steps:
            self.on_step(f"grow {grown.count('+')}")
            grown += "+"
            text.write_text(grown)
            meter.report(grown.count("+"), {"loss": 1.0})
        return {}

    def count(self, _, run, out, meter):
        self.worked.append("count")
        self.on_step("count before")
        (out / "text").write_text(str(len((run.path / "grow" / "text").read_text())))
        return {}


class Sum(Stage):
    """Writes the page of the toy run, from what the run publishes."""

    name = command = "sum"
    depends_on = ("count",)
    top_level = ("sum.txt",)
    on_devices = False
    published = {"current.txt": lambda run, current: " ".join(current) or None}  # noqa: RUF012

    def modules(self, config):
        return ()

    def inputs(self, config, run):
        return {"current.txt": run.path / "current.txt"}

    def work(self, config, run, out, meter):
        (out / "sum.txt").write_text((run.path / "current.txt").read_text())
        return {}


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "source.txt"
    path.write_text("abc")
    return path


@pytest.fixture
def run(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def toy(run: RunFolder, source: Path, **given) -> list[str]:
    """Runs the toy pipeline and says which stages worked."""
    pipeline = Toy(run, source, **given)
    pipeline.until("count")
    return pipeline.worked


def test_stages_run_in_order_and_then_never_again(run, source, capsys):
    assert toy(run, source) == ["read", "grow", "count"]
    assert (run.path / "count" / "text").read_text() == "7"
    assert toy(run, source) == []
    assert "count: up to date" in capsys.readouterr().err


def test_only_what_is_needed_runs(run, source):
    pipeline = Toy(run, source)
    pipeline.until("read")
    assert pipeline.worked == ["read"]


def test_a_changed_input_redoes_what_follows_from_it_and_says_why(run, source, capsys):
    toy(run, source)
    source.write_text("abcd")
    assert toy(run, source, redo=["grow"]) == ["read", "grow", "count"]
    said = capsys.readouterr().err
    assert "read: again, because the source changed" in said
    assert "grow: again, because read/text changed" in said
    assert (run.path / "count" / "text").read_text() == "8"


def test_what_summarises_the_run_goes_when_a_stage_runs_again(run, source):
    Toy(run, source).until("sum")
    assert (run.path / "sum.txt").read_text() == "read grow count"
    toy(run, source)
    assert (run.path / "sum.txt").exists()
    source.write_text("abcd")
    Toy(run, source).until("read")
    assert not (run.path / "sum.txt").exists()
    assert run.manifest("sum") is None
    assert (run.path / "current.txt").read_text() == "read"


def test_an_extra_stage_leaves_the_summaries_of_the_run(run, source):
    pipeline = Toy(run, source)
    pipeline.until("sum")
    count = pipeline.stages["count"]
    pipeline.until_extra(ToyStage("extra", ("grow",), count.inputs, pipeline.count))
    assert (run.path / "sum.txt").exists()
    assert run.manifest("extra") is not None


def test_a_summary_of_an_incomplete_run_names_what_is_out_of_date(run, source, capsys):
    Toy(run, source).until("grow")
    source.write_text("abcd")
    Toy(run, source).summarise("sum")
    said = capsys.readouterr().err
    assert "sum: read is out of date" in said
    assert "sum: grow is out of date" in said
    assert not (run.path / "count").exists()


def test_checks_are_made_once_and_before_any_stage(run, source):
    made: list[str] = []

    def refuse(config, run):
        made.append("refuse")
        raise UserError("no such device")

    pipeline = Toy(run, source)
    for name in ("read", "count"):
        pipeline.stages[name].checks = (lambda *_, name=name: made.append(name), made_once)
    made_once.count = 0
    pipeline.stages["grow"].checks = (made_once, refuse)
    with pytest.raises(UserError, match="no such device"):
        pipeline.until("count")
    assert made == ["read", "refuse"]
    assert made_once.count == 1
    assert pipeline.worked == []


def made_once(config, run) -> None:
    made_once.count += 1


def test_a_change_that_makes_no_difference_stops_there(run, source):
    toy(run, source)
    source.write_text("ABC")  # the first stage makes the same of it
    assert toy(run, source, redo=["grow"]) == ["read"]


def test_more_steps_continue_and_fewer_start_over_on_demand(run, source, capsys):
    toy(run, source, steps=4)
    seen: list[str] = []
    toy(run, source, steps=6, on_step=seen.append)
    assert seen == ["grow 4", "grow 5", "count before"]
    assert "FINETUNE_STEPS was 4 and is 6" in capsys.readouterr().err
    seen.clear()
    toy(run, source, steps=2, on_step=seen.append, redo=["grow"])
    assert seen == ["grow 0", "grow 1", "count before"]


def test_a_failed_stage_leaves_nothing_half_written(run, source):
    def fail(where: str) -> None:
        if where == "read after":
            raise UserError("bad row")

    with pytest.raises(UserError, match="bad row"):
        toy(run, source, on_step=fail)
    assert not any(run.path.iterdir())


def test_a_full_disk_is_one_line(run, source):
    def fail(where: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"read: cannot write to .*No space left") as caught:
        toy(run, source, on_step=fail)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.gin", "manifest.json", "begun.json"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_takes_no_small_file_is_one_line(run, source, monkeypatch, name, error):
    write = paths.write_atomically

    def full(path, text):
        if path.name == name:
            raise OSError(error, os.strerror(error), str(path))
        write(path, text)

    with monkeypatch.context() as patched, pytest.raises(UserError, match="cannot write") as caught:
        patched.setattr(paths, "write_atomically", full)
        toy(run, source)
    assert "\n" not in str(caught.value)
    toy(run, source)
    assert (run.path / "count" / "text").read_text() == "7"


def contents(run: RunFolder) -> dict[str, bytes]:
    """Every file of a run but its lock."""
    files = (path for path in run.path.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "change", ["fewer steps", "other input", "other code", "other earlier code"]
)
def test_what_would_replace_saved_steps_is_refused_before_anything_is_written(
    run, source, change, monkeypatch
):
    toy(run, source)
    before = contents(run)
    if change == "other input":
        source.write_text("other")
    if change.endswith("code"):
        changed = "read" if "earlier" in change else "grow"
        code = Stage.code
        monkeypatch.setattr(
            Stage,
            "code",
            lambda self, config: (
                {**code(self, config), "new.py": "1"}
                if self.name == changed
                else code(self, config)
            ),
        )
    with pytest.raises(UserError, match="--redo grow") as caught:
        toy(run, source, steps=3 if change == "fewer steps" else 4)
    assert {
        "fewer steps": "FINETUNE_STEPS was 4 and is 3",
        "other input": "the source changed",
    }.get(change, "new.py changed") in str(caught.value)
    assert contents(run) == before
    if change.endswith("code"):
        assert toy(run, source, any_code=True) == []


def test_other_code_is_told_only_of_what_it_made(run, source, monkeypatch):
    """`--any-code` keeps a complete stage and what its manifest says of its code."""
    toy(run, source)
    before = run.manifest("grow")
    monkeypatch.setattr(Stage, "code", lambda self, config: {"new.py": "1"})
    toy(run, source, any_code=True)
    assert run.manifest("grow") == before
    toy(run, source, steps=5, any_code=True)
    assert run.manifest("grow")["codes"] == [before["ingredients"]["code"], {"new.py": "1"}]


def test_a_stage_that_nothing_can_redo_is_named(run, source):
    with pytest.raises(UserError, match="--redo read: expected grow"):
        toy(run, source, redo=["read"])


def test_the_code_of_a_stage_is_what_its_module_imports():
    loaded = load.load_config("mini_base", "quick")
    code = {stage.name: stage.code(loaded).keys() for stage in all_stages()}
    wanted = ("training/packing", "model/sharding", "model/vocabulary", "evaluation/items")
    assert {f"sycophancy/{name}.py" for name in wanted} <= code["finetune"]
    assert "sycophancy/scoring/batching.py" in code["evaluate_after"]
    assert "sycophancy/evaluation/intervals.py" in code["filter"]
    assert any(file.endswith(".html.j2") for file in code["report"])
    assert any(file.endswith(".css") for file in code["report"])
    modules = {stage.name: type(stage).__module__ for stage in all_stages()}
    for name, files in code.items():
        assert f"{modules[name].replace('.', '/')}.py" in files
        assert not any("/cli/" in file for file in files)
        assert any("/report/" in file for file in files) == (name == "report")
        assert any("training/step" in file for file in files) == (name == "finetune")
        asks = name[:4] in ("filt", "eval", "rete") and name != "retention_rows"
        assert any("/scoring/" in file for file in files) == asks


def test_the_code_of_finetuning_is_that_of_its_trainer():
    for trainer, other in (("jax", "t5x/recipe"), ("t5x", "training/trainer")):
        loaded = load.load_config("mini_base", "quick", [f"TRAINER={trainer}"])
        files = Finetune().code(loaded).keys()
        assert f"sycophancy/training/{other}.py" not in files


MOMENTS = ["read before", "read after", "grow 0", "grow 2", "grow 3", "count before"]

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_pipeline import Toy
from sycophancy.engine.run_folder import RunFolder

def on_step(where):
    if where == sys.argv[4]:
        os.kill(os.getpid(), signal.SIGKILL)

run = RunFolder(sys.argv[2])
run.create()
with run.lock():
    Toy(run, Path(sys.argv[3]), on_step=on_step).until("count")
"""


@pytest.mark.parametrize(
    "moment",
    [
        moment
        if moment in ("read after", "grow 3", "count before")
        else pytest.param(moment, marks=pytest.mark.slow)
        for moment in MOMENTS
    ],
)
def test_killed_at_any_moment_it_continues(run, source, moment):
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(here), str(run.path), str(source), moment]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    seen: list[str] = []
    with run.lock():
        toy(run, source, on_step=seen.append)
    assert (run.path / "count" / "text").read_text() == "7"
    assert (run.path / "grow" / "text").read_text() == "ABC++++"
    if moment.startswith("grow"):
        assert seen[0] == moment  # neither an earlier stage nor an earlier step again
    left = {path.name for path in run.path.iterdir()}
    assert left == {"read", "grow", "count", ".lock", "config.gin", "current.txt"}


def test_killed_between_the_folder_and_its_manifest_it_continues(run, source, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RunFolder, "_write_manifest", killed)
        toy(run, source)
    assert run.manifest("read") is None
    assert toy(run, source) == ["read", "grow", "count"]
    assert not list(run.path.glob(".*.unfinished"))
    (run.path / "grow" / "manifest.json").unlink()
    seen: list[str] = []
    toy(run, source, on_step=seen.append)
    assert seen == []  # all steps were saved


def test_the_stages_of_a_run_and_the_macros_they_depend_on():
    stages = {stage.name: stage for stage in all_stages()}
    names = ["prepare", "retention_rows", "filter", "finetune"]
    names += ["evaluate_before", "evaluate_after"]
    names += ["evaluate_baseline_truthful", "evaluate_baseline_rewrite"]
    names += ["retention_before", "retention_after", "report"]
    assert list(stages) == names
    for name, stage in stages.items():
        assert all(names.index(other) < names.index(name) for other in stage.depends_on)
    assert "NUM_EXAMPLES" in stages["prepare"].settings
    assert "FILTRATION" in stages["filter"].settings
    assert {"LEARNING_RATE", "SEED", "DROPOUT_RATE"} <= stages["finetune"].settings
    assert "DROPOUT_RATE" not in stages["evaluate_after"].settings
    # Everything that can be set changes some stage, or else says only where and how.
    every = {name for stage in stages.values() for name in stage.settings}
    places = {"DATA_MIRROR", "SURVEYS", "INSTRUCTIONS", "DATA_SET_FILES", "EVALUATIONS"}
    places |= {"INITIAL_CHECKPOINT_PATH", "VOCABULARY", "PUBLIC_SETS_FOLDER", "BBH_FOLDER"}
    manner = {
        *("MESH", "LOG_PERIOD", "REMAT_POLICY", "WANDB_PROJECT"),
        *("SAVE_PERIOD", "SAVE_MINUTES", "KEEP_CHECKPOINTS", "KEEP_PERIOD"),
    }
    labels = {"MODEL_NAME", "RECIPE", "PRETRAINED_STEP"}
    which_stages = {"BASELINES"}
    assert every | places | manner | labels | which_stages == set(load.macro_types())


def test_the_data_that_was_given_counts_by_content_not_by_place(tmp_path):
    loaded = load.load_config("mini_base", "quick")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for survey in FILES.values():
            (tmp_path / name / f"{survey}.jsonl").write_text("{}")
    found = []
    for name in ("one", "two"):
        data = dataclasses.replace(loaded.data, surveys=str(tmp_path / name))
        pipeline = Pipeline(
            all_stages(),
            dataclasses.replace(loaded, data=data),
            RunFolder(tmp_path / "run"),
            Screen(),
        )
        found.append(pipeline.ingredients(pipeline.stages["prepare"]).fingerprint)
    assert found[0] == found[1]
    (tmp_path / "two" / f"{FILES['nlp']}.jsonl").write_text("{ }")
    assert pipeline.ingredients(pipeline.stages["prepare"]).fingerprint != found[0]


def test_prepare_depends_on_what_measures_its_rows(tmp_path):
    """Models that share a vocabulary share what is prepared; other lengths or pieces do not."""

    def prepare(model: str, *bindings: str) -> str:
        loaded = load.load_config(model, "quick", bindings)
        pipeline = Pipeline(all_stages(), loaded, RunFolder(tmp_path / "run"), Screen())
        return pipeline.ingredients(pipeline.stages["prepare"]).fingerprint

    base = prepare("mini_base")
    assert prepare("mini_small") == base
    vocabulary = Path(load.load_config("mini_base", "quick").model.vocabulary)
    (tmp_path / "copy.model").write_bytes(vocabulary.read_bytes())
    assert prepare("mini_base", f"VOCABULARY={tmp_path / 'copy.model'}") == base
    (tmp_path / "copy.model").write_bytes(vocabulary.read_bytes() + b"x")
    assert prepare("mini_base", f"VOCABULARY={tmp_path / 'copy.model'}") != base
    assert prepare("mini_base", "TASK_FEATURE_LENGTHS={'inputs': 500, 'targets': 64}") != base
    assert prepare("mini_base", "ON_BAD_ROW='stop'") != base
    assert prepare("mini_base", "BATCH_SIZE=8") == base


def test_metrics_hold_only_evaluations_that_are_current(tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    run.create()
    pipeline = Pipeline(all_stages(), load.load_config("mini_base", "quick"), run, Screen())
    for series in ("before", "after"):
        (run.path / f"evaluate_{series}").mkdir()
        (run.path / f"evaluate_{series}" / "metrics.json").write_text(json.dumps({"n": series}))
    monkeypatch.setattr(pipeline, "is_current", lambda name: name == "evaluate_before")
    pipeline.publish()
    assert json.loads((run.path / "metrics.json").read_text()) == {"before": {"n": "before"}}
