"""A run folder never shows a stage that is not complete, and never takes two writers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from etils import epath

from sycophancy import fingerprint, runfolder
from sycophancy.errors import UserError
from sycophancy.fingerprint import Ingredients
from sycophancy.runfolder import RunFolder


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
    assert manifest["outputs"] == ["prepare/rows.txt"]
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


def test_a_damaged_manifest_counts_as_none(run):
    finish(run, ingredients())
    (run.stage("prepare") / "manifest.json").write_text('{"half')
    assert run.manifest("prepare") is None


@pytest.mark.parametrize(
    ("later", "kept"),
    [
        (ingredients(), True),
        (ingredients(code="d"), True),
        (ingredients(steps=20), True),
        (ingredients(steps=5), False),
        (ingredients(data="b"), False),
    ],
)
def test_training_continues_only_what_it_would_have_done_itself(run, later, kept):
    out = run.continue_or_begin("finetune", ingredients(), "STEPS")
    (out / "checkpoint").write_text("step 5")
    out = run.continue_or_begin("finetune", later, "STEPS")
    assert (out / "checkpoint").exists() == kept


def test_training_that_has_finished_can_go_on_for_longer(run):
    out = run.continue_or_begin("finetune", ingredients(), "STEPS")
    (out / "checkpoint").write_text("step 10")
    run.complete("finetune", ingredients(), {}, 1.0)
    assert run.stale("finetune", ingredients()) == []
    out = run.continue_or_begin("finetune", ingredients(steps=20), "STEPS")
    assert (out / "checkpoint").exists()
    assert run.manifest("finetune") is None


def test_training_that_failed_before_its_first_save_leaves_nothing(run):
    run.continue_or_begin("finetune", ingredients(), "STEPS")
    run.abandon("finetune")
    assert not run.stage("finetune").exists()


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path):
    run = RunFolder(tmp_path)
    second = RunFolder(tmp_path).lock()
    with run.lock(), pytest.raises(UserError, match=f"process {os.getpid()}"):
        second.__enter__()
    with run.lock():
        pass


HOLD = """
import sys, time
from sycophancy.runfolder import RunFolder
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
    runfolder.write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        runfolder.write_atomically(path, "new \ud800")
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
    first = fingerprint.of_path(folder)
    assert fingerprint.of_path(epath.Path(folder)) == first
    (folder / "sub" / "a").write_text("two")
    second = fingerprint.of_path(folder)
    (folder / "sub" / "a").rename(folder / "sub" / "b")
    assert len({first, second, fingerprint.of_path(folder)}) == 3
    monkeypatch.setattr(fingerprint, "_WHOLE", 10)
    monkeypatch.setattr(fingerprint, "_SAMPLE", 4)
    large = tmp_path / "large"
    digests = set()
    for content in (b"a" * 40, b"a" * 41, b"b" + b"a" * 39, b"a" * 39 + b"b"):
        large.write_bytes(content)
        digests.add(fingerprint.of_path(large))
    assert len(digests) == 4


def test_ingredients_survive_json():
    back = json.loads(json.dumps(ingredients().as_json()))
    assert ingredients().differences(back) == []
