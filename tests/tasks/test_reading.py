"""The files that tasks read, their features, and their shards."""

import collections
import subprocess
import sys

import gin
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import seqio
from prepared_run import rows, write_run, write_vocabulary

import tasks
from sycophancy.errors import UserError
from sycophancy.model.vocabulary import Vocabulary

LENGTHS = {"inputs": 64, "targets": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    """The environment names no files."""
    for name in ("DATA_DIR", "VOCABULARY"):
        monkeypatch.delenv(name, raising=False)
    gin.clear_config()
    yield
    gin.clear_config()


def reading(folder):
    return tasks.reading(folder, folder / "spiece.model")


def ids(dataset):
    return [row["example_id"].decode() for row in dataset.as_numpy_iterator()]


def dataset(name, **arguments):
    return seqio.get_mixture_or_task(name).get_dataset(LENGTHS, **arguments)


def test_importing_tasks_reads_nothing():
    code = (
        "import builtins, os, sys\n"
        "import seqio, tensorflow, sycophancy.evaluation.metrics, etils.epath, pyarrow.parquet\n"
        "def hook(event, arguments):\n"
        "    name = str(arguments[0]) if arguments else ''\n"
        "    if event == 'open' and not name.endswith(('.py', '.pyc', '.so')):\n"
        "        raise SystemExit(f'opened {name}')\n"
        "    if event.startswith('socket.'): raise SystemExit(event)\n"
        "sys.addaudithook(hook)\n"
        "import tasks\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_token_ids_are_those_of_our_vocabulary_with_the_end(run):
    with reading(run):
        found = next(dataset("sycophancy_intervention", shuffle=False).as_numpy_iterator())
    vocabulary = Vocabulary(str(run / "spiece.model"))
    expected = rows("kept", 300).slice(0, 1).to_pylist()[0]
    assert found["inputs"].tolist() == [*vocabulary.encode(expected["inputs"]), 1]
    assert found["targets"].tolist() == [*vocabulary.encode(expected["targets"]), 1]
    assert found["inputs"].dtype == np.int32


def test_validation_split_reads_the_unseen_rows(run):
    with reading(run):
        found = ids(dataset("sycophancy_intervention", split="validation", shuffle=False))
        others = ids(dataset("instruction_tuning", split="validation", shuffle=False))
    assert found == [f"unseen{i}" for i in range(20)]
    assert others == [f"unseen_instruction{i}" for i in range(20)]


@pytest.mark.parametrize("count", [1, 3, pytest.param(8, marks=pytest.mark.slow)])
def test_shards_partition_the_split(run, count):
    with reading(run):
        shards = [
            ids(dataset("sycophancy_intervention", seed=0, shard_info=seqio.ShardInfo(i, count)))
            for i in range(count)
        ]
    assert sorted(name for shard in shards for name in shard) == sorted(
        f"kept{i}" for i in range(300)
    )
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


def test_the_order_depends_on_the_seed(run):
    with reading(run):
        first, again, other = (ids(dataset("sycophancy_intervention", seed=s)) for s in (0, 0, 1))
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)


def test_shuffling_reaches_the_whole_split(tmp_path):
    """With a buffer of 1,000 rows, the last rows would stay at the end."""
    run = write_run(tmp_path, kept=5_000)
    with reading(run):
        found = ids(dataset("sycophancy_intervention", seed=0))
    numbers = [int(name.removeprefix("kept")) for name in found]
    assert 2_000 < np.mean(numbers[:500]) < 3_000


def test_one_process_can_read_several_folders(run, tmp_path):
    other = write_run(tmp_path, kept=7)
    for folder, count in ((run, 300), (other, 7), (run, 300)):
        with reading(folder):
            assert len(ids(dataset("sycophancy_intervention", shuffle=False))) == count


def test_reading_takes_precedence_over_gin(run, tmp_path):
    other = write_run(tmp_path, kept=7)
    gin.parse_config([f"DATA_DIR = '{run}'", f"VOCABULARY = '{run / 'spiece.model'}'"])
    assert len(ids(dataset("sycophancy_intervention", shuffle=False))) == 300
    with reading(other):
        assert len(ids(dataset("sycophancy_intervention", shuffle=False))) == 7


def test_a_shipped_vocabulary_is_found_inside_the_package(run):
    gin.parse_config(["VOCABULARY = 'package:models/none.model'"])
    with tasks.reading(run), pytest.raises(UserError, match=r"/sycophancy/models/none\.model"):
        dataset("sycophancy_intervention")


def test_the_environment_names_the_folder(run, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(run))
    monkeypatch.setenv("VOCABULARY", str(run / "spiece.model"))
    assert len(ids(dataset("sycophancy_intervention", shuffle=False))) == 300


def test_without_a_folder_the_message_says_how_to_name_one():
    with pytest.raises(UserError, match="DATA_DIR is not set"):
        dataset("sycophancy_intervention")


def test_a_missing_file_names_itself_and_the_stage(run, tmp_path):
    with (
        tasks.reading(tmp_path, run / "spiece.model"),
        pytest.raises(UserError, match=r"filter/kept\.parquet does not exist.*sycophancy filter"),
    ):
        dataset("sycophancy_intervention")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"example_id": ["a"], "inputs": ["red"]}), "no string column 'targets'"),
        (
            pa.table({"example_id": ["a"], "inputs": [1], "targets": ["red"]}),
            "no string column 'inputs'",
        ),
        (rows("kept", 0).cast(rows("kept", 1).schema), "no rows"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, table, message):
    write_run(tmp_path)
    pq.write_table(table, tmp_path / "filter/kept.parquet")
    with reading(tmp_path), pytest.raises(UserError, match=message):
        dataset("sycophancy_intervention")


def test_a_truncated_file_is_refused(tmp_path):
    write_run(tmp_path)
    file = tmp_path / "filter/kept.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with reading(tmp_path), pytest.raises(UserError, match="cannot be read as parquet"):
        dataset("sycophancy_intervention")


def test_a_file_that_is_no_vocabulary_is_refused(run, tmp_path):
    (tmp_path / "no.model").write_text("hello")
    with (
        tasks.reading(run, tmp_path / "no.model"),
        pytest.raises(UserError, match="not a SentencePiece model"),
    ):
        dataset("sycophancy_intervention")


def test_rows_that_are_too_long_are_left_out_and_counted(tmp_path):
    write_run(tmp_path)
    table = pa.concat_tables([rows("kept", 50), rows("long", 9, words=(60, 70))])
    pq.write_table(table, tmp_path / "filter/kept.parquet")
    with reading(tmp_path) as told:
        found = ids(dataset("sycophancy_intervention", shuffle=False, num_epochs=2))
    assert collections.Counter(found) == {f"kept{i}": 2 for i in range(50)}
    assert told.dropped == {"sycophancy_intervention": {f"long{i}" for i in range(9)}}


@pytest.mark.parametrize("epochs", [1, 3, None])
def test_the_number_of_rows_left_out_is_logged_once_all_were_read(tmp_path, caplog, epochs):
    write_run(tmp_path)
    table = pa.concat_tables([rows("kept", 600), rows("long", 200, words=(60, 70))])
    pq.write_table(table, tmp_path / "filter/kept.parquet")
    with reading(tmp_path):
        found = dataset("sycophancy_intervention", seed=0, num_epochs=epochs)
        for _ in range(2):  # reading it again is no new account
            assert len(list(found.take(3_000))) == 600 * (epochs or 5)
    assert [record.getMessage() for record in caplog.records if record.name[:5] == "tasks"] == [
        "sycophancy_intervention: 200 of 800 rows (25.0%) are left out, being longer than "
        "TASK_FEATURE_LENGTHS (inputs 64, targets 8 tokens)"
    ]


def test_nothing_is_logged_if_all_rows_fit_or_before_all_were_read(tmp_path, caplog):
    write_run(tmp_path)
    table = pa.concat_tables([rows("long", 9, words=(60, 70)), rows("kept", 600)])
    pq.write_table(table, tmp_path / "filter/kept.parquet")
    with reading(tmp_path) as told:
        list(dataset("instruction_tuning", num_epochs=2))
        next(dataset("sycophancy_intervention", shuffle=False).as_numpy_iterator())
    assert not [record for record in caplog.records if record.name[:5] == "tasks"]
    assert [str(found) for found in told.left_out if found.ids] == [
        "sycophancy_intervention: at least 9 of 609 rows (1.5%) are left out, being longer than "
        "TASK_FEATURE_LENGTHS (inputs 64, targets 8 tokens)"
    ]


def test_vocabularies_of_one_file_are_equal(run, tmp_path):
    ours = seqio.get_mixture_or_task("sycophancy_intervention").output_features["inputs"].vocabulary
    same = seqio.SentencePieceVocabulary(str(run / "spiece.model"))
    other = seqio.SentencePieceVocabulary(str(write_vocabulary(tmp_path / "other.model")))
    with reading(run):
        assert ours == same and same == ours
        assert ours != other and other != ours
        assert ours.vocab_size == same.vocab_size


def test_an_unknown_task_lists_what_there_is():
    with pytest.raises(
        UserError, match=r"no task or mixture is called 'sycofancy'.*sycophancy_mix"
    ):
        tasks.get("sycofancy")
