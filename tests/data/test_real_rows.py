"""The published rows of all 17 data sets, the surveys and Flan; skipped without those files."""

import collections
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sycophancy.config.schema import DataConfig
from sycophancy.data import surveys
from sycophancy.data.catalog import SOURCES
from sycophancy.data.lengths import Limits
from sycophancy.data.prepare import prepare
from sycophancy.data.sources import load_source
from sycophancy.data.survey_files import load_surveys
from sycophancy.model.vocabulary import Vocabulary

# Rows whose label any reader can check (first text field, label).
KNOWN = {
    "sst2": ("by far the worst movie of the year", "Negative Sentiment"),
    "qqp": ("Can I develope mobile apps with c++?", "Duplicate"),
    "rte": ("No Weapons of Mass Destruction Found in Iraq Yet.", "Not Entailment"),
    "wnli": (
        "I stuck a pin through a carrot. When I pulled the pin out, it had a hole.",
        "Entailment",
    ),
    "snli": ("A man plays a keyboard and sings.", "Entailment"),
    "trec": ("What is the date of Boxing Day ?", "Numeric Value"),
    "cola": ("They drank the pub.", "Unacceptable Sentence"),
}


@pytest.fixture(scope="module")
def config(real_data: Path) -> DataConfig:
    return DataConfig(
        origin="mirror",
        mirror=str(real_data / "hub"),
        surveys=str(real_data / "perez"),
        instructions=str(real_data / "flan" / "train.jsonl"),
    )


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("name", SOURCES)
def test_every_data_set_loads(name: str, split: str, config: DataConfig) -> None:
    texts = load_source(SOURCES[name], config, split)
    counts = texts.counts
    dropped = ("bad", "unlabelled", "empty", "conflicting", "duplicate", "held_out")
    assert counts["kept"] == len(texts) == counts["read"] - sum(counts[key] for key in dropped)
    assert len(texts) > 10
    assert set(texts.labels.tolist()) <= set(range(len(texts.source.labels)))
    assert len(set(texts.labels.tolist())) == len(texts.source.labels)
    for column in texts.columns:
        for text in column.to_pylist():
            assert text and text == text.strip() and not set(text) & set('"\n\r')


@pytest.mark.parametrize("name", SOURCES)
def test_labels_are_those_of_the_published_rows(name: str, config: DataConfig) -> None:
    """An independent reading in plain Python, with label names from the file's metadata."""
    source = SOURCES[name]
    assert config.mirror is not None
    path = Path(
        config.mirror, source.rows.hub_id.replace("/", "__"), source.rows.config or "default"
    )
    table = pq.read_table(path / "train.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    names = features[source.label]["names"]
    wording = dict(source.labels)
    expected = collections.defaultdict(set)
    for row in table.to_pylist():
        key = tuple(
            re.sub(r"[\r\n]+", " ", row[field].replace('"', "")).strip() for field in source.texts
        )
        if row[source.label] not in (-1, None):
            expected[key].add(wording[names[row[source.label]]])
    texts = load_source(SOURCES[name], config, "train")
    loaded = zip(*(column.to_pylist() for column in texts.columns), strict=True)
    for key, label in zip(loaded, texts.labels, strict=True):
        assert expected[key] == {source.label_names[label]}
    agreed = sum(len(labels) == 1 for labels in expected.values())
    assert len(texts) + texts.counts["held_out"] == agreed


def test_snlis_unlabelled_rows_are_dropped(config: DataConfig) -> None:
    assert load_source(SOURCES["snli"], config, "validation").counts["unlabelled"] == 16


def test_qqp_without_validation_is_held_out_from_train(config: DataConfig) -> None:
    assert load_source(SOURCES["qqp"], config, "train").held_out_from_train


def test_every_survey_row_is_kept_word_for_word(config: DataConfig, real_data: Path) -> None:
    for survey, questions in load_surveys(config).items():
        path = real_data / "perez" / f"{surveys.FILES[survey]}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(questions) == len(rows)
        for row, question in zip(rows, questions, strict=True):
            assert question.with_biography() == (
                f"Human: {row['question']}\n\nAssistant: I believe the best answer is"
            )
            matching = row["answer_matching_behavior"].strip()
            assert [question.letters[index] for index in question.user_choices] == [matching]


def test_no_biography_is_left_in_a_survey(config: DataConfig) -> None:
    biographical = ("Hello", "my name", "I am ", "I'm ", "I believe", "My hobbies", "years old")
    for survey, questions in load_surveys(config).items():
        for question in questions:
            assert len(question.biography) > 60
            assert not any(word in question.question for word in biographical), question.question
            assert question.question[0].isupper()
        # few questions, many users: what is left must be the questions the survey has
        limit = {"nlp": 50, "phil": 110, "poli": 20}[survey]
        assert len({question.question for question in questions}) <= limit


def test_real_rows_prepare(config: DataConfig, tmp_path: Path) -> None:
    summary = prepare(config, tmp_path / "p")
    rows = pq.read_table(tmp_path / "p" / "intervention.parquet")
    assert len(set(rows["example_id"].to_pylist())) == len(rows) > 15_000
    assert summary["intervention"]["rows"] == len(rows)
    assert set(rows["dataset"].to_pylist()) == set(SOURCES)
    assert not pc.any(pc.match_substring(rows["inputs"], '""')).as_py()
    held_out = pq.read_table(tmp_path / "p" / "intervention_validation.parquet")
    assert len(held_out) == 1_000
    assert set(held_out["example_id"].to_pylist()).isdisjoint(rows["example_id"].to_pylist())
    assert summary["evaluation"]["addition"] == 7_500


def test_sst2_and_rotten_tomatoes_share_sentences_in_other_spelling(
    config: DataConfig, tmp_path: Path
) -> None:
    """78 of 872 rows differ in spacing, case or punctuation alone; an independent count."""
    config = dataclasses.replace(config, data_sets=("sst2", "rotten_tomatoes"))
    trained = {
        text
        for name in config.data_sets
        for text in load_source(SOURCES[name], config, "train").columns[0].to_pylist()
    }
    letters = {re.sub(r"[^a-z0-9]", "", text.lower()) for text in trained}
    held_out = load_source(SOURCES["sst2"], config, "validation").columns[0].to_pylist()
    equal = [text for text in held_out if text in trained]
    near = [text for text in held_out if re.sub(r"[^a-z0-9]", "", text.lower()) in letters]
    assert (len(held_out), len(near) - len(equal)) == (872, 78)
    validation = prepare(config, tmp_path / "p")["data_sets"]["sst2"]["validation"]
    assert validation["also_in_train"] == len(near)


def test_long_rows_are_counted_with_the_published_vocabulary(
    config: DataConfig, real_data: Path, tmp_path: Path
) -> None:
    vocabulary = Vocabulary(str(real_data / "t5_vocabulary" / "spiece.model"))

    def count(texts) -> np.ndarray:
        return np.array([len(ids) + 1 for ids in vocabulary.encode_batch(texts)])

    summary = prepare(config, tmp_path / "p", limits=Limits(count, inputs=512, targets=64))
    dropped = collections.Counter()
    for entry in summary["too_long"]:
        assert entry["stage"] == "training"
        assert entry["kind"] == "claims" or entry["name"].endswith("_cot")
        dropped[entry["kind"]] += entry["dropped"]
    assert dropped == {"claims": 46, "instructions": 133}
    assert summary["intervention"]["rows"] == 19_411
    assert summary["instructions"]["train"] == 1_827


@pytest.mark.parametrize("name", KNOWN)
def test_known_rows(name: str, config: DataConfig) -> None:
    text, label = KNOWN[name]
    texts = load_source(SOURCES[name], config, "train")
    rows = zip(texts.columns[0].to_pylist(), texts.labels, strict=True)
    assert label in {texts.source.label_names[index] for first, index in rows if first == text}
