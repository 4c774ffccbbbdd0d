"""The list of the files that a run reads, and the faults found when they are opened."""

import dataclasses
import json
import os

import pytest

from sycophancy.config.schema import DataConfig
from sycophancy.data.instructions import HUB_ID
from sycophancy.data.local_files import local_files
from sycophancy.data.surveys import FILES
from sycophancy.errors import UserError


@pytest.fixture
def given(tmp_path, publish, config) -> DataConfig:
    for split in ("train", "validation"):
        publish("sst2", [0, 1], split=split)
    publish("qqp", [0, 1])
    for name in (*FILES.values(), "rows"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"inputs": "a"}))
    return dataclasses.replace(
        config,
        data_sets=("sst2", "qqp"),
        surveys=str(tmp_path),
        instructions=str(tmp_path / "rows.jsonl"),
    )


def test_only_files_that_are_read_are_named(given, publish) -> None:
    publish("cola", [0, 1])
    assert list(local_files(given)) == [
        "the instructions",
        "survey 'nlp'",
        "survey 'phil'",
        "survey 'poli'",
        "data set 'sst2' train.parquet",
        "data set 'sst2' validation.parquet",
        "data set 'qqp' train.parquet",
    ]


def test_the_miniature_and_the_hub_read_no_files() -> None:
    assert local_files(DataConfig()) == local_files(DataConfig(origin="hub")) == {}


def test_a_mirror_may_hold_all_of_it(given, mirror) -> None:
    whole = dataclasses.replace(given, surveys=None, instructions=None)
    with pytest.raises(UserError, match=r"Muennighoff__flan.* holds no train\.parquet"):
        local_files(whole)
    rows = mirror / HUB_ID.replace("/", "__") / "default" / "train.jsonl"
    rows.parent.mkdir(parents=True)
    rows.write_text("{}")
    with pytest.raises(UserError, match=r"survey 'nlp': .*sycophancy_on_nlp_survey.jsonl does not"):
        local_files(whole)


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (lambda path: path.mkdir(), "is not a file"),
        (os.mkfifo, "is not a file"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.symlink_to("nowhere"), "does not exist"),
        (lambda path: None, "does not exist"),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", f"{FILES['phil']}.jsonl"])
def test_a_path_that_is_not_a_file_is_named(name: str, put, message: str, given, tmp_path) -> None:
    (tmp_path / name).unlink()
    put(tmp_path / name)
    with pytest.raises(UserError, match=f"{name} {message}"):
        local_files(given)


def test_a_name_that_no_file_can_have(given) -> None:
    for name in ("x" * 5_000, "a\0b"):
        with pytest.raises(UserError, match=r"the instructions: .* cannot be read"):
            local_files(dataclasses.replace(given, instructions=name))
