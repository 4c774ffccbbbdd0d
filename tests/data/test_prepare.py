import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils import epath

from sycophancy.config import DataConfig
from sycophancy.data import intervention, probes
from sycophancy.data.prepare import evaluation_file, prepare, render_examples
from sycophancy.data.surveys import FILES
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
    )


def files_below(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_writes_what_the_run_folder_promises(local, tmp_path) -> None:
    out = tmp_path / "prepare"
    told: list[tuple[int, int]] = []
    summary = prepare(local, out, lambda done, total: told.append((done, total)))
    assert set(files_below(out)) == {
        "intervention.parquet",
        "intervention_validation.parquet",
        "instructions.parquet",
        "instructions_validation.parquet",
        "summary.json",
        *(f"evaluation/{task.replace('/', '_')}.parquet" for task in TASKS),
    }
    assert json.loads((out / "summary.json").read_text()) == summary
    assert told == [(150, 150)]
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
    told = prepare(local, tmp_path / "told")
    untold = prepare(dataclasses.replace(local, opinions=False), tmp_path / "untold")
    assert untold == told
    before, after = files_below(tmp_path / "told"), files_below(tmp_path / "untold")
    assert {name for name in before if before[name] != after[name]} == {"intervention.parquet"}
    rows = pq.read_table(tmp_path / "untold" / "intervention.parquet").to_pylist()
    assert all(row["inputs"] == row["inputs_without_opinion"] for row in rows)
    assert "no opinion" in render_examples(tmp_path / "untold", 1)[0]
    assert "no opinion" not in render_examples(tmp_path / "told", 1)[0]


def test_is_the_same_every_time_and_in_every_process(local, tmp_path) -> None:
    prepare(local, tmp_path / "first")
    program = (
        "import sys; from pathlib import Path; from sycophancy.config import DataConfig;"
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


def test_what_fell_short_is_said(local, publish, tmp_path) -> None:
    publish("qqp", [0, 1] * 50)
    config = dataclasses.replace(
        local, data_sets=("qqp",), num_examples=1_000, num_survey_items=9, num_instructions=500
    )
    notes = "\n".join(prepare(config, tmp_path / "p")["notes"])
    assert "intervention rows: 1,000 asked for" in notes
    assert "instruction rows: 500 asked for" in notes
    assert "surveys/nlp questions: 9 asked for, all 5" in notes
    assert "qqp: no validation split here" in notes


def test_a_folder_that_is_there_is_written_into(local, tmp_path) -> None:
    out = tmp_path / "prepare"
    out.mkdir()
    prepare(local, out)
    first = files_below(out)
    prepare(local, out)
    assert files_below(out) == first


def break_label(local, publish):
    publish("snli", [0, 7])
    return local, "has label 7"


def break_survey(local, publish):
    return dataclasses.replace(local, surveys="/nowhere"), "/nowhere"


def break_data_set(local, publish):
    return dataclasses.replace(local, data_sets=("sst3",)), "did you mean sst2"


def break_instructions(local, publish):
    return dataclasses.replace(local, instructions="/nowhere.jsonl"), "/nowhere.jsonl"


@pytest.mark.parametrize("fault", [break_label, break_survey, break_data_set, break_instructions])
def test_a_fault_leaves_nothing_behind(fault, local, publish, tmp_path) -> None:
    config, message = fault(local, publish)
    out = tmp_path / "prepare"
    with pytest.raises(UserError, match=message):
        prepare(config, out)
    assert not out.exists()


def test_a_fault_keeps_what_was_there(local, publish, tmp_path, monkeypatch) -> None:
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
    monkeypatch.setattr("sycophancy.data.prepare._is_bucket", lambda path: path == bucket)
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
    rows = pq.read_table(tmp_path / "p" / "intervention.parquet").to_pylist()[:3]
    assert len(shown) == 3
    for text, row in zip(shown, rows, strict=True):
        assert text.endswith(f"{row['inputs']} → {row['targets']}")
        assert row["dataset"] in text
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
