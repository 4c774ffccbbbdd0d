"""`sycophancy push`: what arrives at a stand-in for the hub, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import complete_runs
import decoder_folders
import fake_hub
import numpy as np
import pytest
import safetensors.numpy
import yaml

from sycophancy.config.load import load_config
from sycophancy.engine.pipeline import Pipeline
from sycophancy.model.checkpoints.convert import convert
from sycophancy.report.markdown import tables
from sycophancy.report.run.record import read_run
from sycophancy.stages.report import Report

# huggingface_hub passes its uploads to httpx in a form that httpx advises against.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "team/less-sycophantic"


@pytest.fixture
def hub(monkeypatch):
    with fake_hub.serving() as found:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # plain LFS
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield found


@pytest.fixture(scope="module")
def complete_run(fabricated, tmp_path_factory) -> Path:
    return complete_runs.of_mini_small(fabricated, tmp_path_factory.mktemp("push") / "run")


@pytest.fixture
def finetuned(complete_run, tmp_path) -> Path:
    """A copy of the complete run that a test may change."""
    return Path(shutil.copytree(complete_run, tmp_path / "run"))


def test_weights_card_and_measurements_arrive(hub, finetuned, sycophancy):
    done = sycophancy("push", finetuned, NAME, "--private")
    assert done.code == 0, done.err
    assert done.out.strip().endswith(NAME)
    assert hub.private == {NAME: True}
    assert hub.tokens == {"Bearer hf_of_a_test"}
    sent = safetensors.numpy.load(hub.files["model.safetensors"])
    ours = safetensors.numpy.load_file(complete_runs.SHIPPED / "model.safetensors")
    assert sent.keys() == ours.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(sent[name], tensor.astype(np.float32), err_msg=name)
    assert hub.files["spiece.model"] == (complete_runs.SHIPPED / "spiece.model").read_bytes()
    assert json.loads(hub.files["config.json"])["model_type"] == "t5"
    for name in ("metrics.json", "report.html", "config.gin"):
        assert hub.files[name] == (finetuned / name).read_bytes()
    assert not list(finetuned.glob(".push*"))


def test_a_process_of_its_own_has_all_it_needs(finetuned):
    """No test before has imported what the command forgot."""
    words = [sys.executable, "-m", "sycophancy", "push", finetuned, NAME]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sycophancy: HF_HUB_OFFLINE is set, so nothing can be pushed; unset it\n"


def test_the_card_has_every_measured_number_and_how_to_make_the_run(hub, finetuned, sycophancy):
    assert sycophancy("push", finetuned, NAME).code == 0
    assert hub.private == {NAME: False}
    card = hub.files["README.md"].decode()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "apache-2.0"
    record = read_run(finetuned)
    for line in tables(record):
        assert line in text
    assert re.search(r"sycophancy run --model mini_small --recipe quick", text)
    assert "no tokenizer" in text  # the miniature's pieces span words


def test_a_finetuned_decoder_has_the_files_of_its_base_model(hub, fabricated, sycophancy, tmp_path):
    base = decoder_folders.complete(tmp_path / "base", "qwen 3")
    finetuned = decoder_folders.complete(tmp_path / "finetuned", "qwen 3", seed=1)
    config = load_config(str(base), "quick").operative
    run = fabricated(tmp_path / "run", number=20, config=config)
    convert(str(finetuned), str(run / "finetune" / "checkpoints" / "6"), "orbax")
    done = sycophancy("push", complete_runs.completed(run), NAME)
    assert done.code == 0, done.err
    sent = safetensors.numpy.load(hub.files["model.safetensors"])
    ours = safetensors.numpy.load_file(finetuned / "model.safetensors")
    assert sent.keys() == ours.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(sent[name], tensor, err_msg=name)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert hub.files[name] == (base / name).read_bytes()
    assert json.loads(hub.files["config.json"])["model_type"] == "qwen3"
    card = hub.files["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["pipeline_tag"] == "text-generation"
    assert "spiece" not in card
    assert "license:" not in card


def test_without_a_token_nothing_is_sent_and_one_line_says_so(
    hub, finetuned, sycophancy, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    done = sycophancy("push", finetuned, NAME)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "HF_TOKEN" in done.err
    assert not hub.private


def test_a_public_model_of_the_name_is_not_overwritten_when_a_private_one_is_asked_for(
    hub, finetuned, sycophancy
):
    hub.private[NAME] = False
    done = sycophancy("push", finetuned, NAME, "--private")
    assert done.code == 2
    assert "is public" in done.err
    assert not hub.files


@pytest.mark.parametrize(
    ("path", "status"), [("repos/create", 403), ("preupload", 500), ("commit", 403)]
)
def test_a_refusal_is_one_line(hub, finetuned, sycophancy, path, status, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.refuses[path] = (status, "You may not do that")
    done = sycophancy("push", finetuned, NAME)
    assert done.code == 2
    refusal = done.err.splitlines()[-1]
    assert str(status) in refusal
    assert not hub.files


@pytest.mark.parametrize("name", ["less-sycophantic", "a/b/c", "a/..", "team/x--y", "a b/c"])
def test_a_name_that_the_hub_does_not_take_is_refused(hub, finetuned, sycophancy, name):
    done = sycophancy("push", finetuned, name)
    assert done.code == 2
    assert "owner/name" in done.err


@pytest.mark.parametrize("gone", ["metrics.json", "report.html", "finetune/manifest.json"])
def test_an_incomplete_run_is_refused(hub, finetuned, sycophancy, gone):
    (finetuned / gone).unlink()
    done = sycophancy("push", finetuned, NAME)
    assert done.code == 2
    assert gone in done.err
    assert not hub.private


@pytest.fixture
def ran(monkeypatch) -> list[set[str]]:
    """The stages that each run would bring up to date; none is run."""
    times: list[set[str]] = []
    monkeypatch.setattr(Pipeline, "until", lambda self, *names: times.append(set(names)))
    monkeypatch.setattr(Report, "summary", lambda self, run: [])
    return times


def test_a_run_is_uploaded_after_its_report(hub, finetuned, sycophancy, ran):
    done = sycophancy("run", "--out", finetuned, "--push", NAME, "--private")
    assert done.code == 0, done.err
    assert len(ran) == 1 and "report" in ran[0]
    assert done.out.splitlines()[-2:] == [str(finetuned / "report.html"), f"{hub.endpoint}/{NAME}"]
    assert hub.private == {NAME: True}
    assert hub.files["metrics.json"] == (finetuned / "metrics.json").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--push", "somebody-else/model"), "of somebody, who can upload to somebody/..., team/"),
        (("--push", "model"), "expected owner/name"),
        (("--private",), "--private needs --push"),
    ],
)
def test_what_cannot_be_uploaded_is_refused_before_the_run(
    hub, sycophancy, ran, tmp_path, words, message
):
    done = sycophancy("run", "--model", "mini_small", "--out", tmp_path / "new", *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not ran and not (tmp_path / "new").exists()


@pytest.mark.parametrize("status", [401, 503])
def test_a_token_that_the_hub_does_not_take_is_refused_before_the_run(
    hub, sycophancy, ran, tmp_path, status, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.refuses["whoami"] = (status, "Invalid credentials")
    done = sycophancy("run", "--model", "mini_small", "--out", tmp_path / "new", "--push", NAME)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert not ran and not (tmp_path / "new").exists()


def test_a_run_whose_upload_fails_is_complete_and_can_be_pushed_again(
    hub, finetuned, sycophancy, ran
):
    before = {path: path.stat().st_mtime_ns for path in finetuned.rglob("*") if path.is_file()}
    hub.refuses["commit"] = (403, "You may not do that")
    done = sycophancy("run", "--out", finetuned, "--push", NAME)
    assert done.code == 2
    refusal = done.err.splitlines()[-1]
    assert "You may not do that" in refusal
    assert f"the run is complete: try `sycophancy push {finetuned} {NAME}`" in refusal
    assert done.out.splitlines()[-1] == str(finetuned / "report.html")
    after = {path: path.stat().st_mtime_ns for path in finetuned.rglob("*") if path.is_file()}
    assert {path: after.get(path) for path in before} == before
    hub.refuses.clear()
    assert sycophancy("push", finetuned, NAME).code == 0
