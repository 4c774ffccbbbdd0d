"""A run folder never shows a stage that is not complete, and never takes two writers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from etils import epath

from sycophancy.engine import fingerprint
from sycophancy.engine.fingerprint import Ingredients
from sycophancy.engine.resumable import Resumable
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.system import paths


def ingredients(steps: int = 10, data: str = "a", code: str = "c") -> Ingredients:
    return Ingredients({"STEPS": steps, "PAIR": (1, 2)}, {"the data": data}, {"module.py": code})


@pytest.fixture(params=["local", "bucket"])
def run(request, tmp_path) -> RunFolder:
    """A run folder, also through the interface that buckets are read by."""
    folder = RunFolder(tmp_path / "run")
    if request.param == "bucket":
        folder.path = epath.Path(tmp_path / "run")
        assert not isinstance(folder.path, Path)
    folder.create()
    return folder


def finish(run: RunFolder, made_of: Ingredients, text: str = "result") -> None:
    out = run.begin("prepare")
    (out / "rows.txt").write_text(text)
    run.complete("prepare", made_of, {"rows": 3}, 1.0)


def test_a_complete_stage_is_up_to_date(run):
    assert run.stale("prepare", ingredients()) == ["it is not done yet"]
    finish(run, ingredients())
    assert run.stale("prepare", ingredients()) == []
    manifest = run.manifest("prepare")
    assert manifest["fingerprint"] == ingredients().fingerprint
    assert manifest["counts"] == {"rows": 3}
    assert list(manifest["outputs"]) == ["prepare/rows.txt"]
    assert manifest["versions"]["python"]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        (ingredients(steps=11), "STEPS was 10 and is 11"),
        (ingredients(data="b"), "the data changed"),
        (ingredients(code="d"), "module.py changed"),
    ],
)
def test_what_changed_is_named(run, changed, word):
    finish(run, ingredients())
    assert run.stale("prepare", changed) == [word]
    assert changed.fingerprint != ingredients().fingerprint


def test_other_code_can_be_accepted(run):
    finish(run, ingredients())
    assert run.stale("prepare", ingredients(code="d"), any_code=True) == []
    assert run.stale("prepare", ingredients(data="b"), any_code=True)


def test_a_deleted_output_is_missed(run):
    finish(run, ingredients())
    (run.stage("prepare") / "rows.txt").unlink()
    assert run.stale("prepare", ingredients()) == ["prepare/rows.txt is missing"]


def test_an_unfinished_stage_is_invisible_and_starts_empty(run):
    (run.begin("prepare") / "half.txt").write_text("half")
    assert run.manifest("prepare") is None
    assert not run.stage("prepare").exists()
    assert list(run.begin("prepare").iterdir()) == []
    run.abandon("prepare")
    assert [path.name for path in run.path.iterdir()] == []


def test_the_earlier_result_stands_until_the_new_one_is_complete(run):
    finish(run, ingredients(), "old")
    run.begin("prepare")
    assert (run.stage("prepare") / "rows.txt").read_text() == "old"
    finish(run, ingredients(steps=11), "new")
    assert (run.stage("prepare") / "rows.txt").read_text() == "new"


def resumable(run: RunFolder) -> Resumable:
    return Resumable(run, "finetune", "STEPS", (r"states/\d+",))


def save(out, number: int, text: str = "state") -> None:
    (out / "states" / str(number)).mkdir(parents=True)
    (out / "states" / str(number) / "data").write_text(text)


@pytest.mark.parametrize("later", [ingredients(), ingredients(steps=20)])
def test_training_is_continued(run, later):
    save(resumable(run).begin(ingredients())[0], 5)
    out, notes = resumable(run).begin(later)
    assert (out / "states" / "5").exists()
    assert notes == []


CHANGES = [
    (ingredients(steps=5), "STEPS was 10 and is 5"),
    (ingredients(data="b"), "the data changed"),
    (ingredients(code="d"), "module.py changed"),
]


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize(("later", "difference"), CHANGES)
def test_training_that_would_be_lost_is_refused_with_the_difference(
    run, later, difference, complete
):
    save(resumable(run).begin(ingredients())[0], 5)
    if complete:
        run.complete("finetune", ingredients(), {}, 1.0)
    with pytest.raises(UserError, match=difference) as caught:
        resumable(run).begin(later)
    assert "--redo finetune" in str(caught.value)
    assert "--name" in str(caught.value)
    assert (run.stage("finetune") / "states" / "5" / "data").read_text() == "state"
    assert (run.manifest("finetune") is not None) == complete


@pytest.mark.parametrize(("later", "_"), CHANGES)
def test_training_that_is_replaced_is_kept_until_the_new_one_is_complete(run, later, _):
    save(resumable(run).begin(ingredients())[0], 5)
    run.complete("finetune", ingredients(), {}, 1.0)
    out, (note,) = resumable(run).begin(later, redo=True)
    (aside,) = run.path.glob(".finetune.*")
    assert str(aside) in note
    assert not (out / "states").exists()
    assert (aside / "states" / "5" / "data").read_text() == "state"
    save(out, 5, "new")
    resumable(run).begin(later)  # without --redo, as after a kill
    assert aside.exists()
    run.complete("finetune", later, {}, 1.0)
    resumable(run).discard_set_aside()
    assert not aside.exists()


def test_a_replacement_that_fails_before_it_saves_gives_the_earlier_one_back(run):
    save(resumable(run).begin(ingredients())[0], 5)
    run.complete("finetune", ingredients(), {}, 1.0)
    resumable(run).begin(ingredients(data="b"), redo=True)
    resumable(run).abandon()
    assert run.stale("finetune", ingredients()) == []
    resumable(run).begin(ingredients(data="b"), redo=True)  # and now it is killed
    resumable(run).begin(ingredients())
    assert (run.stage("finetune") / "states" / "5" / "data").read_text() == "state"


def test_every_code_that_took_part_is_listed(run):
    for code in "cdd":
        out, _ = resumable(run).begin(ingredients(code=code), any_code=True)
        (out / "states").mkdir(exist_ok=True)
        (out / "states" / "5").write_text("")
    assert resumable(run).codes() == [{"module.py": "c"}, {"module.py": "d"}]


def test_training_that_has_finished_can_go_on_for_longer(run):
    save(resumable(run).begin(ingredients())[0], 10)
    run.complete("finetune", ingredients(), {}, 1.0)
    assert run.stale("finetune", ingredients()) == []
    out, _ = resumable(run).begin(ingredients(steps=20))
    assert (out / "states" / "10").exists()
    assert run.manifest("finetune") is None


def test_a_damaged_state_is_set_aside_where_an_earlier_one_is_intact(run):
    out, _ = resumable(run).begin(ingredients())
    save(out, 5)
    save(out, 10)
    run.complete("finetune", ingredients(), {}, 1.0)
    (out / "states" / "10" / "data").write_text("stale")
    assert run.stale("finetune", ingredients()) == [
        "finetune/states/10/data is not as it was written"
    ]
    out, (note,) = resumable(run).begin(ingredients())
    assert "states/10 is damaged" in note
    assert [path.name for path in (out / "states").iterdir()] == ["5"]
    assert next(run.path.glob(".finetune.*/states/10/data")).read_text() == "stale"


@pytest.mark.parametrize("name", ["states/10/data", "metrics"])
def test_damage_with_nothing_intact_to_continue_from_is_refused(run, name):
    out, _ = resumable(run).begin(ingredients())
    save(out, 10)
    (out / "metrics").write_text("loss")
    run.complete("finetune", ingredients(), {}, 1.0)
    (out / name).write_text("other")
    with pytest.raises(UserError, match=f"finetune/{name} is not as it was written"):
        resumable(run).begin(ingredients())
    assert (out / name).read_text() == "other"
    assert run.manifest("finetune") is not None


def test_saved_states_of_unknown_origin_are_refused(run):
    out, _ = resumable(run).begin(ingredients())
    save(out, 10)
    (out / "begun.json").write_text('{"settings": 5}')
    with pytest.raises(UserError, match=r"neither begun\.json nor manifest\.json"):
        resumable(run).begin(ingredients())
    assert (out / "states" / "10").exists()


def test_training_that_failed_before_its_first_save_leaves_nothing(run):
    resumable(run).begin(ingredients())
    resumable(run).abandon()
    assert not run.stage("finetune").exists()


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "dangling":
        path.symlink_to(path.with_name("nowhere"))
    elif how == "itself":
        path.symlink_to(path)
    elif how != "missing":
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        path.write_bytes({"half": content[:half], "empty": b"", "flipped": flipped}[how])


@pytest.mark.parametrize(
    "how", ["folder", "pipe", "dangling", "itself", "missing", "half", "empty", "flipped"]
)
def test_a_damaged_output_makes_its_stage_stale(tmp_path, how):
    run = RunFolder(tmp_path / "run")
    finish(run, ingredients())
    damaged(run.stage("prepare") / "rows.txt", how)
    (reason,) = RunFolder(tmp_path / "run").stale("prepare", ingredients())
    assert reason.startswith("prepare/rows.txt is")
    finish(run, ingredients())
    assert run.stale("prepare", ingredients()) == []


@pytest.mark.parametrize("how", ["folder", "dangling", "itself", "half", "empty", "flipped"])
def test_a_damaged_manifest_means_that_the_stage_is_not_done(tmp_path, how):
    run = RunFolder(tmp_path / "run")
    finish(run, ingredients())
    damaged(run.stage("prepare") / "manifest.json", how)
    assert run.manifest("prepare") is None
    (reason,) = run.stale("prepare", ingredients())
    assert reason.startswith("prepare/manifest.json ")
    finish(run, ingredients())
    assert run.stale("prepare", ingredients()) == []


MANIFESTS = ["{}", "[]", '{"ingredients": {}, "outputs": []}', "\xff{", "[" * 10**5, "1" * 5_000]


@pytest.mark.parametrize("text", MANIFESTS)
def test_a_manifest_of_another_form_means_that_the_stage_is_not_done(run, text):
    finish(run, ingredients())
    (run.stage("prepare") / "manifest.json").write_bytes(text.encode("latin-1"))
    (reason,) = run.stale("prepare", ingredients())
    assert reason.startswith("prepare/manifest.json ")


def test_a_manifest_of_an_earlier_version_is_read(run):
    finish(run, ingredients())
    path = run.stage("prepare") / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["seal"]
    path.write_text(json.dumps({**manifest, "outputs": ["prepare/rows.txt"]}))
    assert run.stale("prepare", ingredients()) == []
    (run.stage("prepare") / "rows.txt").unlink()
    assert run.stale("prepare", ingredients()) == ["prepare/rows.txt is missing"]


@pytest.mark.parametrize("name", ["prepare", ".prepare.unfinished", "config.gin", "metrics.json"])
def test_what_a_run_would_write_through_is_refused(tmp_path, name):
    run = RunFolder(tmp_path / "run")
    run.create()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    (run.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{name} is (a link|not a file)"):
        run.check_layout(["prepare"], ["config.gin", "metrics.json"])
    (run.path / name).unlink()
    run.check_layout(["prepare"], ["config.gin", "metrics.json"])
    if "." not in name:
        (run.path / name).write_text("")
        with pytest.raises(UserError, match="is a file"):
            run.check_layout(["prepare"], ["config.gin", "metrics.json"])


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path):
    run = RunFolder(tmp_path)
    second = RunFolder(tmp_path).lock()
    with run.lock(), pytest.raises(UserError, match=f"process {os.getpid()}"):
        second.__enter__()
    with run.lock():
        pass


HOLD = """
import sys, time
from sycophancy.engine.run_folder import RunFolder
with RunFolder(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_leaves_no_lock(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {holder.pid}"), RunFolder(tmp_path).lock():
            pass
        holder.send_signal(signal.SIGKILL)
    with RunFolder(tmp_path).lock():
        pass


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the run to") as caught:
        RunFolder(tmp_path / "file" / "run").create()
    assert "\n" not in str(caught.value)


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "file.json"
    paths.write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        paths.write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_bad_input_leaves_no_new_folder_but_keeps_what_is_the_users(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.create()
    (run.path / "config.gin").write_text("")
    run.remove_if_empty()
    assert not run.path.exists()
    run.create()
    (run.path / "notes.txt").write_text("mine")
    run.remove_if_empty()
    assert (run.path / "notes.txt").exists()


def test_digests_see_contents_and_names(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("one")
    first = fingerprint.Digests().of(folder)
    assert fingerprint.Digests().of(epath.Path(folder)) == first
    (folder / "sub" / "a").write_text("two")
    second = fingerprint.Digests().of(folder)
    (folder / "sub" / "a").rename(folder / "sub" / "b")
    assert len({first, second, fingerprint.Digests().of(folder)}) == 3
    monkeypatch.setattr(fingerprint, "_WHOLE", 10)
    monkeypatch.setattr(fingerprint, "_SAMPLE", 4)
    large = tmp_path / "large"
    digests = set()
    for content in (b"a" * 40, b"a" * 41, b"b" + b"a" * 39, b"a" * 39 + b"b"):
        large.write_bytes(content)
        digests.add(fingerprint.Digests().of(large))
    assert len(digests) == 4


def test_ingredients_survive_json():
    back = json.loads(json.dumps(ingredients().as_json()))
    assert ingredients().differences(back) == []
