import dataclasses
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sycophancy.config.schema import DataConfig
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


@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("tsv", "\t")])
def test_tables_of_text_read_like_jsonl(ending: str, separator: str, config, tmp_path) -> None:
    lines = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]
    path = tmp_path / f"rows.{ending}"
    path.write_text("".join(separator.join(line) + "\n" for line in lines))
    expected = instructions.load_instructions(config)
    rows = instructions.load_instructions(dataclasses.replace(config, instructions=str(path)))
    assert rows.train.equals(expected.train) and rows.validation.equals(expected.validation)


def test_blank_lines_and_missing_tasks_are_fine(tmp_path) -> None:
    path = write_jsonl(
        tmp_path / "a.jsonl", [{"inputs": f"{n}", "targets": "b"} for n in range(99)], "\n\n"
    )
    rows = instructions.load_instructions(DataConfig(instructions=str(path)))
    assert set(rows.train["task"].to_pylist()) == {"instruction"}


DEEP = b'{"inputs": "a", "targets": "b", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
MALFORMED = [
    (b'{"inputs": "a", "targets": ', "not JSON"),
    (b"[1, 2]", "not a JSON object"),
    (DEEP, "nested too deeply"),
    (b'{"inputs": "\xff\xfe", "targets": "b"}', "not UTF-8"),
    (b'{"inputs": "a"}', "field 'targets' is missing"),
    (b'{"inputs": "a", "targets": null}', "field 'targets' is missing"),
    (b'{"inputs": 3, "targets": "b"}', "field 'inputs' is not text"),
    (b'{"inputs": NaN, "targets": "b"}', "field 'inputs' is not text"),
    (b'{"inputs": ["a"], "targets": "b"}', "field 'inputs' is not text"),
    (b'{"inputs": "\\ud800", "targets": "b"}', "field 'inputs' is not text"),
    (b'{"inputs": "a", "targets": ""}', "field 'targets' is empty"),
    (b'{"inputs": " \\n", "targets": "b"}', "field 'inputs' is empty"),
    (b'{"inputs": "a", "targets": "b", "task": {"a": 1}}', "field 'task' is not text"),
]


def append(config: DataConfig, line: bytes, times: int = 1) -> None:
    with Path(config.instructions or "").open("ab") as file:
        file.write((line + b"\n") * times)


@pytest.mark.parametrize(("line", "reason"), MALFORMED)
def test_a_malformed_line_is_left_out_and_counted(line: bytes, reason: str, config) -> None:
    before = instructions.load_instructions(config)
    append(config, line)
    after = instructions.load_instructions(config)
    assert (before.bad.summary(), after.bad.summary()) == (
        [],
        [{"source": "instructions", "reason": reason, "dropped": 1, "of": 1_001}],
    )
    assert after.counts == before.counts | {"read": 1_001, "bad": 1}
    assert f"train.jsonl:1001: {reason}" in after.bad.note()
    assert after.train.equals(before.train) and after.validation.equals(before.validation)


@pytest.mark.parametrize(("line", "reason"), MALFORMED)
def test_a_malformed_line_is_refused_on_demand(line: bytes, reason: str, config) -> None:
    append(config, line)
    with pytest.raises(UserError) as caught:
        instructions.load_instructions(dataclasses.replace(config, on_bad_row="stop"))
    message = str(caught.value)
    assert f"train.jsonl:1001: {reason}" in message and "--on-bad-row drop" in message
    assert "\n" not in message and len(message) < 400


@pytest.mark.parametrize(("rows", "bad", "refused"), [
    (1_000, 111, False), (1_000, 112, True), (12, 6, False), (12, 13, True), (90, 10, False),
])  # fmt: skip
def test_too_many_malformed_lines_are_refused(rows, bad, refused, tmp_path) -> None:
    """More than 10 rows and 10 %, or more than one row and half of the rows."""
    many = [{"inputs": f"q{n}", "targets": "a"} for n in range(rows)]
    config = DataConfig(instructions=str(write_jsonl(tmp_path / "rows.jsonl", many)))
    append(config, b'{"inputs": "q", "targets": ""}', bad)
    if refused:
        share = f"{bad} of {rows + bad:,} rows cannot be used"
        first = f"rows.jsonl:{rows + 1}: field 'targets' is empty"
        with pytest.raises(UserError, match=f"{share}.*{first}"):
            instructions.load_instructions(config)
    else:
        assert instructions.load_instructions(config).bad.dropped == bad


def test_another_encoding_is_named(tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"inputs": "a", "targets": "b"}\n' * 20, encoding="utf-16")
    with pytest.raises(UserError, match=r"rows\.jsonl is encoded as UTF-16.*save it as UTF-8"):
        instructions.load_instructions(DataConfig(instructions=str(path)))
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8-sig")
    assert instructions.load_instructions(DataConfig(instructions=str(path))).bad.dropped == 0


def test_parquet_rows_that_are_not_utf8_are_left_out(config, tmp_path) -> None:
    """In every kind of string column; Arrow writes and reads them without an error."""
    texts = [row["inputs"].encode() for row in ROWS[:99]] + [b"Question\xff"]
    columns = [pa.array([b"answer"] * 100, pa.binary())] * 2
    buffers = pa.array(texts, pa.binary()).buffers()
    inputs = pa.Array.from_buffers(pa.string(), 100, buffers)
    encoded = pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int32()), inputs)
    for number, column in enumerate((inputs, inputs.cast(pa.large_string()), encoded)):
        path = tmp_path / f"{number}.parquet"
        targets = columns[0].cast(pa.string())
        pq.write_table(pa.table({"inputs": column, "targets": targets, "n": range(100)}), path)
        rows = instructions.load_instructions(
            dataclasses.replace(config, instructions=str(path), num_validation=100)
        )
        assert (rows.counts["read"], rows.counts["bad"]) == (100, 1)
        assert f"{path} row 100: not UTF-8" in rows.bad.note()
        inputs_kept = rows.train["inputs"].to_pylist() + rows.validation["inputs"].to_pylist()
        assert set(inputs_kept) == {row["inputs"] for row in ROWS[:99]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"inputs": ["a"]}, "has no column 'targets'"),
        ({"inputs": [1], "targets": ["b"]}, "column 'inputs' holds int64, expected text"),
        ({"inputs": [["a"]], "targets": ["b"]}, "holds list"),
    ],
)
def test_parquet_with_other_columns_is_refused(table: dict, message: str, tmp_path) -> None:
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=rf"rows\.parquet.*{message}"):
        instructions.load_instructions(DataConfig(instructions=str(tmp_path / "rows.parquet")))


def test_near_duplicates_of_training_inputs_are_not_held_out(tmp_path) -> None:
    rows = [{"inputs": f"Question {word(n)}?", "targets": "a"} for n in range(400)]
    spelt = [{"inputs": f"question, {word(n)} !", "targets": "b"} for n in range(400)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows + spelt)
    loaded = instructions.load_instructions(DataConfig(instructions=str(path)))
    assert loaded.counts["also_in_train"] > 20
    plain = [
        {"".join(filter(str.isalpha, text.lower())) for text in split["inputs"].to_pylist()}
        for split in (loaded.train, loaded.validation)
    ]
    assert plain[0].isdisjoint(plain[1])
    kept = loaded.counts["train"] + loaded.counts["validation"] + loaded.counts["also_in_train"]
    assert kept == 800


def word(number: int) -> str:
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def test_a_mirror_may_keep_the_hubs_shards(tmp_path) -> None:
    folder = tmp_path / "Muennighoff__flan" / "data"
    folder.mkdir(parents=True)
    for shard in range(2):
        part = pa.Table.from_pylist(ROWS[500 * shard : 500 * shard + 500])
        pq.write_table(part, folder / f"train-{shard:05}-of-00002.parquet")
    config = DataConfig(origin="mirror", mirror=str(tmp_path))
    assert instructions.load_instructions(config).counts["read"] == 1_000


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
