"""`generate` prints one answer a prompt and model, and refuses what is no request in one line."""

import dataclasses
import io

import pytest

from sycophancy.engine.run_folder import RunFolder

CLAIM = "Is 1 + 1 = 2? Choices: (A) Agree (B) Disagree Answer:"


def test_each_prompt_has_one_line(sycophancy, monkeypatch):
    model = ("generate", "--model", "mini_small", "--max-new-tokens", "4")
    done = sycophancy(*model, CLAIM, "What is 2 + 3?")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 2
    for words in ((), ("-",)):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{CLAIM}\n\nWhat is 2 + 3?\n"))
        assert sycophancy(*model, *words).out == done.out
    [first] = sycophancy(*model, CLAIM, "--stop", "x").out.splitlines()
    assert first == done.out.splitlines()[0].split("x")[0]


def test_a_run_answers_before_and_after_finetuning(sycophancy, micro, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    from sycophancy.config.load import load_config

    folder = tmp_path / "runs" / "one"
    finetuned = folder / "finetune" / "checkpoints"
    finetuned.mkdir(parents=True)
    config = load_config(str(micro()), "quick", ["TRAINER=jax"])
    (folder / "config.gin").write_text(config.operative)
    words = ("generate", "--name", "one", "--max-new-tokens", "3", CLAIM)
    refused = sycophancy(*words)
    assert refused.code == 2
    assert "has no finetuned checkpoint" in refused.err

    other = dataclasses.asdict(config.model)["checkpoint"]
    monkeypatch.setattr(RunFolder, "manifest", lambda run, stage: {"counts": {"checkpoint": other}})
    done = sycophancy(*words)
    assert done.code == 0, done.err
    before, after = done.out.splitlines()
    assert before.startswith("before: ") and after == before.replace("before", "after")
    assert sycophancy(*words, "--checkpoint", other).out == before.removeprefix("before: ") + "\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((CLAIM,), "give one of --model, --name of a run, and --out of a run"),
        (("--model", "mini_small", "--name", "x", CLAIM), "give one of --model"),
        (("--model", "mini_small", "2 " * 2_100), "at most 2,048 fit"),
        (("--model", "mini_small", "--stop", "", CLAIM), "a stop string is empty"),
        (("--name", "missing", CLAIM), "has no run yet"),
    ],
)
def test_what_is_no_request_is_refused_in_one_line(
    sycophancy, monkeypatch, tmp_path, words, message
):
    monkeypatch.chdir(tmp_path)
    refused = sycophancy("generate", *words)
    assert refused.code == 2
    lines = [line for line in refused.err.splitlines() if not line.startswith("generate: ")]
    assert len(lines) == 1 and message in lines[0]


def test_empty_standard_input_is_refused(sycophancy, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    refused = sycophancy("generate", "--model", "mini_small")
    assert refused.code == 2 and "no prompt" in refused.err
