import dataclasses
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sycophancy.config import DataConfig
from sycophancy.data import instructions
from sycophancy.errors import UserError

ROWS = [
    {"inputs": f"Question {n}?", "targets": f"Answer {n}", "task": f"task {n // 100}"}
    for n in range(1_000)
]


def write_jsonl(path, rows, end: str = "\n"):
    path.write_text(end.join(json.dumps(row) for row in rows) + end)
    return path


@pytest.fixture
def config(tmp_path) -> DataConfig:
    path = write_jsonl(tmp_path / "train.jsonl", ROWS)
    return DataConfig(instructions=str(path), num_instructions=300, num_validation=50)


def test_rows_follow_the_contract(config) -> None:
    rows = instructions.load_instructions(config)
    assert rows.train.schema.names == ["example_id", "inputs", "targets", "task"]
    assert (len(rows.train), len(rows.validation)) == (300, 50)
    known = {row["inputs"]: row for row in ROWS}
    for row in rows.train.to_pylist() + rows.validation.to_pylist():
        assert len(row.pop("example_id")) == 32
        assert row == known[row["inputs"]]


def test_validation_inputs_are_never_trained_on(config) -> None:
    for seed in range(3):
        config = dataclasses.replace(config, seed=seed, num_instructions=10**6)
        rows = instructions.load_instructions(config)
        train = set(rows.train["inputs"].to_pylist())
        assert train.isdisjoint(rows.validation["inputs"].to_pylist())


def test_equal_inputs_are_on_one_side(tmp_path) -> None:
    rows = [{"inputs": f"q{n % 200}", "targets": f"{n}"} for n in range(1_000)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    loaded = instructions.load_instructions(DataConfig(instructions=str(path)))
    assert loaded.counts["train"] + loaded.counts["validation"] == 1_000
    assert set(loaded.train["inputs"].to_pylist()).isdisjoint(
        loaded.validation["inputs"].to_pylist()
    )


def test_the_sample_does_not_depend_on_the_files_order(config, tmp_path) -> None:
    shuffled = ROWS.copy()
    random.Random(0).shuffle(shuffled)
    path = write_jsonl(tmp_path / "shuffled.jsonl", shuffled)
    other = dataclasses.replace(config, instructions=str(path))
    first, second = map(instructions.load_instructions, (config, other))
    assert first.train.equals(second.train) and first.validation.equals(second.validation)


def test_the_sample_is_spread_over_the_file(config) -> None:
    tasks = instructions.load_instructions(config).train["task"].to_pylist()
    assert all(tasks.count(f"task {n}") > 10 for n in range(10))


def test_duplicates_are_counted_and_dropped(tmp_path, config) -> None:
    path = write_jsonl(tmp_path / "twice.jsonl", ROWS + ROWS)
    many = dataclasses.replace(
        config, instructions=str(path), num_instructions=10**6, num_validation=10**6
    )
    counts = instructions.load_instructions(many).counts
    assert (counts["read"], counts["duplicate"]) == (2_000, 1_000)
    assert counts["train"] + counts["validation"] == 1_000


def test_parquet_reads_like_jsonl(config, tmp_path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    other = dataclasses.replace(config, instructions=str(tmp_path / "rows.parquet"))
    first, second = map(instructions.load_instructions, (config, other))
    assert first.train.equals(second.train)


def test_blank_lines_and_missing_tasks_are_fine(tmp_path) -> None:
    path = write_jsonl(
        tmp_path / "a.jsonl", [{"inputs": f"{n}", "targets": "b"} for n in range(99)], "\n\n"
    )
    rows = instructions.load_instructions(DataConfig(instructions=str(path)))
    assert set(rows.train["task"].to_pylist()) == {"instruction"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"inputs": "a", "targets": ', "train.jsonl:1001 is no JSON"),
        ("[1, 2]", "train.jsonl:1001 is no JSON object"),
        ('{"inputs": "a"}', "train.jsonl:1001: field 'targets' is None"),
        ('{"inputs": 3, "targets": "b"}', "train.jsonl:1001: field 'inputs' is 3"),
        ('{"inputs": "a", "targets": " "}', "train.jsonl:1001: field 'targets' is ' '"),
        ('{"inputs": "\\ud800", "targets": "b"}', "train.jsonl:1001 is no JSON"),
    ],
)
def test_a_malformed_line_is_named(line: str, message: str, config) -> None:
    with open(config.instructions, "a") as file:  # noqa: PTH123
        file.write(line + "\n")
    with pytest.raises(UserError) as caught:
        instructions.load_instructions(config)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_that_are_no_text(config) -> None:
    with open(config.instructions, "ab") as file:  # noqa: PTH123
        file.write(b'{"inputs": "\xff\xfe", "targets": "b"}\n')
    with pytest.raises(UserError, match=r"train\.jsonl:1001"):
        instructions.load_instructions(config)


def test_missing_file_and_empty_file(tmp_path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl does not exist"):
        instructions.load_instructions(DataConfig(instructions=str(tmp_path / "none.jsonl")))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="no instruction row for train among the 0 read"):
        instructions.load_instructions(DataConfig(instructions=str(tmp_path / "empty.jsonl")))


def test_unreadable_parquet(tmp_path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"bad\.parquet is not readable as parquet"):
        instructions.load_instructions(DataConfig(instructions=str(tmp_path / "bad.parquet")))


def test_a_mirror_needs_the_rows_or_a_file(tmp_path) -> None:
    config = DataConfig(origin="mirror", mirror=str(tmp_path))
    with pytest.raises(UserError, match="--instructions FILE"):
        instructions.load_instructions(config)
    folder = tmp_path / "Muennighoff__flan" / "default"
    folder.mkdir(parents=True)
    write_jsonl(folder / "train.jsonl", ROWS)
    assert instructions.load_instructions(config).counts["read"] == 1_000


def test_items_have_one_choice_their_target(config) -> None:
    rows = instructions.load_instructions(config)
    items = list(instructions.build_items(rows.validation))
    assert len({item.item_id for item in items}) == 50
    for item, row in zip(items, rows.validation.to_pylist(), strict=True):
        assert (item.inputs, item.choices, item.answer) == (row["inputs"], (row["targets"],), 0)
        assert (item.task, item.condition) == ("instruction", "neutral")


def test_the_miniatures_splits_are_disjoint() -> None:
    config = DataConfig(num_instructions=500, num_validation=100)
    rows = instructions.load_instructions(config)
    assert (len(rows.train), len(rows.validation)) == (500, 100)
    assert set(rows.train["inputs"].to_pylist()).isdisjoint(rows.validation["inputs"].to_pylist())
