"""The working copy of a run in a bucket, with fsspec's file system in memory as the bucket."""

import dataclasses
import json
import os

import fsspec
import pytest
import tensorstore as ts

from sycophancy.config.load import load_config
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.stages.finetune import Finetune
from sycophancy.storage import bucket, working_copy
from sycophancy.storage.working_copy import WorkingCopy
from sycophancy.training.trainers import TRAINERS

ADDRESS = "gs://b/runs/xl"


class Recorded(bucket.Bucket):
    """A bucket in memory that records the order of writes; without the provider's client.

    An object's version is its size, because these objects have no other.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._files = fsspec.filesystem("memory")
        self._home, self.log = f"/{self._bucket}/{self._prefix}", []

    def versions(self, inside=""):
        found = self._files.find(self._home, detail=True)
        names = {name.removeprefix(self._home): str(i["size"]) for name, i in found.items()}
        return {name: size for name, size in names.items() if name.startswith(inside)}

    def upload(self, names, folder):
        self.log += [f"+{name}" for name in sorted(names)]
        super().upload(names, folder)

    def remove(self, names):
        self.log += [f"-{name}" for name in sorted(names)]
        super().remove(names)

    def conditional(self):
        return ts.KvStore.open({"driver": "memory", "path": "lease-"}).result()


@pytest.fixture
def make(monkeypatch, tmp_path):
    """Makes the working copies of hosts."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr(working_copy, "Bucket", Recorded)
    fsspec.filesystem("memory").store.clear()

    def make(host: str = "a", process: int = 0) -> WorkingCopy:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / host))
        return WorkingCopy(ADDRESS, process)

    return make


def write(copy: WorkingCopy, **files: str) -> None:
    for name, text in files.items():
        path = copy.folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(copy: WorkingCopy) -> set[str]:
    return {
        str(path.relative_to(copy.folder)) for path in copy.folder.rglob("*") if path.is_file()
    } - {".lock", ".bucket.json"}


def test_what_one_host_publishes_another_fetches(make):
    first, second = make("a"), make("b")
    with first.owned(print):
        first.fetch()
        write(first, config="1", prepare__rows="22", prepare__manifest_json="{}")
        write(first, **{".prepare.unfinished/rows": "not yet", "filter/.x.unfinished": "nor this"})
        first.publish()
    assert first.bucket.log == ["+config", "+prepare/rows", "+prepare/manifest.json"]
    second.fetch()
    assert names(second) == {"config", "prepare/rows", "prepare/manifest.json"}
    assert (second.folder / "prepare/rows").read_text() == "22"


def test_a_manifest_goes_before_what_it_describes_and_comes_after_it(make):
    copy = make()
    with copy.owned(print):
        copy.fetch()
        write(copy, prepare__old="1", prepare__rows="22", prepare__manifest_json="{}")
        copy.publish()
        copy.bucket.log.clear()
        (copy.folder / "prepare/old").unlink()
        write(copy, prepare__rows="333", prepare__manifest_json="{ }")
        copy.publish()
        assert copy.bucket.log == [
            "-prepare/manifest.json",
            "+prepare/rows",
            "-prepare/old",
            "+prepare/manifest.json",
        ]
        copy.bucket.log.clear()
        copy.publish()
        assert copy.bucket.log == []  # nothing has changed


def test_a_stage_that_was_set_aside_is_so_in_the_bucket(make):
    copy, other = make("a"), make("b")
    with copy.owned(print):
        copy.fetch()
        write(copy, finetune__checkpoints__2="1", finetune__manifest_json="{}")
        copy.publish()
        (copy.folder / "finetune").rename(copy.folder / ".finetune.set-aside-1")
        copy.publish()
    other.fetch()
    aside = ".finetune.set-aside-1"
    assert names(other) == {f"{aside}/checkpoints/2", f"{aside}/manifest.json"}


def test_the_bucket_is_the_truth_and_only_differences_are_fetched(make):
    copy, other = make("a"), make("b")
    with copy.owned(print):
        copy.fetch()
        write(copy, prepare__rows="22", prepare__more="333", filter__kept="4444")
        copy.publish()
    other.fetch()
    status = (other.folder / "filter/kept").stat()
    write(other, prepare__rows="damaged here", prepare__unknown="not in the bucket")
    (other.folder / "prepare/more").unlink()
    other.fetch()
    assert names(other) == {"prepare/rows", "prepare/more", "filter/kept"}
    assert (other.folder / "prepare/rows").read_text() == "22"
    assert os.path.samestat((other.folder / "filter/kept").stat(), status)
    (other.folder / ".bucket.json").write_text("{")  # then everything is fetched
    other.fetch()
    assert names(other) == {"prepare/rows", "prepare/more", "filter/kept"}


def test_a_part_is_fetched_alone(make):
    copy, other = make("a"), make("b")
    with copy.owned(print):
        copy.fetch()
        write(copy, prepare__rows="22", filter__kept="4444")
        copy.publish()
    other.fetch("filter")
    assert names(other) == {"filter/kept"}


def test_without_the_lease_nothing_is_published(make):
    copy, other = make("a"), make("b")
    write(other, prepare__rows="22")
    other.publish()  # a process that never had it leaves publishing to the one that has
    assert other.bucket.log == []
    with copy.owned(print):
        copy.fetch()
        thief = json.dumps({"holder": "process 1 on elsewhere"})
        copy._lease._store._store.write(".lease", thief).result()
        copy._lease._on_loss = lambda: None
        copy._lease.renew()
        write(copy, prepare__rows="22")
        with pytest.raises(UserError, match=f"lease of {ADDRESS} is lost: .* on elsewhere"):
            copy.publish()
    assert copy.bucket.log == []


def test_processes_on_one_host_have_copies_of_their_own(make):
    assert make().folder != make(process=1).folder
    assert make().folder.name.startswith("xl-")


def test_a_failure_of_the_provider_is_one_line(make, monkeypatch):
    copy = make()
    with copy.owned(print):
        copy.fetch()
        write(copy, config="1")
        monkeypatch.setattr(copy.bucket._files, "put_file", lambda *_: 1 / 0)
        with pytest.raises(UserError, match=f"{ADDRESS} cannot be written: division") as error:
            copy.publish()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "trainer", "writer"), [(ADDRESS, "t5x", "T5X"), ("s3://b/xl", "jax", "Orbax")]
)
def test_finetuning_is_refused_where_its_checkpoints_cannot_be_written(
    make, monkeypatch, address, trainer, writer
):
    make()
    config = load_config("mini_base", "demo", [f"TRAINER='{trainer}'"])
    monkeypatch.setitem(TRAINERS, "t5x", dataclasses.replace(TRAINERS["t5x"], requirements=""))
    with pytest.raises(UserError, match=f"{address}: {writer} cannot write checkpoints"):
        Finetune.checks[1](config, RunFolder(address))
    Finetune.checks[1](load_config("mini_base", "demo", ["TRAINER='jax'"]), RunFolder(ADDRESS))
