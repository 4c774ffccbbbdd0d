"""A user's own data set: its TOML file, its rows, and its place beside the 17."""

import csv
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sycophancy.cli.options import RunOptions
from sycophancy.config.load import load_config
from sycophancy.config.schema import DataConfig
from sycophancy.data import hub, intervention
from sycophancy.data.catalog import SOURCES, HubRows
from sycophancy.data.data_set_file import available_sources, read_data_set_file, selected_sources
from sycophancy.data.lengths import Limits
from sycophancy.data.local_files import local_files
from sycophancy.data.prepare import prepare
from sycophancy.data.sources import Texts, load_source
from sycophancy.engine.fingerprint import Digests
from sycophancy.errors import UserError
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.stages.models import token_counter

DOCUMENT = Path(__file__).parents[2] / "docs" / "add_a_data_set.md"
TOML = """
name = "mail"
texts = ["subject", "body"]
label = "kind"

[labels]
spam = "Unwanted Mail"
ham = "Wanted Mail"

[files]
train = "mail.jsonl"
"""
ROWS = [
    {"subject": f"subject {n}", "body": f"body {n}", "kind": ("spam", "ham")[n % 2]}
    for n in range(40)
]


@pytest.fixture
def described(tmp_path) -> Path:
    """A data set of forty rows of jsonl with its TOML file."""
    write_rows(tmp_path / "mail.jsonl", ROWS)
    (tmp_path / "mail.toml").write_text(TOML)
    return tmp_path / "mail.toml"


def write_rows(path: Path, rows: list[dict]) -> Path:
    """Writes rows in the format that the file's ending names."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as stream:
            separator = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
            writer = csv.DictWriter(
                stream, list(rows[0]), **separator if path.suffix == ".tsv" else {}
            )
            writer.writeheader()
            writer.writerows(rows)
    return path


def load(path: Path, split: str = "train", **config: object) -> Texts:
    return load_source(read_data_set_file(path), DataConfig(**config), split)


def labels_of(texts: Texts) -> dict[str, str]:
    """The wording of each first text's label."""
    names = texts.source.label_names
    first = texts.columns[0].to_pylist()
    return {text: names[label] for text, label in zip(first, texts.labels, strict=True)}


def one_line(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message


def refusal(path: Path, text: str) -> str:
    """The one line with which a TOML file of this text is refused; it names the file."""
    path.write_text(text)
    message = one_line(lambda: read_data_set_file(path))
    assert str(path) in message
    return message


def test_the_documented_example_prepares(tmp_path) -> None:
    """The files in docs/add_a_data_set.md, as they stand there, with the model they name."""
    blocks = re.findall(r"`([\w.]+)`[^`\n]*:\n\n```\w+\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["stories.toml", "stories.csv", "more_stories.csv"]
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    config = load_config(
        "mini_base",
        "quick",
        [f"DATA_SET_FILES=('{tmp_path / 'stories.toml'}',)", "DATA_SETS=('stories','sst2')"],
    )
    vocabulary = Vocabulary(config.model.vocabulary)
    lengths = config.training.task_feature_lengths
    limits = Limits(token_counter(config.model), lengths.inputs, lengths.targets, vocabulary.pieces)
    data = dataclasses.replace(config.data, sampling="balanced")
    summary = prepare(data, tmp_path / "out", limits=limits)
    counts = summary["data_sets"]["stories"]
    assert (counts["train"]["taken"], counts["validation"]["taken"]) == (16, 6)
    assert counts["validation_split"] == "more_stories.csv"
    assert summary["data_sets"].keys() == {"sst2", "stories"}
    assert not any("stories" in note for note in summary["notes"])  # the miniature reads it all
    rows = pq.read_table(tmp_path / "out" / "intervention.parquet").to_pylist()
    claims = [row["inputs_without_opinion"] for row in rows if row["dataset"] == "stories"]
    assert len(claims) == 16
    assert any(
        re.search('"this story of a butcher in the office is dull" is (not )?Neg', c)
        for c in claims
    )


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_every_format_holds_the_same_rows(ending: str, described, tmp_path) -> None:
    expected = load(described)
    write_rows(tmp_path / f"rows{ending}", ROWS)
    described.write_text(TOML.replace("mail.jsonl", f"rows{ending}"))
    texts = load(described)
    assert labels_of(texts) == labels_of(expected)
    assert (texts.hashes == expected.hashes).all()
    assert texts.counts == expected.counts
    assert texts.counts["read"] == 40


NUMBERS = TOML.replace("spam =", "0 =").replace("ham =", "1 =")


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize(
    ("toml", "values"),
    [
        (NUMBERS, [0, 1, -1, None]),
        (NUMBERS, [0.0, 1.0, -1.0, None]),
        (NUMBERS, ["0", "1", "-1", ""]),
        (TOML.replace("spam =", "true =").replace("ham =", "false ="), [True, False, None, None]),
        (TOML, ["SPAM", " ham", "", None]),
    ],
)
def test_label_values_of_every_kind(
    ending: str, toml: str, values: list, described, tmp_path
) -> None:
    """The third and the fourth value mean that the row has no label."""
    rows = [dict(ROWS[n], kind=value) for n, value in enumerate(values * 3)]
    for n, row in enumerate(rows):
        row["subject"] = f"s{n}"
    write_rows(tmp_path / f"rows{ending}", rows)
    described.write_text(toml.replace("mail.jsonl", f"rows{ending}"))
    texts = [load(described, split) for split in ("train", "validation")]
    assert labels_of(texts[0]) | labels_of(texts[1]) == {
        f"s{n}": ("Unwanted Mail", "Wanted Mail")[n % 4] for n in range(12) if n % 4 < 2
    }
    assert texts[0].counts["unlabelled"] == 6


def test_minus_one_is_a_label_where_it_has_a_wording(described, tmp_path) -> None:
    write_rows(
        tmp_path / "mail.jsonl", [dict(row, kind=n % 2 * 2 - 1) for n, row in enumerate(ROWS)]
    )
    described.write_text(TOML.replace("spam =", "-1 =").replace("ham =", "1 ="))
    texts = load(described)
    assert texts.counts["unlabelled"] == 0
    assert labels_of(texts)["subject 0"] == "Unwanted Mail"


def test_class_label_names_win_over_numbers(described, tmp_path) -> None:
    table = pa.table({name: [row[name] for row in ROWS] for name in ("subject", "body")})
    table = table.append_column("kind", pa.array([1, 0] * 20))
    features = {"kind": {"names": ["ham", "spam"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "rows.parquet")
    described.write_text(TOML.replace("mail.jsonl", "rows.parquet"))
    assert labels_of(load(described))["subject 0"] == "Unwanted Mail"


def test_several_files_and_a_validation_file(described, tmp_path) -> None:
    write_rows(tmp_path / "a.jsonl", ROWS[:10])
    write_rows(tmp_path / "b.csv", ROWS[10:30])
    write_rows(tmp_path / "c.tsv", ROWS[30:])
    files = 'train = ["a.jsonl", "b.csv"]\nvalidation = "c.tsv"'
    described.write_text(TOML.replace('train = "mail.jsonl"', files))
    train, held_out = load(described), load(described, "validation")
    assert list(labels_of(train)) == [row["subject"] for row in ROWS[:30]]
    assert list(labels_of(held_out)) == [row["subject"] for row in ROWS[30:]]
    assert not held_out.held_out_from_train
    assert load(described).counts["read"] == 30


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mail"\n', "", "name is missing"),
        ("name", "nme", r"unknown key 'nme'; did you mean 'name'\?"),
        ("[files]", "[Labels]\n[files]", r"unknown key 'Labels'; did you mean 'labels'\?"),
        ("train =", "trian =", r"unknown key 'trian' in \[files\]; did you mean 'train'\?"),
        ('"mail"', "3", "name = 3: expected a text"),
        ('"mail"', '"sst2"', ""),
        ('"mail"', '"a/b"', "name = 'a/b': expected letters"),
        ('"mail"', '".."', r"name = '\.\.': expected letters"),
        ('"mail"', '"a,b"', "name = 'a,b': expected letters"),
        ('"mail"', '""', "name = '': expected a text"),
        ('["subject", "body"]', "[]", r"texts = \[\]: expected a text on one line, or a list"),
        ('["subject", "body"]', '["body", "body"]', "'body' stands there twice"),
        ('["subject", "body"]', '["body", 2]', "expected a text"),
        ('"kind"', '"body"', "label 'body' is one of the texts"),
        ('"kind"', "['kind']", r"label = \['kind'\]: expected a text"),
        ('ham = "Wanted Mail"\n', "", r"\[labels\] names 1 labels, expected at least two"),
        (TOML[TOML.index("[lab") : TOML.index("[files]")], "labels = 3\n", r"a table \[labels\]"),
        ("ham =", "Spam =", "'spam' and 'Spam' differ in case, spaces or hyphens alone"),
        ("ham =", '"" =', "an empty label"),
        ('"Wanted Mail"', "1", "labels.ham = 1: expected a text"),
        ('"Wanted Mail"', '" "', "expected a text"),
        ('"Wanted Mail"', '"unwanted  mail"', "two labels are worded 'unwanted  mail'"),
        ('"Wanted Mail"', '"not Unwanted Mail"', "begins with not"),
        ('"Wanted Mail"', "'Wanted \"Mail\"'", 'has a "'),
        ('"Wanted Mail"', '"Wanted Mail."', "begins or ends with a space or a full stop"),
        ('"Wanted Mail"', '"Wanted\\nMail"', "a text on one line"),
        ("[files]", "[hub]\nid = 'a/b'\n[files]", r"expected either \[files\].* or \[hub\]"),
        ('[files]\ntrain = "mail.jsonl"', "", r"expected either \[files\].* or \[hub\]"),
        ('"mail.jsonl"', '"mail.xlsx"', "files.train = 'mail.xlsx': expected files that end in"),
        ('"mail.jsonl"', '"mail.jsonl"\nvalidation = "mail.jsonl"', "other files than train"),
        ('"mail.jsonl"', '["mail.jsonl", "mail.jsonl"]', "'mail.jsonl' stands there twice"),
        ('[files]\ntrain = "mail.jsonl"', '[hub]\nid = "imdb"', "hub.id = 'imdb': expected owner/"),
        ('[files]\ntrain = "mail.jsonl"', '[hub]\nid = "a/b"\nsplit = "x"', "unknown key 'split'"),
        ('"mail"', '"mail', "is not TOML: .*line 2"),
        ('"mail"', "[" * 5_000 + "]" * 5_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_a_fault_in_the_description_is_one_line(old, new, message, described) -> None:
    assert old in TOML
    if new == '"sst2"':  # the name of one of the 17
        described.write_text(TOML.replace(old, new))
        config = DataConfig(data_set_files=(str(described),))
        text = one_line(lambda: available_sources(config))
        assert "name 'sst2' is the name of one of the 17 data sets" in text
        return
    assert re.search(message, refusal(described, TOML.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.write_bytes(b"name = '\xff'"), "byte 8 is not UTF-8"),
        (lambda path: path.write_bytes(b"#" * 2**20 + b"\n"), "too large"),
    ],
)
def test_a_description_that_cannot_be_read(put, message: str, tmp_path) -> None:
    path = tmp_path / "mail.toml"
    put(path)
    text = one_line(lambda: local_files(DataConfig(data_set_files=(str(path),))))
    assert str(path) in text and message in text


def test_two_descriptions_of_one_name(described, tmp_path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(TOML.replace('"mail"', '"Mail"'))
    config = DataConfig(data_set_files=(str(described), str(other)))
    text = one_line(lambda: selected_sources(config))
    assert f"{other}: name 'Mail' is the name of {described}" in text


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("column", ["subject", "kind"])
def test_a_missing_column_lists_the_columns(ending: str, column: str, described, tmp_path) -> None:
    rows = [{name: value for name, value in row.items() if name != column} for row in ROWS]
    write_rows(tmp_path / f"rows{ending}", rows)
    described.write_text(TOML.replace("mail.jsonl", f"rows{ending}"))
    text = one_line(lambda: load(described))
    assert f"rows{ending}" in text and f"column '{column}'" in text
    assert ", ".join(rows[0]) in text and str(described) in text


@pytest.mark.parametrize(
    ("ending", "place"),
    [(".jsonl", "rows.jsonl:8 "), (".csv", "rows.csv:9 "), (".parquet", "rows.parquet ")],
)
def test_a_label_without_a_wording(ending: str, place: str, described, tmp_path) -> None:
    rows = [dict(row, kind="junk") if n == 7 else row for n, row in enumerate(ROWS)]
    write_rows(tmp_path / f"rows{ending}", rows)
    described.write_text(TOML.replace("mail.jsonl", f"rows{ending}"))
    text = one_line(lambda: load(described))
    assert "'mail'" in text and place in text and "has a label 'junk'" in text
    assert "spam, ham" in text and str(described) in text


BAD_CSV = [
    (b"subject 40,body 40\n", "another number of fields than column names (2, not 3)"),
    (b"subject 40,body 40,spam,spam\n", "another number of fields than column names (4, not 3)"),
    (b"subject \xff,body 40,spam\n", "not UTF-8"),
    (b'"subject" 40,body 40,spam\n', "a quotation mark inside a field is not doubled"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_CSV)
def test_a_bad_line_of_csv_is_left_out_or_refused(line, reason, described, tmp_path) -> None:
    path = write_rows(tmp_path / "rows.csv", ROWS)
    with path.open("ab") as stream:
        stream.write(line + b"after,the bad line,ham\n")
    described.write_text(TOML.replace("mail.jsonl", "rows.csv"))
    texts = [load(described, split) for split in ("train", "validation")]
    assert "after" in labels_of(texts[0]) | labels_of(texts[1])
    assert (texts[0].counts["read"], texts[0].counts["bad"]) == (42, 1)
    assert f"{path}:42: {reason}" in texts[0].bad.note()
    text = one_line(lambda: load(described, on_bad_row="stop"))
    assert f"{path}:42: {reason}" in text and "--on-bad-row drop" in text


def test_quoted_fields_of_csv_may_hold_separators_and_line_breaks(described, tmp_path) -> None:
    rows = [*ROWS, {"subject": 'a, "b"\r\nc', "body": "d", "kind": "ham"}, ROWS[0]]
    write_rows(tmp_path / "rows.csv", rows)
    described.write_text(TOML.replace("mail.jsonl", "rows.csv"))
    texts = [load(described, split) for split in ("train", "validation")]
    assert "a, b c" in labels_of(texts[0]) | labels_of(texts[1])
    assert texts[0].counts["duplicate"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; its first line must name the columns"),
        (b"\n\n", "is empty; its first line must name the columns"),
        (b"subject,body,kind\n", r"no usable row for train \(0 read"),
        (b"subject,body,kind\n,b,spam\nc, ,ham\n", "no usable row for train"),
        (b"subject;body;kind\na;b;spam\n", r"no column 'subject' \(it has subject;body;kind\)"),
        (b"subject,body,kind,body\na,b,spam,c\n", "has 2 columns 'body'"),
        (b'subject,body,kind\n"a,b,spam\nc,d,ham\n', "rows.csv:2: .*quotation mark left open"),
        (b"\xff\xfes\0u\0b\0", "UTF-16 or UTF-32"),
        (b"sub\xffject,body,kind\n", "column names are not UTF-8"),
    ],
)
def test_a_csv_file_without_usable_rows(content: bytes, message, described, tmp_path) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    described.write_text(TOML.replace("mail.jsonl", "rows.csv"))
    assert re.search(message, one_line(lambda: load(described)))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"subject": 3, "body": "b", "kind": "ham"}, "column 'subject' is not text (3)"),
        ({"subject": "a", "body": "b", "kind": ["ham"]}, "column 'kind' is neither text nor a"),
        ({"subject": "a", "body": "\ud800", "kind": "ham"}, "column 'body' is not text"),
        ([], "not a JSON object"),
    ],
)
def test_a_bad_row_of_jsonl_is_left_out_and_named(row, reason, described, tmp_path) -> None:
    write_rows(tmp_path / "mail.jsonl", [*ROWS, row])
    texts = load(described)
    assert texts.counts["bad"] == 1
    assert f"mail.jsonl:41: {reason}" in texts.bad.note()


def test_texts_that_are_missing_or_empty_are_counted(described, tmp_path) -> None:
    rows = [*ROWS, {"subject": "", "body": "b", "kind": "ham"}, {"body": "b", "kind": "ham"}]
    write_rows(tmp_path / "mail.jsonl", rows)
    assert load(described).counts["empty"] == 2


def test_own_data_sets_come_after_the_17_and_can_be_chosen(described) -> None:
    config = DataConfig(data_set_files=(str(described),))
    names = [source.name for source in selected_sources(config)]
    assert names == [*SOURCES, "mail"]
    chosen = dataclasses.replace(config, data_sets=("mail", "cola"))
    assert [source.name for source in selected_sources(chosen)] == ["cola", "mail"]
    unknown = dataclasses.replace(config, data_sets=("mall",))
    assert "did you mean 'mail'?" in one_line(lambda: local_files(unknown))


def test_an_own_data_set_does_not_change_the_order_of_other_rows(described) -> None:
    """Of the rows that both samples take, the order is the same."""
    own = load(described)
    cola, sst2 = (load_source(SOURCES[name], DataConfig(), "train") for name in ("cola", "sst2"))
    pools = [texts.hashes for texts in (cola, sst2)]
    before = list(zip(*intervention.sample(pools, 500, "uniform", 0), strict=True))
    after = list(zip(*intervention.sample([*pools, own.hashes], 500, "uniform", 0), strict=True))
    kept = [row for row in after if row[0] < 2]
    assert 490 < len(kept) <= 500 and before[: len(kept)] == kept


def test_what_prepare_reads_counts_by_content(described, tmp_path) -> None:
    config = DataConfig(data_set_files=(str(described),))
    files = local_files(config)
    assert list(files) == ["data set 'mail' (its description)", "data set 'mail' mail.jsonl"]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in files.values():
        (moved / path.name).write_bytes(path.read_bytes())
    there = local_files(DataConfig(data_set_files=(str(moved / "mail.toml"),)))

    def digests(named: dict[str, Path]) -> dict[str, str]:
        return {name: Digests().of(path) for name, path in named.items()}

    before = digests(files)
    assert digests(there) == before
    write_rows(moved / "mail.jsonl", ROWS[1:])
    changed = digests(there)
    assert [name for name in before if before[name] != changed[name]] == [
        "data set 'mail' mail.jsonl"
    ]
    (moved / "mail.jsonl").unlink()
    assert "mail.jsonl does not exist" in one_line(
        lambda: local_files(DataConfig(data_set_files=(str(moved / "mail.toml"),)))
    )


HUB_TOML = TOML.replace('[files]\ntrain = "mail.jsonl"', '[hub]\nid = "me/mail"')


def test_a_data_set_of_the_hub_has_defaults(described) -> None:
    described.write_text(HUB_TOML)
    rows = read_data_set_file(described).rows
    assert rows == HubRows("me/mail", None, "main", train="train", validation=None)


def test_a_data_set_of_the_hub_may_lie_in_a_mirror(described, tmp_path) -> None:
    described.write_text(HUB_TOML + 'config = "v2"\ntrain = "all"\n')
    folder = tmp_path / "mirror" / "me__mail" / "v2"
    folder.mkdir(parents=True)
    write_rows(folder / "all.parquet", ROWS)
    mirror = {"origin": "mirror", "mirror": str(tmp_path / "mirror")}
    texts = load(described, **mirror)
    assert texts.held_out_from_train
    assert (
        labels_of(texts).items()
        <= {
            row["subject"]: {"spam": "Unwanted Mail", "ham": "Wanted Mail"}[row["kind"]]
            for row in ROWS
        }.items()
    )
    config = DataConfig(data_sets=("mail",), data_set_files=(str(described),), **mirror)
    config = dataclasses.replace(config, surveys=str(tmp_path), instructions=str(described))
    for survey in ("nlp_survey", "philpapers2020", "political_typology_quiz"):
        (tmp_path / f"sycophancy_on_{survey}.jsonl").write_text("{}")
    assert list(local_files(config))[-2:] == [
        "data set 'mail' (its description)",
        "data set 'mail' all.parquet",
    ]


def test_texts_that_the_miniature_cannot_read_are_noted(described, tmp_path) -> None:
    rows = [dict(row, body="\N{SNOWMAN} xylophone") for row in ROWS]
    write_rows(tmp_path / "mail.jsonl", rows)
    model = load_config("mini_base", "quick").model
    limits = Limits(token_counter(model), 60, 8, Vocabulary(model.vocabulary).pieces)
    config = DataConfig(
        data_sets=("mail",), data_set_files=(str(described),), num_instructions=50, num_validation=5
    )
    notes = "\n".join(prepare(config, tmp_path / "out", limits=limits)["notes"])
    assert re.search(r"mail: \d+ of \d+ training texts have characters that .* lacks", notes)
    assert "can only spell letter by letter" in notes and "label 'Unwanted Mail'" in notes
    assert re.search(r"claims: .* left out of training.*\(mail \d+ of \d+\)", notes)


def test_paths_in_a_recipe_are_relative_to_the_recipe(described, tmp_path, monkeypatch) -> None:
    recipe = tmp_path / "own.gin"
    recipe.write_text("include 'recipes/quick.gin'\nDATA_SET_FILES = ('mail.toml',)\n")
    monkeypatch.chdir(tmp_path.parent)
    data = load_config("mini_base", str(recipe)).data
    assert data.data_set_files == (str(described),)
    monkeypatch.chdir(tmp_path)
    options = RunOptions(model="mini_base", recipe="quick", data_set=["mail.toml"])
    assert options.config(None).data.data_set_files == (str(described),)


def test_a_data_set_of_the_hub_is_read_from_there_on_the_miniature(described, monkeypatch) -> None:
    """With label numbers that have no names, which the keys of [labels] then name."""
    described.write_text(
        HUB_TOML.replace("spam =", "0 =").replace("ham =", "1 =") + 'revision = "abc"\n'
    )
    columns = {name: [row[name] for row in ROWS] for name in ("subject", "body")}
    rows = datasets.Dataset.from_dict({**columns, "kind": [n % 2 for n in range(40)]})
    calls = []

    def load_split(what: str, hub_id: str, **arguments: object) -> datasets.Dataset:
        calls.append((what, hub_id, arguments["split"], arguments["revision"]))
        return rows

    monkeypatch.setattr(hub, "load_split", load_split)
    texts = [load(described, split) for split in ("train", "validation")]
    assert calls == [("data set 'mail'", "me/mail", "train", "abc")] * 2
    labels = labels_of(texts[0]) | labels_of(texts[1])
    assert labels == {f"subject {n}": ("Unwanted Mail", "Wanted Mail")[n % 2] for n in range(40)}


SMALL = [
    *("--set", "NUM_EXAMPLES=30", "--set", "NUM_INSTRUCTIONS=30", "--set", "NUM_VALIDATION=5"),
    *("--set", "NUM_SURVEY_ITEMS=5"),
]


def test_prepare_runs_again_when_a_row_changes(described, tmp_path, sycophancy) -> None:
    options = ["--model", "mini_base", "--recipe", "quick", "--out", tmp_path / "run", *SMALL]
    options += ["--data-sets", "mail", "--data-set", described]
    before = sycophancy("prepare", *options, "--show", 1)
    assert before.code == 0 and "mail · the claim is" in before.out
    summary = json.loads((tmp_path / "run" / "prepare" / "summary.json").read_text())
    assert list(summary["data_sets"]) == ["mail"]
    again = sycophancy("prepare", *options)
    assert again.code == 0 and "done in" not in again.out + again.err
    write_rows(tmp_path / "mail.jsonl", [*ROWS, dict(ROWS[0], subject="new")])
    changed = sycophancy("prepare", *options)
    assert "data set 'mail' mail.jsonl changed" in changed.out + changed.err
    summary = json.loads((tmp_path / "run" / "prepare" / "summary.json").read_text())
    assert summary["data_sets"]["mail"]["train"]["read"] == 41


@pytest.mark.parametrize("fault", ["description", "rows"])
def test_the_command_line_refuses_a_fault_and_writes_nothing(
    fault: str, described, tmp_path, sycophancy
) -> None:
    if fault == "description":
        described.write_text(TOML.replace("label =", "lable ="))
    else:
        write_rows(tmp_path / "mail.jsonl", [dict(row, kind="junk") for row in ROWS])
    options = ["--model", "mini_base", "--recipe", "quick", "--out", tmp_path / "run", *SMALL]
    outcome = sycophancy("prepare", *options, "--data-set", described, "--data-sets", "mail")
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert str(described) in line
    assert not (tmp_path / "run").exists()
