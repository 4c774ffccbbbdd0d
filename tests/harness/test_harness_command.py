"""The command `harness` asks a model of this project any task, and writes what was answered."""

from __future__ import annotations

import functools
import json

import decoder_folders
import numpy as np
import pytest

from sycophancy.config.load import load_config

pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra `harness`)")
pytestmark = pytest.mark.extras

TASK = """\
task: tiny_sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "What is {{{{n}}}} + 2?"
doc_to_choice: ["one", "two", "three"]
doc_to_target: answer
metric_list: [{{metric: acc}}]
"""


@pytest.fixture
def own_tasks(tmp_path, monkeypatch):
    """A folder with one task of five questions, without the harness's own tasks beside it.

    To list those takes the harness ten seconds.
    """
    from lm_eval.tasks import TaskManager

    from sycophancy.harness import evaluation

    alone = functools.partial(TaskManager, include_defaults=False)
    monkeypatch.setattr(evaluation, "TaskManager", alone)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"n": n, "answer": n % 3}) + "\n" for n in range(5)))
    (folder / "tiny.yaml").write_text(TASK.format(rows=rows))
    return folder


@pytest.mark.filterwarnings("ignore")  # of the harness and of what it brings
def test_its_likelihoods_are_those_of_the_scorer(sycophancy, micro, own_tasks, tmp_path):
    from sycophancy.evaluation.items import Item
    from sycophancy.stages.scores import load_language_model

    words = ("--include-path", own_tasks, "--out", tmp_path / "out", "--limit", 3)
    done = sycophancy("harness", "--model", micro(), "--tasks", "tiny_sums", *words)
    assert done.code == 0, done.err
    assert "|tiny_sums|" in done.out
    text = (tmp_path / "out" / "samples_tiny_sums.jsonl").read_text()
    samples = sorted(map(json.loads, text.splitlines()), key=lambda sample: sample["doc_id"])
    assert [sample["doc"]["n"] for sample in samples] == [0, 1, 2]
    found = [[float(value) for value, _ in sample["filtered_resps"]] for sample in samples]

    config = load_config(str(micro()), "paper")
    choices = (" one", " two", " three")
    items = [
        Item(str(n), "sums", "neutral", str(n), f"What is {n} + 2?", choices, n, free_text=True)
        for n in range(3)
    ]
    model = load_language_model(config, config.model)
    scored = [one.log_likelihoods for one in model.score(items, continuations=True)]
    np.testing.assert_allclose(found, scored, atol=1e-5)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    right = np.mean([int(np.argmax(values)) == n for n, values in enumerate(scored)])
    assert results["results"]["tiny_sums"]["acc,none"] == pytest.approx(right)


@pytest.mark.filterwarnings("ignore")
def test_likelihoods_of_a_decoder_only_model_are_the_harness_own(sycophancy, own_tasks, tmp_path):
    """Against its class for causal models, which `transformers` computes."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("torch", reason="torch is not installed (extra `hf`)")
    harness_class = pytest.importorskip(
        "lm_eval.models.huggingface", reason="accelerate is not installed"
    ).HFLM
    from sycophancy.harness import evaluation

    folder = decoder_folders.complete(tmp_path / "model", "llama 3, tied, biases")
    words = ("--include-path", own_tasks, "--out", tmp_path / "out", "--tasks", "tiny_sums")
    done = sycophancy("harness", "--model", folder, *words)
    assert done.code == 0, done.err
    theirs = harness_class(
        pretrained=transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        backend="causal",
        max_length=2_048,
        batch_size=1,
    )
    expected = evaluation.evaluate_tasks(theirs, ["tiny_sums"], include_path=str(own_tasks))
    text = (tmp_path / "out" / "samples_tiny_sums.jsonl").read_text()
    found = {sample["doc_id"]: sample["resps"] for sample in map(json.loads, text.splitlines())}
    assert len(found) == 5
    for sample in expected["samples"]["tiny_sums"]:
        for ((ours, greedy),), ((value, is_greedy),) in zip(
            found[sample["doc_id"]], sample["resps"], strict=True
        ):
            np.testing.assert_allclose(float(ours), value, rtol=1e-4)
            assert str(greedy) == str(is_greedy)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (" , ", "--tasks names no task"),
        ("tiny_sum", "the harness has no task tiny_sum; did you mean 'tiny_sums'?"),
    ],
)
def test_a_task_that_is_none_is_one_line(sycophancy, micro, own_tasks, tasks, message):
    words = ("--model", micro(), "--include-path", own_tasks)
    refused = sycophancy("harness", *words, "--tasks", tasks)
    assert refused.code == 2
    assert message in refused.err
    assert len(refused.err.splitlines()) == 1


def test_without_the_extra_the_command_says_what_to_install(sycophancy, micro, monkeypatch):
    monkeypatch.setattr("sycophancy.cli.harness.installed", lambda: False)
    refused = sycophancy("harness", "--model", micro(), "--tasks", "mmlu")
    assert refused.code == 2
    assert "the LM evaluation harness is not installed: pip install" in refused.err
