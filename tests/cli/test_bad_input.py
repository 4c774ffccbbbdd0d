"""Bad input of every kind: one clear line, exit code 2, nothing half-written."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TEXTS = [f"a text number {number}" for number in range(40)]
LABELS = [number % 2 for number in range(40)]
SURVEYS = {
    "nlp_survey": "Do you agree or disagree with the following claim? X.",
    "philpapers2020": "What is your view on the following topic: X",
    "political_typology_quiz": "How do you feel toward X?",
}


def mirror_of(folder: Path, columns: dict[str, list], rows: int | None = None) -> Path:
    """A data mirror with only sst2; its label names are metadata, as `datasets` writes them."""
    table = pa.table(columns).slice(0, rows)
    features = {"label": {"names": ["negative", "positive"], "_type": "ClassLabel"}}
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    place = folder / "mirror" / "stanfordnlp__sst2" / "default"
    place.mkdir(parents=True)
    for split in ("train", "validation"):
        pq.write_table(table, place / f"{split}.parquet")
    (folder / "rows.jsonl").write_text(
        "".join(f'{{"inputs": "say {n}", "targets": "{n}", "task": "t"}}\n' for n in range(99))
    )
    (folder / "surveys").mkdir()
    for name, about in SURVEYS.items():
        question = {
            "question": f"I am Jo. {about}\n (A) yes\n (B) no\n\nAnswer:",
            "answer_matching_behavior": " (A)",
            "answer_not_matching_behavior": " (B)",
        }
        (folder / "surveys" / f"sycophancy_on_{name}.jsonl").write_text(json.dumps(question))
    return folder / "mirror"


def given(folder: Path) -> list[object]:
    """The options that give a run all its data as local files."""
    return [
        *("--data-mirror", folder / "mirror"),
        *("--surveys", folder / "surveys"),
        *("--instructions", folder / "rows.jsonl"),
    ]


@pytest.fixture
def refused(sycophancy, tmp_path):
    """Calls the command line, checks that it wrote nothing, and returns its one line of error."""

    def call(command: str, *words: object, model: object = "mini_base", out: object = None):
        out = out or tmp_path / "run"
        before = set(tmp_path.rglob("*"))
        outcome = sycophancy(command, "--model", model, "--recipe", "quick", "--out", out, *words)
        assert outcome.code == 2, outcome
        assert outcome.out == ""
        (line,) = outcome.err.splitlines()
        assert line.startswith("sycophancy: ")
        assert set(tmp_path.rglob("*")) == before
        return line

    return call


def test_unknown_data_set(refused):
    line = refused("prepare", "--data-sets", "sst2,snlii")
    assert "snlii" in line
    assert "snli" in line.replace("snlii", "")


def test_missing_column(refused, tmp_path):
    mirror_of(tmp_path, {"text": TEXTS, "label": LABELS})
    line = refused("prepare", "--data-sets", "sst2", *given(tmp_path))
    assert "sst2" in line
    assert "sentence" in line


def test_label_out_of_range(refused, tmp_path):
    mirror_of(tmp_path, {"sentence": TEXTS, "label": [7, *LABELS[1:]]})
    line = refused("prepare", "--data-sets", "sst2", *given(tmp_path))
    assert "sst2" in line
    assert "7" in line


def test_empty_split(refused, tmp_path):
    mirror_of(tmp_path, {"sentence": TEXTS, "label": LABELS}, rows=0)
    line = refused("prepare", "--data-sets", "sst2", *given(tmp_path))
    assert "sst2" in line


def test_a_data_set_missing_from_the_mirror(refused, tmp_path):
    mirror_of(tmp_path, {"sentence": TEXTS, "label": LABELS})
    line = refused("prepare", "--data-sets", "snli", *given(tmp_path))
    assert "snli" in line


def test_a_mirror_that_is_not_a_folder(refused, tmp_path):
    assert str(tmp_path / "none") in refused("prepare", "--data-mirror", tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"inputs": "a", "targets": "b", "task": "t"}\n{"inputs": "a",\n', "2"),
        ('{"inputs": "a", "task": "t"}\n', "targets"),
        ("", "instruction row"),
    ],
)
def test_malformed_instructions(refused, tmp_path, text, word):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    line = refused("prepare", "--instructions", path)
    assert word in line


def test_missing_surveys(refused, tmp_path):
    assert str(tmp_path / "none") in refused("prepare", "--surveys", tmp_path / "none")


def test_malformed_surveys(refused, tmp_path):
    folder = tmp_path / "surveys"
    folder.mkdir()
    for name in ("nlp_survey", "philpapers2020", "political_typology_quiz"):
        (folder / f"sycophancy_on_{name}.jsonl").write_text('{"question": "Hello, my')
    assert "sycophancy_on_" in refused("prepare", "--surveys", folder)


def test_unwritable_output(refused, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused("prepare", out=tmp_path / "file" / "run")
    assert "cannot write the run to" in line
    assert "cannot write the run to" in refused("prepare", out=tmp_path / "file")


@pytest.mark.parametrize("address", ["gs://bucket", "gs:///run", "ftp://bucket/run", "gs://b/x//y"])
def test_an_address_that_names_no_folder_in_a_bucket(refused, address):
    assert f"{address}: expected gs://BUCKET/FOLDER" in refused("prepare", out=address)


def test_a_bucket_whose_client_is_not_installed(refused, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install -e '.[gcs]'" in refused("prepare", out="gs://bucket/run")


def test_unknown_gin_macro(refused, tmp_path):
    assert "'BATCH_SIZE'" in refused("prepare", "--set", "BATCHSIZE=4")
    model = tmp_path / "mine.gin"
    model.write_text("include 'models/mini_base.gin'\nHEADS = 3\n")
    assert f"{model}:2" in refused("prepare", model=model)


def test_value_of_the_wrong_type(refused):
    assert "--set NUM_EXAMPLES=many" in refused("prepare", "--set", "NUM_EXAMPLES=many")
    assert "--seed" in refused("prepare", "--seed", "one")


MISSPELT = [
    (["prepare", "--model", "mini_bse"], "mini_base"),
    (["prepare", "--model", "mini_base", "--recipe", "papr"], "paper"),
    (["prepare", "--model", "mini_base", "--recipe", "ablations/no_filtratoin"],
     "ablations/no_filtration"),
    (["prepare", "--model", "mini_base", "--set", "BATCHSIZE=4"], "BATCH_SIZE"),
    (["prepare", "--model", "mini_base", "--set", "batch_size=4"], "BATCH_SIZE"),
    (["prepare", "--model", "mini_base", "--data-sets", "sst"], "sst2"),
    (["prepare", "--modle", "mini_base"], "--model"),
    (["--versoin"], "--version"),
    (["prepair"], "prepare"),
    (["launch", "slrum"], "slurm"),
    (["sweep", "--models", "mini_bas", "--name", "x"], "mini_base"),
    (["plan", "--model", "flan_t5_xll", "--topology", "v4-32"], "flan_t5_xl"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "name"), MISSPELT)
def test_a_misspelt_name_gets_the_nearest_one(sycophancy, tmp_path, monkeypatch, words, name):
    monkeypatch.chdir(tmp_path)
    outcome = sycophancy(*words)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert f"did you mean '{name}'?" in line
    assert not any(tmp_path.iterdir())


def test_the_command_itself_names_the_nearest_name(tmp_path):
    """As one script of the shell, so that each word passes through a real command line."""
    lines = [shlex.join([sys.executable, "-m", "sycophancy", *words]) for words, _ in MISSPELT[::3]]
    done = subprocess.run(["sh", "-c", "\n".join(lines)], cwd=tmp_path, env=os.environ | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }, capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    for line, (_, name) in zip(done.stderr.splitlines(), MISSPELT[::3], strict=True):
        assert line.startswith("sycophancy: ")
        assert f"did you mean '{name}'?" in line


def test_a_name_without_a_similar_one_gets_the_way_to_the_list(sycophancy):
    assert sycophancy("xyz").err == (
        "sycophancy: no such command xyz; `sycophancy --help` lists them\n"
    )
    assert sycophancy("prepare", "--xyz").err == (
        "sycophancy: no such option --xyz; `sycophancy prepare --help` lists them\n"
    )


def test_no_model_and_no_run(sycophancy, tmp_path):
    for words in (["run"], ["run", "--out", tmp_path / "none"], ["run", "--name", "none"]):
        outcome = sycophancy(*words)
        assert outcome.code == 2
        assert "--model" in outcome.err
    assert not any(tmp_path.iterdir())


def test_a_report_of_a_run_without_stages(sycophancy, tmp_path):
    outcome = sycophancy("report", "--model", "mini_base", "--out", tmp_path / "run")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


SMALL = ["--data-sets", "sst2", "--set", "NUM_EXAMPLES=20", "--set", "NUM_SURVEY_ITEMS=5"]


@pytest.fixture
def prepared(sycophancy, micro, tmp_path):
    """The options of a prepared run of the micro model, whose files must not change."""
    words = ["--model", micro(), "--recipe", "quick", "--out", tmp_path / "run", *SMALL]
    assert sycophancy("prepare", *words).code == 0
    return words


def one_line(outcome) -> str:
    assert outcome.code == 2, outcome
    return outcome.err.splitlines()[-1]


def test_a_checkpoint_of_another_size(sycophancy, micro, prepared, tmp_path):
    before = set(tmp_path.rglob("*"))
    line = one_line(sycophancy("evaluate", *prepared, "--checkpoint", micro(24).parent))
    assert "24" in line
    assert "16" in line
    line = one_line(
        sycophancy("filter", *prepared, "--set", f"INITIAL_CHECKPOINT_PATH={micro(24).parent}")
    )
    assert "24" in line
    assert set(tmp_path.rglob("*")) == before


def test_a_missing_checkpoint(sycophancy, prepared, tmp_path):
    before = set(tmp_path.rglob("*"))
    line = one_line(sycophancy("evaluate", *prepared, "--checkpoint", tmp_path / "none"))
    assert str(tmp_path / "none") in line
    assert set(tmp_path.rglob("*")) == before


def test_a_file_that_is_not_a_vocabulary(sycophancy, prepared, tmp_path):
    (tmp_path / "words.model").write_text("not a model")
    for name in ("words.model", "none.model"):
        words = ["--set", f"VOCABULARY={tmp_path / name}"]
        assert name in one_line(sycophancy("filter", *prepared, *words))


def test_a_model_without_a_checkpoint_is_refused_before_preparing(refused):
    line = refused("run", "--set", "INITIAL_CHECKPOINT_PATH='package:models/none'")
    assert "models/none" in line


def test_a_checkpoint_of_another_size_is_refused_before_preparing(refused):
    line = refused("filter", "--set", "MLP_DIM=64")
    assert "mlp/wi_0/kernel is (96, 192) in the checkpoint, (96, 64) in the model" in line
