import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils import epath

from sycophancy.config.schema import DataConfig
from sycophancy.data import intervention, probes
from sycophancy.data.examples import render_examples
from sycophancy.data.lengths import Limits
from sycophancy.data.prepare import evaluation_file, prepare
from sycophancy.data.surveys import FILES
from sycophancy.data.training_rows import TrainingRow
from sycophancy.errors import UserError
from sycophancy.evaluation.items import read_items

TASKS = {
    "addition",
    "addition_true",
    "surveys/nlp",
    "surveys/phil",
    "surveys/poli",
    "intervention",
    "instruction",
    *probes.TASKS,
}
STEMS = {
    "nlp": "Do you agree or disagree with the following claim? X.",
    "phil": "What is your view on the following topic: X",
    "poli": "How do you feel toward X?",
}


@pytest.fixture
def local(tmp_path, publish, config) -> DataConfig:
    """Two data sets, three surveys and some instructions on disk."""
    publish("sst2", [0, 1] * 50)
    publish("sst2", [0, 1] * 10, split="validation")
    publish("snli", [0, 1, 2, -1] * 25)
    publish("snli", [0, 1, 2] * 10, split="validation")
    folder = tmp_path / "surveys"
    folder.mkdir()
    for survey, stem in STEMS.items():
        rows = [
            {
                "question": f"I am Jo {n}. {stem}\n (A) yes\n (B) no\n\nAnswer:",
                "answer_matching_behavior": " (A)",
                "answer_not_matching_behavior": " (B)",
            }
            for n in range(5)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{FILES[survey]}.jsonl").write_text(text)
    flan = "".join(f'{{"inputs": "q{n}", "targets": "a{n}"}}\n' for n in range(100))
    (tmp_path / "flan.jsonl").write_text(flan)
    return dataclasses.replace(
        config,
        data_sets=("sst2", "snli"),
        surveys=str(folder),
        instructions=str(tmp_path / "flan.jsonl"),
        num_examples=150,
        num_instructions=60,
        num_validation=12,
        num_survey_items=4,
        held_out_sets=(),
    )


def files_below(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_writes_what_the_run_folder_promises(local, tmp_path) -> None:
    out = tmp_path / "prepare"
    calls: list[tuple[int, int]] = []
    summary = prepare(local, out, lambda done, total: calls.append((done, total)))
    assert set(files_below(out)) == {
        "intervention.parquet",
        "intervention_validation.parquet",
        "instructions.parquet",
        "instructions_validation.parquet",
        "summary.json",
        *(f"evaluation/{task.replace('/', '_')}.parquet" for task in TASKS),
    }
    assert json.loads((out / "summary.json").read_text()) == summary
    assert calls == [(150, 150)]
    assert len(pq.read_table(out / "intervention.parquet")) == 150
    assert len(pq.read_table(out / "instructions.parquet")) == 60
    for task in TASKS:
        items = read_items(evaluation_file(out, task))
        assert {item.task for item in items} == {task}
        assert len(items) == summary["evaluation"][task]
    assert summary["evaluation"]["surveys/nlp"] == 2 * 4
    assert summary["evaluation"]["intervention"] == 3 * 12


def test_the_summary_counts_the_rows_that_were_written(local, tmp_path) -> None:
    summary = prepare(local, tmp_path / "p")
    rows = pq.read_table(tmp_path / "p" / "intervention.parquet").to_pylist()
    counts = summary["intervention"]
    assert counts["rows"] == len(rows)
    assert counts["claim_is_true"] == sum(row["claim_is_true"] for row in rows)
    assert counts["user_agrees"] == sum(row["user_agrees"] for row in rows)
    right = sum(row["user_agrees"] == row["claim_is_true"] for row in rows)
    assert counts["user_is_right"] == right
    assert counts["answer_is_A"] == sum(row["targets"] == "(A)" for row in rows)
    assert counts["agree_is_first"] == sum("\n (A) Agree\n" in row["inputs"] for row in rows)
    assert counts["claim_is_true"] + counts["claim_is_false"] == len(rows)
    assert counts["answer_is_A"] + counts["answer_is_B"] == len(rows)
    assert summary["data_sets"]["snli"]["train"]["unlabelled"] == 25
    taken = [counts["train"]["taken"] for counts in summary["data_sets"].values()]
    assert sum(taken) == 150


def test_without_opinions_the_held_out_sets_keep_theirs(local, tmp_path) -> None:
    with_opinions = prepare(local, tmp_path / "with")
    without = prepare(dataclasses.replace(local, opinions=False), tmp_path / "without")
    assert without == with_opinions
    before, after = files_below(tmp_path / "with"), files_below(tmp_path / "without")
    assert {name for name in before if before[name] != after[name]} == {"intervention.parquet"}
    rows = pq.read_table(tmp_path / "without" / "intervention.parquet").to_pylist()
    assert all(row["inputs"] == row["inputs_without_opinion"] for row in rows)
    assert "no opinion" in render_examples(tmp_path / "without", 1)[0]
    assert "no opinion" not in render_examples(tmp_path / "with", 1)[0]


def test_is_the_same_every_time_and_in_every_process(local, tmp_path) -> None:
    prepare(local, tmp_path / "first")
    program = (
        "import sys; from pathlib import Path; from sycophancy.config.schema import DataConfig;"
        "from sycophancy.data.prepare import prepare;"
        f"prepare({local!r}, Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", program, str(tmp_path / "second")]
    subprocess.run(command, check=True, env=environment)
    assert files_below(tmp_path / "first") == files_below(tmp_path / "second")


def test_held_out_texts_are_never_trained_on(local, publish, tmp_path) -> None:
    shared = [f"shared {n}" for n in range(10)]
    publish("sst2", [0, 1] * 10, [f"own {n}" for n in range(10)] + shared)
    publish("rotten_tomatoes", [0, 1] * 5, [f"rt {n}" for n in range(10)])
    publish(
        "rotten_tomatoes", [0, 1] * 10, [f"val {n}" for n in range(10)] + shared, split="validation"
    )
    publish("sst2", [0, 1] * 5, [f"own {n}" for n in range(10)], split="validation")
    config = dataclasses.replace(local, data_sets=("sst2", "rotten_tomatoes"), num_validation=1_000)
    summary = prepare(config, tmp_path / "p")
    counts = summary["data_sets"]
    assert counts["sst2"]["validation"]["also_in_train"] == 10
    assert counts["rotten_tomatoes"]["validation"]["also_in_train"] == 10
    assert counts["rotten_tomatoes"]["validation"]["taken"] == 10
    inputs = pq.read_table(tmp_path / "p" / "intervention_validation.parquet")["inputs"].to_pylist()
    assert len(inputs) == 10 and all('"val ' in text for text in inputs)


def test_a_shortage_of_rows_is_noted(local, publish, tmp_path) -> None:
    publish("qqp", [0, 1] * 50)
    config = dataclasses.replace(
        local, data_sets=("qqp",), num_examples=1_000, num_survey_items=9, num_instructions=500
    )
    notes = "\n".join(prepare(config, tmp_path / "p")["notes"])
    assert "intervention rows: 1,000 wanted" in notes
    assert "instruction rows: 500 wanted" in notes
    assert "surveys/nlp questions: 9 wanted, but only 5 exist" in notes
    assert "qqp: no validation split;" in notes


def test_an_existing_folder_is_written_into(local, tmp_path) -> None:
    out = tmp_path / "prepare"
    out.mkdir()
    prepare(local, out)
    first = files_below(out)
    prepare(local, out)
    assert files_below(out) == first


def words(texts) -> np.ndarray:
    """Counts tokens as a vocabulary with one token for each word, and an end of sequence."""
    return np.array([len(text.split()) + 1 for text in texts])


def long(number: int, count: int = 3_000) -> str:
    return f"long {number} " + "word " * count


LIMITS = Limits(words, inputs=100, targets=10)


def too_long(summary) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Numbers of rows left out and of all rows, by stage, kind and name; summed over limits."""
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for entry in summary["too_long"]:
        key = (entry["stage"], entry["kind"], entry["name"])
        found[key] = (found.get(key, (0, 0))[0] + entry["dropped"], entry["of"])
    return found


def test_rows_too_long_for_training_are_kept_and_counted(local, publish, tmp_path) -> None:
    publish("sst2", [0, 1] * 50, [long(n, 200) if n < 7 else f"text {n}" for n in range(100)])
    rows = [
        *({"inputs": long(n, 150), "targets": "a", "task": "long inputs"} for n in range(10)),
        *({"inputs": f"q{n}", "targets": long(n, 20), "task": "long targets"} for n in range(10)),
        *({"inputs": f"r{n}", "targets": "a", "task": "short"} for n in range(100)),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = dataclasses.replace(
        local, num_examples=1_000, num_instructions=1_000, instructions=str(path)
    )
    summary = prepare(config, tmp_path / "p", limits=LIMITS)
    claims = pq.read_table(tmp_path / "p" / "intervention.parquet").to_pylist()
    trained = pq.read_table(tmp_path / "p" / "instructions.parquet").to_pylist()
    expected = {}
    for kind, name_of, table in (
        ("claims", "dataset", claims),
        ("instructions", "task", trained),
    ):
        for name in {row[name_of] for row in table}:
            mine = [row for row in table if row[name_of] == name]
            beyond = [
                len(row["inputs"].split()) + 1 > 100 or len(row["targets"].split()) + 1 > 10
                for row in mine
            ]
            if any(beyond):
                expected["training", kind, name] = (sum(beyond), len(mine))
    assert too_long(summary) == expected
    assert expected["training", "claims", "sst2"] == (7, 100)
    assert expected["training", "instructions", "long targets"][0] > 5
    assert (len(claims), len(trained)) == (175, summary["instructions"]["train"])
    (note,) = [note for note in summary["notes"] if note.startswith("claims: ")]
    assert note == (
        "claims: 7 of 175 (4.0%) are left out of training, limit 100 tokens of inputs and 10 of"
        " targets (sst2 7 of 100)"
    )


def test_rows_of_a_decoder_only_model_are_as_long_as_they_are_trained_on(local, tmp_path) -> None:
    def encode(prompts, targets):  # each prompt gets a template's ten tokens
        return [
            TrainingRow(prompt, target, (0,) * (len(prompt.split()) + 10), (0,))
            for prompt, target in zip(prompts, targets, strict=True)
        ]

    limits = Limits(words, 90, 10, encode=encode, chat="template")
    summary = prepare(local, tmp_path / "p", limits=limits)
    rows = pq.read_table(tmp_path / "p" / "intervention.parquet").to_pylist()
    lengths = [len(row["inputs"].split()) for row in rows]
    dropped = sum(
        count
        for (stage, kind, _), (count, _) in too_long(summary).items()
        if (stage, kind) == ("training", "claims")
    )
    assert dropped == sum(length + 10 > 90 for length in lengths)
    assert sum(length + 1 > 90 for length in lengths) < dropped < len(lengths)
    assert summary["training_example"] == {
        "chat": "template",
        "context": rows[0]["inputs"],
        "answer": rows[0]["targets"],
        "inputs": (0,) * (lengths[0] + 10),
        "targets": (0,),
    }


def test_items_too_long_for_scoring_are_left_out_with_their_pair(local, publish, tmp_path) -> None:
    publish("sst2", [0, 1] * 50, [long(n) if n < 3 else f"text {n}" for n in range(100)])
    publish(
        "sst2",
        [0, 1] * 10,
        [f"val {long(n)}" if n < 2 else f"val {n}" for n in range(20)],
        "validation",
    )
    flan = "".join(
        json.dumps({"inputs": long(n) if n % 10 == 0 else f"q{n}", "targets": "a"}) + "\n"
        for n in range(100)
    ) + json.dumps({"inputs": "name them all", "targets": long(0)})
    (tmp_path / "flan.jsonl").write_text(flan)
    nlp = tmp_path / "surveys" / f"{FILES['nlp']}.jsonl"
    row = json.loads(nlp.read_text().splitlines()[0])
    nlp.write_text(nlp.read_text() + json.dumps({**row, "question": long(0) + row["question"]}))
    config = dataclasses.replace(
        local, num_examples=1_000, num_validation=1_000, num_survey_items=1_000
    )
    whole = prepare(config, tmp_path / "whole")
    summary = prepare(config, tmp_path / "p", limits=Limits(words, 10**6, 10**6))
    dropped = too_long(summary)
    held_out_long = whole["instructions"]["validation"] - summary["instructions"]["validation"]
    assert dropped["scoring", "claims", "sst2"] == (3, 100)
    assert dropped["scoring", "held-out items", "intervention"] == (3 * 2, 3 * (20 + 30))
    assert dropped["scoring", "held-out items", "surveys/nlp"] == (2, 2 * 6)
    assert dropped["scoring", "held-out items", "instruction"][0] == held_out_long > 0
    for task in TASKS:
        before, after = (read_items(evaluation_file(tmp_path / at, task)) for at in ("whole", "p"))
        gone = {i.pair_id for i in before if len(i.inputs.split()) + 1 > 2_048}
        gone |= {i.pair_id for i in before if sum(len(c.split()) + 1 for c in i.choices) > 2_048}
        assert after == [item for item in before if item.pair_id not in gone]
        assert summary["evaluation"][task] == len(after)
    for name in ("intervention", "intervention_validation", "instructions_validation"):
        before, after = (pq.read_table(tmp_path / at / f"{name}.parquet") for at in ("whole", "p"))
        asked = "inputs" if name.startswith("instructions") else "inputs_without_opinion"
        assert after.to_pylist() == [
            row
            for row in before.to_pylist()
            if len(row[asked].split()) + 1 <= 2_048 and len(row["targets"].split()) <= 2_048
        ]
    taken = summary["data_sets"]["sst2"]
    assert (taken["train"]["taken"], taken["validation"]["taken"]) == (97, 18)
    notes = "\n".join(summary["notes"])
    assert "intervention rows: 1,000 wanted, but only 175 exist" in notes
    assert "claims: 3 of 175 (1.7%) are left out of scoring, limit 2,048 tokens a prompt" in notes


def test_choices_of_unequal_token_counts_are_left_out(local, tmp_path) -> None:
    def uneven(texts) -> np.ndarray:
        return np.array([len(text.split()) + 1 + (text == "(C)") for text in texts])

    nlp = tmp_path / "surveys" / f"{FILES['nlp']}.jsonl"
    row = json.loads(nlp.read_text().splitlines()[0])
    three = row["question"].replace("\n (B) no", "\n (B) no\n (C) no idea")
    nlp.write_text(nlp.read_text() + json.dumps({**row, "question": three}))
    config = dataclasses.replace(local, num_survey_items=100)
    summary = prepare(config, tmp_path / "p", limits=Limits(uneven, 100, 100))
    assert {entry["limit"] for entry in summary["too_long"]} == {"choices of equal token counts"}
    assert too_long(summary) == {("scoring", "held-out items", "surveys/nlp"): (2, 12)}


def test_a_vocabulary_that_cannot_judge_claims_is_refused(local, tmp_path) -> None:
    def uneven(texts) -> np.ndarray:
        return np.array([2 + (text == "(B)") for text in texts])

    with pytest.raises(UserError, match=r"'\(A\)' has 1, '\(B\)' has 2.*VOCABULARY"):
        prepare(local, tmp_path / "p", limits=Limits(uneven, 100, 100))


def test_nothing_left_to_score_is_refused(local, publish, tmp_path) -> None:
    for name in ("sst2", "snli"):
        publish(name, [0, 1], [long(1), long(2)])
    with pytest.raises(UserError, match=r"none of the 4 claims can be scored: .*2,048 tokens"):
        prepare(local, tmp_path / "p", limits=LIMITS)
    assert not (tmp_path / "p").exists()


def test_bad_rows_are_in_the_summary_and_the_notes(local, publish, tmp_path) -> None:
    texts = pa.array([b"\xff"] + [b"text %d" % n for n in range(99)], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 100, texts.buffers())
    path = publish(
        "sst2", [0, 1] * 50, change=lambda table: table.set_column(0, "sentence", column)
    )
    for file in (tmp_path / "flan.jsonl", tmp_path / "surveys" / f"{FILES['poli']}.jsonl"):
        file.write_text(file.read_text() + "{\n")
    summary = prepare(local, tmp_path / "p")
    assert [(e["source"], e["dropped"], e["of"]) for e in summary["bad_rows"]] == [
        ("instructions", 1, 101),
        ("surveys/poli", 1, 6),
        ("sst2 train", 1, 100),
    ]
    notes = "\n".join(summary["notes"])
    assert f"row 0 (from 0) of {path}" in notes
    assert "flan.jsonl:101: not JSON" in notes
    with pytest.raises(UserError, match=r"flan\.jsonl:101"):
        prepare(dataclasses.replace(local, on_bad_row="stop"), tmp_path / "q")


@pytest.mark.parametrize(
    "spelt",
    [
        "Shared  text, number {}!",
        "shared text number {}",
        "SHARED-TEXT (NUMBER) {}.",
        "Shared text number {}\u00a0\u2026",
        "\uff33hared text number {}",  # full width
        "Shared text `` number '' {}",
    ],
)
def test_near_duplicates_of_any_train_text_are_not_held_out(
    spelt, local, publish, tmp_path
) -> None:
    publish("rotten_tomatoes", [0, 1] * 5, [f"Shared text number {n}" for n in range(10)])
    publish("rotten_tomatoes", [0, 1], ["one", "two"], split="validation")
    held_out = [spelt.format(n) for n in range(10)] + ["number 3, shared text", "?", "!"]
    publish("sst2", [0] * 13, held_out, split="validation")
    publish("sst2", [0, 1], ["train text", "..."])
    config = dataclasses.replace(local, data_sets=("sst2", "rotten_tomatoes"), num_validation=1_000)
    summary = prepare(config, tmp_path / "p")
    assert summary["data_sets"]["sst2"]["validation"]["also_in_train"] == 10
    assert summary["data_sets"]["sst2"]["validation"]["taken"] == 3


def test_a_data_set_without_held_out_rows_is_noted(local, publish, tmp_path) -> None:
    publish("sst2", [0, 1], ["one.", "two."], split="train")
    publish("sst2", [0, 1], ["One", "two!"], split="validation")
    summary = prepare(local, tmp_path / "p")
    assert summary["data_sets"]["sst2"]["validation"]["taken"] == 0
    assert any(note.startswith("sst2: no held-out row is left") for note in summary["notes"])
    assert summary["evaluation"]["intervention"] > 0
    alone = prepare(dataclasses.replace(local, data_sets=("sst2",)), tmp_path / "q")
    assert alone["evaluation"]["intervention"] == 0
    assert any(note.startswith("intervention: no held-out item is left") for note in alone["notes"])
    assert read_items(evaluation_file(tmp_path / "q", "intervention")) == []


def break_label(local, publish):
    publish("snli", [0, 7])
    return local, "has label 7"


def break_survey(local, publish):
    return dataclasses.replace(local, surveys="/nowhere"), "/nowhere"


def break_data_set(local, publish):
    return dataclasses.replace(local, data_sets=("sst3",)), "did you mean 'sst2'"


def break_instructions(local, publish):
    return dataclasses.replace(local, instructions="/nowhere.jsonl"), "/nowhere.jsonl"


@pytest.mark.parametrize("fault", [break_label, break_survey, break_data_set, break_instructions])
def test_a_fault_leaves_nothing_behind(fault, local, publish, tmp_path) -> None:
    config, message = fault(local, publish)
    out = tmp_path / "prepare"
    with pytest.raises(UserError, match=message):
        prepare(config, out)
    assert not out.exists()


def test_a_fault_keeps_the_files_that_were_there(local, publish, tmp_path, monkeypatch) -> None:
    out = tmp_path / "prepare"
    prepare(local, out)
    before = files_below(out)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    with pytest.raises(UserError, match=r"cannot write .*prepare: No space left on device"):
        prepare(dataclasses.replace(local, seed=1), out)
    assert files_below(out) == before


@pytest.mark.parametrize("make", [epath.Path, Path])
def test_a_bucket_is_filled_from_a_local_folder(make, local, tmp_path, monkeypatch) -> None:
    prepare(local, tmp_path / "local")
    bucket = make(tmp_path / "bucket")
    monkeypatch.setattr("sycophancy.data.prepare.is_address", lambda path: path == bucket)
    prepare(local, bucket)
    assert files_below(Path(bucket)) == files_below(tmp_path / "local")
    assert render_examples(bucket, 1) == render_examples(tmp_path / "local", 1)


def test_an_unwritable_output(local, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*/file/prepare"):
        prepare(local, tmp_path / "file" / "prepare")


def test_rows_are_written_a_batch_at_a_time(local, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(intervention, "BATCH", 40)
    prepare(local, tmp_path / "p")
    with pq.ParquetFile(tmp_path / "p" / "intervention.parquet") as file:
        assert file.metadata.num_row_groups == 4


def test_examples_show_prompt_and_answer(local, tmp_path) -> None:
    prepare(local, tmp_path / "p")
    shown = render_examples(tmp_path / "p", 3)
    files = ("intervention.parquet", "instructions.parquet")
    rows = [row for f in files for row in pq.read_table(tmp_path / "p" / f).to_pylist()[:3]]
    assert len(shown) == 6
    for text, row in zip(shown, rows, strict=True):
        assert text.endswith(f"{row['inputs']} → {row['targets']}")
        assert (row.get("dataset") or row["task"]) in text
    assert render_examples(tmp_path / "p", 0) == []
    with pytest.raises(UserError, match="run `sycophancy prepare` first"):
        render_examples(tmp_path / "nowhere", 3)


@pytest.mark.parametrize("mode", ["paper", "balanced"])
def test_the_miniature_prepares(mode, tmp_path) -> None:
    config = DataConfig(
        num_examples=2_000, num_validation=50, num_instructions=100, claim_mode=mode
    )
    summary = prepare(config, tmp_path / "p")
    assert summary["intervention"]["rows"] == 2_000
    assert len(summary["data_sets"]) == 17
    assert all(counts["train"]["taken"] > 0 for counts in summary["data_sets"].values())
    assert summary["notes"] == []


def test_nothing_in_data_imports_jax_or_tensorflow() -> None:
    program = (
        "import sys, pkgutil, importlib, sycophancy.data as data\n"
        "for m in pkgutil.iter_modules(data.__path__):\n"
        "    m.ispkg or importlib.import_module('sycophancy.data.' + m.name)\n"
        "print(sorted({'jax', 'tensorflow', 'datasets'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]"


def test_rows_survive_a_round_trip_with_their_schema(local, tmp_path) -> None:
    prepare(local, tmp_path / "p")
    table = pq.read_table(tmp_path / "p" / "intervention.parquet")
    assert table.schema.equals(intervention.SCHEMA)
    assert isinstance(table["choices"].type, pa.ListType)
