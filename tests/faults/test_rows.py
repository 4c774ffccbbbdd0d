"""Instruction files, survey files, mirrors and own data sets, damaged at random.

Each draw starts from intact files, damages one, and reads it as `prepare` does. Whatever the bytes,
the outcome is either rows, or one UserError of one line that names the file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sycophancy.config.schema import DataConfig
from sycophancy.data.catalog import SOURCES
from sycophancy.data.data_set_file import selected_sources
from sycophancy.data.instructions import load_instructions
from sycophancy.data.local_files import local_files
from sycophancy.data.prepare import prepare
from sycophancy.data.sources import load_source
from sycophancy.data.survey_files import load_surveys
from sycophancy.data.surveys import FILES
from sycophancy.errors import UserError

ROWS = [{"inputs": f"say {n}", "targets": f"{n}", "task": "t"} for n in range(40)]
STEMS = {
    "nlp": "Do you agree or disagree with the following claim? X.",
    "phil": "What is your view on the following topic: X",
    "poli": "How do you feel toward X?",
}
NAMES = {"huggingface": json.dumps(
    {"info": {"features": {"label": {"names": ["negative", "positive"], "_type": "ClassLabel"}}}}
)}  # fmt: skip

few = settings(
    max_examples=40, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
many = settings(few, max_examples=2_000)


def survey_rows(survey: str) -> list[dict[str, Any]]:
    return [
        {
            "question": f"I am Jo {n}. {STEMS[survey]}\n (A) yes\n (B) no\n\nAnswer:",
            "answer_matching_behavior": " (A)",
            "answer_not_matching_behavior": " (B)",
        }
        for n in range(20)
    ]


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


# Values of a line or a field.
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)
nested = st.integers(1, 60_000).map(lambda depth: b"[" * depth + b"]" * depth)


@st.composite
def broken_lines(draw: Any, rows: list[dict[str, Any]]) -> bytes:
    """A jsonl file with some lines, fields or bytes changed."""
    lines = as_lines(rows).splitlines()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        row = dict(rows[at % len(rows)])
        field = draw(st.sampled_from(list(row)))
        match draw(st.integers(0, 5)):
            case 0:
                lines[at] = draw(st.binary(max_size=20))
            case 1:
                lines[at] = json.dumps(draw(values)).encode()
            case 2:
                lines[at] = json.dumps({**row, field: draw(values)}).encode()
            case 3:
                lines[at] = lines[at][:-1] + b', "more": ' + draw(nested) + b"}"
            case 4:
                lines[at] = json.dumps({**row, field: "\ud800"}).encode()
            case 5:
                del row[field]
                lines[at] = json.dumps(row).encode()
    return draw(broken_bytes(draw(st.sampled_from([b"\n", b"\r\n", b"\n\n"])).join(lines)))


@st.composite
def broken_bytes(draw: Any, whole: bytes) -> bytes:
    """A file truncated, with changed bytes, in another encoding, or intact."""
    match draw(st.integers(0, 5)):
        case 0:
            return whole[: draw(st.integers(0, len(whole)))]
        case 1:
            changed = bytearray(whole)
            for _ in range(draw(st.integers(1, 8))):
                changed[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
            return bytes(changed)
        case 2:
            encoding = draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "cp037"]))
            return whole.decode("latin-1").encode(encoding, errors="replace")
        case 3:
            start = draw(st.integers(0, len(whole)))
            return whole[:start] + draw(st.binary(max_size=50)) + whole[start:]
        case _:
            return whole


TEXTS = [f"a text number {n}" for n in range(40)]


def with_bytes(column: pa.Array, at: int, value: bytes) -> pa.Array:
    """A string column with bytes in one row that need not be UTF-8."""
    found = column.cast(pa.binary()).to_pylist()
    found[at] = value
    return pa.Array.from_buffers(pa.string(), len(found), pa.array(found, pa.binary()).buffers())


@st.composite
def broken_tables(draw: Any, texts: dict[str, pa.Array], numbers: dict[str, pa.Array]) -> bytes:
    """A parquet file with other columns, types, texts, metadata or bytes."""
    whole = {**texts, **numbers}
    columns = list(whole.items())
    metadata: dict[str, str | bytes] = dict(NAMES)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(columns) - 1))
        name = columns[at][0]
        text = whole[name].cast(pa.string())
        rows = len(text)
        match draw(st.integers(0, 8)):
            case 0:
                columns[at] = (name, with_bytes(text, draw(st.integers(0, rows - 1)), b"\xff\x00"))
            case 1:
                columns[at] = (name, text.dictionary_encode())
            case 2:
                kind = draw(st.sampled_from([pa.large_string(), pa.string_view(), pa.binary()]))
                columns[at] = (name, text.cast(kind))
            case 3:
                value = draw(scalars.filter(lambda x: not isinstance(x, int | str)) | st.just([1]))
                columns[at] = (name, pa.array([value] * rows))
            case 4:
                kind = draw(st.sampled_from([pa.float16(), pa.float32(), pa.uint64(), pa.bool_()]))
                columns[at] = (name, pa.array([0] * rows).cast(pa.int8()).cast(kind))
            case 5:
                columns.append(columns[at])
            case 6 if len(columns) > 1:
                del columns[at]
            case 7:
                odd = draw(st.floats() | st.sampled_from([2**31, -5, 1e300]))
                columns[at] = (name, pa.array([0.0, 1.0] * (rows // 2 - 1) + [1.0, odd]))
            case 8:
                metadata["huggingface"] = draw(st.binary(max_size=30) | nested)
    table = pa.Table.from_arrays([c for _, c in columns], names=[n for n, _ in columns])
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(table.replace_schema_metadata(metadata), sink)
    except pa.ArrowNotImplementedError:  # not every type has a place in parquet
        return draw(broken_bytes(b"PAR1"))
    return draw(broken_bytes(sink.getvalue().to_pybytes()))


def put(path: Path, content: bytes, how: str) -> None:
    """Writes a file, or puts a folder or a link in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match how:
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "link to nowhere":
            path.symlink_to(path.with_name("nowhere"))
        case "link":
            path.with_name("elsewhere").write_bytes(content)
            path.symlink_to(path.with_name("elsewhere"))
        case _:
            path.write_bytes(content)


places = st.sampled_from(["file"] * 12 + ["folder", "loop", "link to nowhere", "link"])


def works_or_is_named(call: Callable[[], object], *names: object) -> bool:
    """Whether the call returned; if not, it raised one line with one of the names."""
    try:
        call()
    except UserError as error:
        message = str(error)
        assert len(message.splitlines()) == 1, message
        assert len(message) < 1_500, message
        assert any(str(name) in message for name in names), message
        return False
    return True


def check_instructions(folder: Path, name: str, content: bytes, how: str, on_bad_row: Any) -> None:
    put(folder / name, content, how)
    config = DataConfig(instructions=str(folder / name), on_bad_row=on_bad_row)
    works_or_is_named(lambda: (local_files(config), load_instructions(config)), folder / name)


def check_surveys(folder: Path, survey: str, content: bytes, how: str, on_bad_row: Any) -> None:
    for other in FILES:
        if other != survey:
            put(folder / f"{FILES[other]}.jsonl", as_lines(survey_rows(other)), "file")
    broken = folder / f"{FILES[survey]}.jsonl"
    put(broken, content, how)
    config = DataConfig(surveys=str(folder), on_bad_row=on_bad_row)
    works_or_is_named(lambda: (local_files(config), load_surveys(config)), broken)


def check_mirror(folder: Path, split: str, content: bytes, how: str, on_bad_row: Any) -> None:
    place = folder / "stanfordnlp__sst2" / "default"
    good = pa.table({"sentence": [f"{t} of old" for t in TEXTS], "label": [0, 1] * 20})
    place.mkdir(parents=True)
    for name in ("train", "validation"):
        if name != split:
            pq.write_table(good.replace_schema_metadata(NAMES), place / f"{name}.parquet")
    put(place / f"{split}.parquet", content, how)
    config = DataConfig(
        origin="mirror", mirror=str(folder), data_sets=("sst2",), on_bad_row=on_bad_row
    )
    for part in ("train", "validation"):
        works_or_is_named(
            lambda part=part: load_source(SOURCES["sst2"], config, part),  # type: ignore[misc]
            place / f"{split}.parquet",
            f"sst2 {split}",
        )


TOML = """
name = "own"
texts = ["first", "second"]
label = "kind"
[labels]
0 = "Low"
1 = "High"
[files]
train = "FILE"
"""
OWN_ROWS = [{"first": t, "second": f"more of {t}", "kind": n % 2} for n, t in enumerate(TEXTS)]


def as_table(separator: str) -> bytes:
    rows = [list(OWN_ROWS[0]), *(list(row.values()) for row in OWN_ROWS)]
    return "".join(separator.join(map(str, row)) + "\n" for row in rows).encode()


def check_own(
    folder: Path, ending: str, toml: bytes, rows: bytes, how: str, on_bad_row: Any
) -> None:
    """Puts a data set with its TOML file; `how` is what stands in place of the rows' file."""
    (folder / "own.toml").write_bytes(toml.replace(b"FILE", f"rows{ending}".encode()))
    put(folder / f"rows{ending}", rows, how)
    config = DataConfig(
        data_sets=("own",), data_set_files=(str(folder / "own.toml"),), on_bad_row=on_bad_row
    )

    def read() -> None:
        local_files(config)
        (source,) = selected_sources(config)
        for split in ("train", "validation"):
            load_source(source, config, split)  # type: ignore[arg-type]

    # Another name or file that a damaged description gives is no fault of the rows.
    works_or_is_named(read, folder / "own.toml", folder / "rows", "own train", "data set 'own'")


instruction_files = st.one_of(
    st.tuples(st.just("rows.jsonl"), broken_lines(ROWS)),
    st.tuples(
        st.just("rows.parquet"),
        broken_tables(
            {name: pa.array([row[name] for row in ROWS]) for name in ("inputs", "targets", "task")},
            {},
        ),
    ),
    st.tuples(st.sampled_from(["rows.parquet", "rows.json"]), st.binary(max_size=100)),
)
survey_files = st.sampled_from(list(FILES)).flatmap(
    lambda survey: st.tuples(st.just(survey), broken_lines(survey_rows(survey)))
)
mirror_files = st.tuples(
    st.sampled_from(["train", "validation"]),
    broken_tables(
        {"sentence": pa.array(TEXTS)}, {"label": pa.array([0, 1] * 20), "idx": pa.array(range(40))}
    ),
)
own_files = st.one_of(
    st.tuples(st.just(".jsonl"), st.just(TOML.encode()), broken_lines(OWN_ROWS)),
    st.tuples(st.just(".csv"), st.just(TOML.encode()), broken_bytes(as_table(","))),
    st.tuples(st.just(".tsv"), st.just(TOML.encode()), broken_bytes(as_table("\t"))),
    st.tuples(
        st.just(".parquet"),
        st.just(TOML.encode()),
        broken_tables(
            {name: pa.array([row[name] for row in OWN_ROWS]) for name in ("first", "second")},
            {"kind": pa.array([row["kind"] for row in OWN_ROWS])},
        ),
    ),
    st.tuples(st.just(".csv"), broken_bytes(TOML.encode()), st.just(as_table(","))),
)
KINDS = {
    "instructions": (instruction_files, check_instructions),
    "surveys": (survey_files, check_surveys),
    "mirror": (mirror_files, check_mirror),
    "own": (own_files, check_own),
}
policies = st.sampled_from(["drop", "stop"])


def try_kind(kind: str, how_many: settings) -> None:
    files, check = KINDS[kind]

    @how_many
    @given(files, places, policies)
    def attempt(file: tuple[str, bytes], how: str, on_bad_row: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            check(Path(folder), *file, how, on_bad_row)

    attempt()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_works_or_is_named(kind: str) -> None:
    try_kind(kind, few)


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_damaged_files_work_or_are_named(kind: str) -> None:
    try_kind(kind, many)


@pytest.mark.faults
def test_files_that_can_be_read_can_be_prepared() -> None:
    """Runs the whole stage on files that are read without an error."""

    @settings(few, max_examples=100)
    @given(mirror_files, broken_lines(ROWS))
    def attempt(file: tuple[str, bytes], lines: bytes) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            check_mirror(folder, *file, "file", "drop")
            put(folder / "rows.jsonl", lines, "file")
            config = DataConfig(
                origin="mirror",
                mirror=str(folder),
                data_sets=("sst2",),
                instructions=str(folder / "rows.jsonl"),
                surveys=str(folder),
                num_examples=30,
            )
            for survey in FILES:
                put(folder / f"{FILES[survey]}.jsonl", as_lines(survey_rows(survey)), "file")
            out = folder / "out"
            done = works_or_is_named(lambda: prepare(config, out), folder, "sst2")
            assert out.exists() == done

    attempt()
