"""A sweep does once what its cells have in common, goes on after a failure, and continues."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy_stages
from toy_stages import Toys

from sycophancy.config import load, macros, schema
from sycophancy.engine import run_folder
from sycophancy.engine.fingerprint import Ingredients
from sycophancy.engine.pipeline import Pipeline
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.stages.order import all_stages
from sycophancy.study import sweep
from sycophancy.study.place import SweepPlace
from sycophancy.training.preemption import Preempted

SHIPPED = macros.root() / "recipes"
ABLATIONS = [
    (base, f"{folder}/{path.stem}")
    for base, folder in (("demo", "ablations"), ("paper", "paper_ablations"))
    for path in sorted((SHIPPED / folder).glob("*.gin"))
]
MODELS = ("mini_small", "mini_base")
RECIPES = ("demo", "ablations/no_filtration")


@pytest.fixture
def toys(monkeypatch) -> Toys:
    return toy_stages.install(monkeypatch)


@pytest.fixture
def call(sycophancy, tmp_path):
    """The command over the usual grid, into one folder."""

    def call(*words: object, models=MODELS, recipes=RECIPES, seeds=2):
        return sycophancy(
            *("sweep", "--models", ",".join(models), "--recipes", ",".join(recipes)),
            *("--seeds", seeds, "--name", "grid", "--out", tmp_path / "grid", *words),
        )

    return call


def cells(tmp_path: Path) -> list[dict]:
    found = json.loads((tmp_path / "grid" / "sweep.json").read_text())
    assert (found["format"], found["name"]) == (1, "grid")
    return found["cells"]


def test_what_cells_have_in_common_is_done_once(toys, call, tmp_path):
    assert call(recipes=[*RECIPES, "ablations/ratio_1_1"]).code == 0
    assert [cell["state"] for cell in cells(tmp_path)] == ["done"] * 12
    assert [seed for _, _, seed in toys.did("prepare")] == [0, 1]
    assert toys.did("evaluate_before") == [(m, "demo", s) for m in MODELS for s in (0, 1)]
    assert len(toys.did("filter")) == 8  # two a model and seed, with and without filtration
    assert len(toys.did("finetune")) == 12
    for cell in cells(tmp_path):
        folder = tmp_path / "grid" / cell["folder"]
        for stage in ("prepare", "filter", "finetune", "evaluate_before", "evaluate_after"):
            assert (folder / stage / "text").read_text().split()[1] == str(cell["seed"])
        assert (folder / "prepare" / "evaluation" / "surveys" / "rows").exists()
        assert (folder / "report.html").exists()
        assert json.loads((folder / "cell.json").read_text()) == {"format": 1, **cell}


def test_the_record_says_what_the_cell_is(toys, call, tmp_path):
    call("--set", "BATCH_SIZE=8", recipes=["ablations/ratio_1_0"], models=["mini_base"])
    cell = cells(tmp_path)[1]
    assert (cell["model"], cell["recipe"], cell["seed"]) == ("mini_base", "ablations/ratio_1_0", 1)
    assert cell["folder"] == "mini_base/ablations-ratio_1_0/seed1"
    assert cell["settings"]["MIXTURE_RATIO"] == [1.0, 0.0]
    assert (cell["settings"]["SEED"], cell["settings"]["BATCH_SIZE"]) == (1, 8)
    assert "EMBED_DIM" not in cell["settings"]
    assert cell["error"] is None
    command = json.loads((tmp_path / "grid" / "sweep.json").read_text())["command"]
    assert command.startswith("sycophancy sweep --models mini_base")


def test_one_page_is_about_all_cells(toys, call, tmp_path):
    toys.broken["ablations/no_filtration", "finetune"] = UserError("the loss was not finite")
    outcome = call(models=["mini_base"], seeds=1)
    page = tmp_path / "grid" / "report.html"
    assert outcome.out == f"{page}\n"
    assert "the loss was not finite" in page.read_text()


def test_a_second_start_does_nothing(toys, call, tmp_path):
    call()
    before, worked = (tmp_path / "grid" / "sweep.json").read_text(), len(toys.worked)
    outcome = call()
    assert outcome.code == 0
    assert len(toys.worked) == worked
    assert "done in" not in outcome.err
    assert "taken over" not in outcome.err
    assert (tmp_path / "grid" / "sweep.json").read_text() == before


def test_a_change_of_a_setting_redoes_what_depends_on_it(toys, call, tmp_path):
    call()
    kept = (tmp_path / "grid" / "mini_base" / "demo" / "seed0" / "prepare" / "text").stat().st_ino
    toys.worked.clear()
    refused = call("--set", "LEARNING_RATE=1e-4")
    assert refused.code == 1
    assert refused.err.count("finetune: LEARNING_RATE was 0.001 and is 0.0001") == 2 * 8
    assert not toys.worked
    call("--set", "LEARNING_RATE=1e-4", "--redo", "finetune")
    assert len(toys.did("finetune")) == 8
    assert {name for *_, name in toys.worked} == {"finetune"}  # the toy's result is the same
    place = tmp_path / "grid" / "mini_base" / "demo" / "seed0" / "prepare" / "text"
    assert place.stat().st_ino == kept
    assert {cell["settings"]["LEARNING_RATE"] for cell in cells(tmp_path)} == {1e-4}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("the loss was not finite"), "the loss was not finite"),
        (ValueError("a bad\nshape"), "ValueError: a bad shape"),
    ],
)
def test_a_failed_cell_does_not_stop_the_rest(toys, call, tmp_path, error, reason):
    toys.broken["ablations/no_filtration", "finetune"] = error
    outcome = call(seeds=1)
    assert outcome.code == 1
    assert [cell["state"] for cell in cells(tmp_path)] == ["done", "failed"] * 2
    assert cells(tmp_path)[1]["error"] == reason
    last = outcome.err.splitlines()[-3:]
    assert last[0] == "sycophancy: 2 of 4 cells failed"
    assert last[1] == f"  mini_small, ablations/no_filtration, seed 0: {reason}"
    folder = tmp_path / "grid" / cells(tmp_path)[1]["folder"]
    assert "Traceback" in (folder / "failure.txt").read_text()
    toys.broken.clear()
    toys.worked.clear()
    assert call(seeds=1).code == 0
    assert [cell["state"] for cell in cells(tmp_path)] == ["done"] * 4
    assert {name for *_, name in toys.worked} == {"finetune", "evaluate_after"}
    assert {recipe for _, recipe, *_ in toys.worked} == {"ablations/no_filtration"}
    assert not (folder / "failure.txt").exists()


@pytest.mark.parametrize("stop", [Preempted(3, 10), KeyboardInterrupt()])
def test_being_told_to_stop_ends_the_sweep_and_not_a_cell_alone(toys, tmp_path, stop):
    toys.broken["ablations/no_filtration", "finetune"] = stop
    grid = sweep.plan_grid(tmp_path / "grid", ["mini_base"], RECIPES, 2, loaded)
    with pytest.raises(type(stop)):
        sweep.run(sweep.Plan("grid", SweepPlace(str(tmp_path / "grid")), "", grid))
    assert [cell["state"] for cell in cells(tmp_path)] == ["done", "done", "waiting", "waiting"]
    assert len(toys.did("finetune")) == 3


def loaded(model: str, recipe: str, seed: int) -> schema.Config:
    return load.load_config(model, recipe, [f"SEED={seed}"])


def test_one_cell_alone_and_the_file_of_all(toys, call, tmp_path):
    for number, done in ((3, [3]), (0, [0, 3])):
        assert call("--cell", number, models=["mini_base"]).code == 0
        states = [cell["state"] for cell in cells(tmp_path)]
        assert states == ["done" if n in done else "waiting" for n in range(4)]
    assert toys.did("finetune") == [
        ("mini_base", "ablations/no_filtration", 1),
        ("mini_base", "demo", 0),
    ]
    command = json.loads((tmp_path / "grid" / "sweep.json").read_text())["command"]
    assert "--cell" not in command


def test_a_cell_that_is_no_longer_whole_is_waiting(toys, call, tmp_path):
    call(models=["mini_base"], seeds=1)
    first, _ = cells(tmp_path)
    (tmp_path / "grid" / first["folder"] / "metrics.json").unlink()  # as while a stage is redone
    assert call("--cell", 1, models=["mini_base"], seeds=1).code == 0
    assert [cell["state"] for cell in cells(tmp_path)] == ["waiting", "done"]


def test_a_cell_that_another_process_runs_is_left_to_it(toys, call, tmp_path):
    run = RunFolder(tmp_path / "grid" / "mini_base" / "demo" / "seed0")
    run.create()
    with run.lock():
        outcome = call(models=["mini_base"], seeds=1)
    assert outcome.code == 1
    assert "is being written by" in outcome.err.splitlines()[-1]
    assert not (run.path / "cell.json").exists()
    assert [cell["state"] for cell in cells(tmp_path)] == ["waiting", "done"]


ASSEMBLES = """
import sys
from pathlib import Path
from sycophancy.config import load, schema
from sycophancy.study import sweep
from sycophancy.study.place import SweepPlace

def loaded(model, recipe, seed):
    return load.load_config(model, recipe, [f"SEED={seed}"])

folder = Path(sys.argv[1])
grid = sweep.plan_grid(folder, ["mini_base"], ["demo"], 40, loaded)

def bring_up_to_date(plan, job, run, *_):
    (run.path / "metrics.json").write_text("{}")
    return {}

sweep._bring_up_to_date = bring_up_to_date
for number in range(int(sys.argv[2]), 40, 2):
    sweep.run(sweep.Plan("grid", SweepPlace(str(folder)), "", grid), number)
"""


def test_cells_that_are_run_at_the_same_time_are_all_recorded(tmp_path):
    words = [sys.executable, "-c", ASSEMBLES, str(tmp_path / "grid")]
    both = [subprocess.Popen([*words, str(n)], stderr=subprocess.DEVNULL) for n in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert [cell["state"] for cell in cells(tmp_path)] == ["done"] * 40


def test_kept_checkpoints_are_evaluated_and_not_trained_again(toys, call, tmp_path):
    grid = {"models": ["mini_base"], "recipes": ["demo", "ablations/steps"], "seeds": 1}
    outcome = call("--at", "100,120,1000,2000", **grid)
    assert outcome.code == 0, outcome.err
    demo, steps = cells(tmp_path)
    assert demo["steps"] == {"1000": "mini_base/demo/seed0/evaluate_after"}
    assert set(steps["steps"]) == {"100", "1000", "2000"}
    found = json.loads((tmp_path / "grid" / steps["steps"]["100"] / "metrics.json").read_text())
    assert found["asked"].startswith("evaluate_100_")
    assert "[2/2] note: no checkpoint of step 120 was kept; it is left out" in outcome.err
    assert len(toys.did("finetune")) == 2
    again = call("--at", "100,120,1000,2000", **grid)
    assert "done in" not in again.err
    assert cells(tmp_path) == [demo, steps]
    (tmp_path / "grid").rename(tmp_path / "elsewhere")
    moved = call("--at", "100,120,1000,2000", "--out", tmp_path / "elsewhere", **grid)
    assert moved.code == 0
    assert not [line for line in moved.err.splitlines() if "evaluate" in line and "done" in line]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"models": ["mini_base", "mini_bse"]}, "unknown model 'mini_bse'"),
        ({"recipes": ["demo", "no_filtration"]}, "did you mean 'ablations/no_filtration'"),
        ({"seeds": 0}, "--seeds 0: expected at least 1"),
        ({"models": ["mini_base", ""]}, "--models"),
        ({"recipes": [""]}, "--recipes"),
        ({"models": ["mini_base", "mini_base"]}, "mini_base stands there twice"),
        ({"recipes": ["demo", "demo"]}, "demo stands there twice"),
        ({"extra": ["--at", "100,x"]}, "--at x"),
        ({"extra": ["--at", "100,100"]}, "100 stands there twice"),
        ({"extra": ["--at", "9" * 5_000]}, "--at 999"),
        ({"extra": ["--at", "100,7000000"]}, "--at 7000000: the longest run"),
        ({"seeds": 10**10}, "--seeds 10000000000: expected at most 1,000"),
        ({"extra": ["--cell", 8]}, "--cell 8: expected 0 to 7"),
        ({"extra": ["--set", "SEED=3"]}, "SEED"),
        ({"extra": ["--set", "BATCH_SIZ=3"]}, "unknown macro 'BATCH_SIZ'"),
        ({"extra": ["--out", "gs://bucket"]}, "expected gs://BUCKET/FOLDER"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(toys, call, tmp_path, words, said):
    outcome = call(*words.pop("extra", []), **words)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert said in line
    assert not any(tmp_path.iterdir())
    assert toys.worked == []


def test_two_models_of_one_name_are_refused(tmp_path):
    mine = tmp_path / "mini_base.gin"
    mine.write_text("include 'models/mini_base.gin'\n")
    with pytest.raises(UserError, match="another cell has the folder mini_base/demo/seed0"):
        sweep.plan_grid(tmp_path, ["mini_base", str(mine)], ["demo"], 1, loaded)


@pytest.mark.parametrize(("base", "name"), ABLATIONS)
def test_an_ablation_changes_what_it_says_and_keeps_its_name(base, name):
    before = load.macro_values(load.load_config("mini_base", base))
    loaded = load.load_config("mini_base", name)
    assert loaded.recipe == name
    again = load.load_operative(loaded.operative, "config.gin")
    assert again == loaded
    now = load.macro_values(loaded)
    changed = {macro for macro in now if now[macro] != before[macro]} - {"RECIPE"}
    written = (SHIPPED / f"{name}.gin").read_text()
    said = {line.split(" ")[0] for line in written.splitlines() if " = " in line and line[0] != "#"}
    assert changed == said - {"KEEP_CHECKPOINTS"}


# ---- taking a stage over -------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path) -> tuple[RunFolder, RunFolder]:
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    for run in (one, two):
        run.create()
    out = one.begin("prepare")
    (out / "deep").mkdir()
    (out / "deep" / "rows").write_bytes(os.urandom(1000))
    one.complete("prepare", Ingredients({"A": 1}, {}, {}), {"rows": 1}, 2.0)
    return one, two


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_stage_is_taken_over_bit_for_bit_by_links(pair):
    one, two = pair
    assert two.take_over("prepare", one)
    here, there = (contents(run.path / "prepare") for run in (two, one))
    ours, theirs = (json.loads(files.pop("manifest.json")) for files in (here, there))
    assert ours.pop("seal") != theirs.pop("seal")
    assert here == there
    assert ours == {**theirs, "taken_from": "../one"}
    assert two.stale("prepare", Ingredients({"A": 1}, {}, {})) == []
    rows = (two.path / "prepare" / "deep" / "rows", one.path / "prepare" / "deep" / "rows")
    assert rows[0].samefile(rows[1])
    # Doing it again in one of them leaves the other as it was.
    out = two.begin("prepare")
    (out / "rows").write_text("new")
    two.complete("prepare", Ingredients({"A": 2}, {}, {}), {}, 1.0)
    assert contents(one.path / "prepare").keys() == {"deep/rows", "manifest.json"}
    assert rows[1].read_bytes() == there["deep/rows"]


def test_where_links_are_impossible_files_are_copied(pair, monkeypatch):
    def refused(*_):
        raise OSError(18, "Invalid cross-device link")

    one, two = pair
    monkeypatch.setattr(os, "link", refused)
    assert two.take_over("prepare", one)
    rows = [run.path / "prepare" / "deep" / "rows" for run in pair]
    assert not rows[0].samefile(rows[1])
    assert rows[0].read_bytes() == rows[1].read_bytes()


def test_what_another_run_is_doing_again_is_not_taken(pair, monkeypatch):
    one, two = pair
    link = run_folder._link

    def meanwhile(source, destination):
        link(source, destination)
        (one.path / "prepare" / "manifest.json").unlink()  # what goes first

    monkeypatch.setattr(run_folder, "_link", meanwhile)
    assert not two.take_over("prepare", one)
    assert not two.take_over("prepare", one)  # and not what is not complete
    assert not two.take_over("filter", one)
    assert list(two.path.iterdir()) == []


def test_finetuning_is_never_shared(toys, tmp_path):
    """It appends to its journal, and continues in place."""
    demo = load.load_config("mini_base", "demo")
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    for run, shelf in ((one, []), (two, [one])):
        run.create()
        made = Pipeline(toys.all(), demo, run, sweep.Silence(), reusable_runs=shelf)
        made.until(*made.stages)
    assert [name for *_, name in toys.worked].count("finetune") == 2
    assert [name for *_, name in toys.worked].count("prepare") == 1
    journals = [run.path / "finetune" / "text" for run in (one, two)]
    assert not journals[0].samefile(journals[1])


# ---- the stages themselves -----------------------------------------------------------------------


@pytest.mark.slow
def test_shared_stages_are_what_a_run_alone_makes(micro, tmp_path):
    model, found = micro(), []
    for name, shelf, rate in (("one", [], 1e-3), ("two", ["one"], 1e-4), ("alone", [], 1e-4)):
        run = RunFolder(tmp_path / name)
        run.create()
        loaded = load.load_config(
            str(model), str(model.with_name("micro_recipe.gin")), [f"LEARNING_RATE={rate}"]
        )
        others = [RunFolder(tmp_path / other) for other in shelf]
        made = Pipeline(all_stages(), loaded, run, sweep.Silence(), reusable_runs=others)
        made.until("filter")
        found.append({name: contents(run.path / name) for name in ("prepare", "filter")})
    for name in ("prepare", "filter"):
        files = [folders[name] for folders in found]
        manifests = [json.loads(one.pop("manifest.json")) for one in files]
        assert files[0] == files[1] == files[2]
        assert [one.get("taken_from") for one in manifests] == [None, "../one", None]
        assert manifests[1]["fingerprint"] == manifests[2]["fingerprint"]


def test_a_sweep_needs_a_name_or_a_folder(sycophancy):
    outcome = sycophancy("sweep", "--models", "mini_base")
    line = "sycophancy: which sweep? give --name, and its folder is runs/NAME\n"
    assert (outcome.code, outcome.err) == (2, line)
