"""Commands that read a run, of a run in a bucket."""

from __future__ import annotations

import json
from pathlib import Path

import complete_runs
import fake_hub
import pytest

from sycophancy.storage.bucket import Bucket

pytestmark = [
    pytest.mark.extras,
    # huggingface_hub passes its uploads to httpx in a form that httpx advises against.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

ADDRESS = "gs://runs/grid/one"


@pytest.fixture(scope="module")
def local(fabricated, tmp_path_factory) -> Path:
    return complete_runs.of_mini_small(fabricated, tmp_path_factory.mktemp("local") / "one")


@pytest.fixture
def copies(local, server, tmp_path, monkeypatch) -> Path:
    """Where this host's working copies will lie; the run is in the bucket."""
    kept = local / "finetune/checkpoints/3/params"
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "data").write_text("an earlier checkpoint, which nobody asks for")
    names = [str(path.relative_to(local)) for path in local.rglob("*") if path.is_file()]
    Bucket(ADDRESS).upload([name for name in names if "/." not in f"/{name}"], local)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/sycophancy/runs"


def test_measures_and_items_are_those_of_the_local_run(local, copies, server, sycophancy, tmp_path):
    before = server.written.copy()
    for words in (("compare", "--csv", tmp_path / "x.csv"), ("browse", "--limit", 5)):
        found, expected = (sycophancy(*words, place) for place in (ADDRESS, local))
        assert found.code == expected.code == 0, found.err
        assert found.out == expected.out
    (copy,) = copies.iterdir()
    assert not (copy / "finetune/checkpoints").exists()
    assert server.written == before


def test_what_has_changed_in_the_bucket_is_read(copies, server, sycophancy):
    first = sycophancy("compare", ADDRESS)
    assert first.code == 0, first.err
    metrics = json.loads(server.contents("grid/one/metrics.json"))
    for metric in metrics["after"].values():
        metric["value"] = 0.1234
    server.put("grid/one/metrics.json", json.dumps(metrics).encode())
    again = sycophancy("compare", ADDRESS)
    assert "12.3%" not in first.out and "12.3%" in again.out


def test_its_model_answers_and_is_pushed(local, copies, sycophancy, monkeypatch):
    answers = ("generate", "--max-new-tokens", 3, "2 + 2 =", "--out")
    found, expected = (sycophancy(*answers, place) for place in (ADDRESS, local))
    assert found.code == 0, found.err
    assert found.out == expected.out
    assert [line.split(":")[0] for line in found.out.splitlines()] == ["before", "after"]
    (fetched,) = copies.glob("*/finetune/checkpoints/*")
    assert fetched.name == "6"

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    sent = []
    for place in (ADDRESS, local):
        with fake_hub.serving() as hub:
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
            done = sycophancy("push", place, "team/model")
            assert done.code == 0, done.err
            sent.append(hub.files)
    assert sent[0] == sent[1]


@pytest.mark.parametrize("words", [("compare",), ("browse",), ("generate", "2 + 2 =", "--out")])
def test_an_absent_run_is_one_line(copies, sycophancy, words):
    outcome = sycophancy(*words, "gs://runs/grid/other")
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert "there is no run gs://runs/grid/other" in line
    assert not copies.exists()
