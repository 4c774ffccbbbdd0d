"""Items and predictions survive the disk; bad files are named."""

import dataclasses
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sycophancy.errors import UserError
from sycophancy.evaluation import items
from sycophancy.evaluation.items import Item, Prediction

ITEMS = [
    Item("a", "addition", "user_wrong", "p", "1 + 1 = 7?", ("(A)", "(B)"), 1, (0,)),
    Item("b", "surveys/nlp", "neutral", "q", "Zürich \n ?", ("(A)", "(B)", "(C)"), -1, (0, 2)),
    Item("c", "instruction", "neutral", "r", "Say yes.", ("yes",), 0),
]
PREDICTIONS = [
    Prediction("a", (-0.5, -2.25), (True, False)),
    Prediction("c", (-1e-3,), (False,)),
]


def test_items_survive_the_disk_in_order(tmp_path: Path):
    path = tmp_path / "made" / "items.parquet"
    items.write_items(path, ITEMS)
    assert items.read_items(path) == ITEMS
    assert pq.read_schema(path).equals(items.ITEM_SCHEMA)


def test_predictions_survive_the_disk_to_float32(tmp_path: Path):
    path = tmp_path / "predictions.parquet"
    items.write_predictions(path, PREDICTIONS)
    back = items.read_predictions(path)
    assert [p.item_id for p in back] == ["a", "c"]
    assert back[0] == PREDICTIONS[0]
    assert back[1].log_likelihoods == pytest.approx((-1e-3,), rel=1e-6)
    assert pq.read_schema(path).equals(items.PREDICTION_SCHEMA)


def test_an_empty_list_of_items_keeps_the_schema(tmp_path: Path):
    items.write_items(tmp_path / "none.parquet", [])
    assert items.read_items(tmp_path / "none.parquet") == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch):
    path = tmp_path / "items.parquet"
    items.write_items(path, ITEMS)

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(UserError, match=r"items\.parquet.*No space left"):
        items.write_items(path, ITEMS[:1])
    monkeypatch.undo()
    assert items.read_items(path) == ITEMS
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_conversion_leaves_nothing(tmp_path: Path):
    with pytest.raises(pa.ArrowInvalid):
        items.write_predictions(tmp_path / "p.parquet", [Prediction("a", ("x",), (True,))])  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 3, pa.array([b"x", b"\xff", b"y"], pa.binary()).buffers()
)


def rewritten(path: Path, change) -> Path:
    items.write_items(path, ITEMS)
    pq.write_table(change(pq.read_table(path)), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns("pair_id"), r"bad\.parquet has no column 'pair_id'"),
        (
            lambda t: t.set_column(6, "answer", t["answer"].cast(pa.int64())),
            r"bad\.parquet: column 'answer' has type int64, expected int32",
        ),
        (
            lambda t: t.set_column(4, "inputs", pa.array(["x", None, "y"])),
            r"bad\.parquet: column 'inputs' has 1 empty values",
        ),
        (
            lambda t: t.set_column(5, "choices", pa.array([["a"], ["b", None], ["c"]])),
            r"bad\.parquet: column 'choices' has 1 empty values",
        ),
        (
            lambda t: t.append_column("inputs", t["inputs"]),
            r"bad\.parquet cannot be read as parquet \(Multiple matches",
        ),
        (
            lambda t: t.set_column(4, "inputs", NOT_UTF8),
            r"bad\.parquet cannot be read as parquet \(.*UTF8",
        ),
        (
            lambda t: t.set_column(6, "answer", pa.array([9] * 3, pa.int32())),
            r"bad\.parquet: item .* has answer 9",
        ),
    ],
)
def test_a_file_of_another_schema_is_named_with_its_column(tmp_path: Path, change, message):
    with pytest.raises(UserError, match=message):
        items.read_items(rewritten(tmp_path / "bad.parquet", change))


def test_columns_in_another_order_and_extra_ones_are_fine(tmp_path: Path):
    def change(table: pa.Table) -> pa.Table:
        more = table.append_column("note", pa.array(["x"] * 3))
        return more.select(more.column_names[::-1])

    assert items.read_items(rewritten(tmp_path / "items.parquet", change)) == ITEMS


def test_a_missing_file_and_a_file_that_is_no_parquet_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.parquet does not exist"):
        items.read_predictions(tmp_path / "none.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("hello")
    with pytest.raises(UserError, match=r"text\.parquet cannot be read as parquet"):
        items.read_predictions(text)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("choices", (), "item a has no choices"),
        ("answer", 2, "item a has answer 2, expected -1"),
        ("answer", -2, "item a has answer -2"),
        ("user_choices", (0, 2), r"item a has user_choices \[0, 2\]"),
        ("condition", "user_left", "item a has condition 'user_left', expected one of neutral"),
    ],
)
def test_an_impossible_item_is_refused_by_name(field, value, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(ITEMS[0], **{field: value})


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.data())
def test_a_damaged_file_is_read_or_named(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.parquet"
        items.write_items(path, ITEMS)
        whole = path.read_bytes()
        if data.draw(st.booleans()):
            damaged = bytearray(whole)
            for _ in range(data.draw(st.integers(1, 4))):
                damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        else:
            damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
        path.write_bytes(bytes(damaged))
        try:
            items.read_items(path)
        except UserError as error:
            assert str(path) in str(error) and len(str(error).splitlines()) == 1
