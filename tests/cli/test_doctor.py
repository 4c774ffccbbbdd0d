"""`sycophancy doctor` finds what is missing and says what to do about it."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
import time

import decoder_folders
import pytest
from typer.testing import CliRunner

from sycophancy.cli import doctor
from sycophancy.cli.main import app
from sycophancy.config.load import load_config
from sycophancy.model.size import parameter_count
from sycophancy.training.t5x import requirements

MODEL = load_config("mini_base", "paper").model


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(
        doctor, "_buckets", lambda: doctor.Finding("buckets", "note", "not asked", "ask")
    )


def test_a_complete_machine_has_no_bad_finding():
    findings = {finding.name: finding for finding in doctor.examine(MODEL)}
    assert list(findings)[:4] == ["packages", "devices", "vocabulary", "checkpoint"]
    assert {
        findings[name].state for name in ("packages", "devices", "vocabulary", "checkpoint")
    } == {"ok"}
    assert "652,576 parameters" in findings["checkpoint"].result
    assert findings["hub"].state == "note"
    assert "HF_HUB_OFFLINE" in findings["hub"].result
    assert all(finding.remedy for finding in findings.values() if finding.state != "ok")


@pytest.mark.parametrize(
    ("file", "remedy"), [("dev/nvidia0", "'.[gpu]'"), ("dev/accel0", "'.[tpu]'")]
)
def test_an_accelerator_that_jax_does_not_use_is_a_bad_finding(tmp_path, file, remedy):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).touch()
    finding = doctor._devices(tmp_path)
    assert finding.state == "bad"
    assert file in finding.result
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("JAX_PLATFORMS", "cuda", "the plugin of that platform is not installed"),
        ("XLA_FLAGS", "garbage", 'Could not open file "garbage"'),
    ],
)
def test_missing_devices_are_bad_and_the_other_checks_still_run(variable, value, reason):
    """In a process of its own: JAX starts once, and XLA ends the process that it refuses."""
    if value == "cuda" and importlib.util.find_spec("jax_cuda12_plugin"):
        pytest.skip("this machine has that plugin")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", variable: value}
    done = subprocess.run(
        [sys.executable, "-c", DOCTOR, "doctor"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    (bad,) = [line for line in lines if line.startswith("bad")]
    assert bad.startswith("bad   devices")
    assert f"{variable}={value}" in bad
    assert reason in bad
    assert [line.split()[1] for line in lines if not line.startswith(" ")] == [
        "packages", "devices", "vocabulary", "checkpoint", "T5X", "hub", "buckets"
    ]  # fmt: skip


DOCTOR = """
from sycophancy.cli import main, doctor
doctor._buckets = lambda: doctor.Finding("buckets", "note", "not asked", "ask")
main.main()
"""


def test_a_missing_vocabulary_is_bad_and_the_command_fails():
    lost = dataclasses.replace(MODEL, vocabulary="nowhere/spiece.model")
    assert doctor._vocabulary(lost).state == "bad"
    small = dataclasses.replace(
        MODEL, encoder_decoder=dataclasses.replace(MODEL.network, vocab_size=9)
    )
    assert "1,228 pieces, the network has 9" in doctor._vocabulary(small).result
    done = CliRunner().invoke(app, ["doctor", "--model", "flan_t5_small"])
    assert done.exit_code == 1
    assert "bad   vocabulary  hf:google/flan-t5-small/spiece.model" in done.output


def test_another_models_checkpoint_is_bad():
    other = dataclasses.replace(
        MODEL, encoder_decoder=dataclasses.replace(MODEL.network, mlp_dim=9)
    )
    finding = doctor._checkpoint(other)
    assert finding.state == "bad"
    assert "does not fit the model" in finding.result


def test_a_decoder_only_model_is_opened_and_its_template_named(tmp_path, monkeypatch):
    folder = decoder_folders.complete(tmp_path / "model")
    model = load_config(str(folder), "paper").model
    words = doctor._vocabulary(model)
    assert words.state == "ok"
    assert words.result.endswith("pieces; reads prompts in its chat template")
    assert f"hf, {parameter_count(model.network):,} parameters" in doctor._checkpoint(model).result
    monkeypatch.setattr("sycophancy.model.decoders.check_libraries", lambda: None)
    other = folder / "config.json"
    other.write_text(other.read_text().replace('"llama"', '"gpt_neox"'))
    found = doctor._checkpoint(load_config(str(folder), "paper").model)
    assert found.state == "ok"
    assert "transformers computes it" in found.result
    (folder / "tokenizer.json").unlink()
    assert doctor._vocabulary(model).state == "bad"


def test_missing_t5x_is_a_note_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(requirements, "missing", lambda: ["t5x.train"])
    finding = doctor._t5x()
    assert finding.state == "note"
    assert "docs/t5x.md" in finding.remedy


def test_a_server_without_an_answer_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(doctor, "PATIENCE", 0.05)
    finding = doctor._result_of("hub", "note", lambda: time.sleep(0.5), "go without")
    assert finding == doctor.Finding("hub", "note", "no answer within 0.05 s", "go without")


def test_a_complete_machine_exits_with_zero():
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    assert "ok    checkpoint" in done.output
