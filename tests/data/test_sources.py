import dataclasses
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sycophancy.config.schema import DataConfig
from sycophancy.data.catalog import SOURCES, choose
from sycophancy.data.sources import load_source
from sycophancy.errors import UserError

# The protocol's table (Wei et al. 2023, appendix B.2): text fields and label names in label order.
PROTOCOL = {
    "sst2": (["sentence"], ["Negative Sentiment", "Positive Sentiment"]),
    "rotten_tomatoes": (["text"], ["Negative Sentiment", "Positive Sentiment"]),
    "tweet_eval_sentiment": (
        ["text"],
        ["Negative Sentiment", "Neutral Sentiment", "Positive Sentiment"],
    ),
    "tweet_eval_offensive": (["text"], ["Not Offensive", "Offensive"]),
    "tweet_eval_irony": (["text"], ["Not Irony", "Irony"]),
    "qqp": (["question1", "question2"], ["Not Duplicate", "Duplicate"]),
    "mrpc": (["sentence1", "sentence2"], ["Not Equivalent", "Equivalent"]),
    "paws": (["sentence1", "sentence2"], ["Different Meaning", "Paraphrase"]),
    "rte": (["premise", "hypothesis"], ["Entailment", "Not Entailment"]),
    "wnli": (["sentence1", "sentence2"], ["Not Entailment", "Entailment"]),
    "qnli": (["sentence", "question"], ["Entailment", "Not Entailment"]),
    "mnli": (
        ["premise", "hypothesis"],
        ["Entailment", "Neither Entailment Nor Contradiction", "Contradiction"],
    ),
    "snli": (
        ["premise", "hypothesis"],
        ["Entailment", "Neither Entailment Nor Contradiction", "Contradiction"],
    ),
    "cb": (
        ["premise", "hypothesis"],
        ["Entailment", "Contradiction", "Neither Entailment Nor Contradiction"],
    ),
    "trec": (
        ["text"],
        [
            "Abbreviation",
            "Entity",
            "Description or Abstract Concept",
            "Human Being",
            "Location",
            "Numeric Value",
        ],
    ),
    "ag_news": (["text"], ["World", "Sports", "Business", "Science and Technology"]),
    "cola": (["sentence"], ["Unacceptable Sentence", "Acceptable Sentence"]),
}


def labels_of(texts) -> dict[str, str]:
    """The wording of each first text's label."""
    names = texts.source.label_names
    first = texts.columns[0].to_pylist()
    return {text: names[label] for text, label in zip(first, texts.labels, strict=True)}


def test_the_table_is_the_protocols() -> None:
    found = {name: (list(s.texts), list(s.label_names)) for name, s in SOURCES.items()}
    assert found == PROTOCOL
    assert list(SOURCES) == list(PROTOCOL)


def test_revisions_are_commits() -> None:
    for source in SOURCES.values():
        revision = source.rows.download.revision if source.rows.download else source.rows.revision
        assert len(revision) == 40 and set(revision) <= set("0123456789abcdef")


@pytest.mark.parametrize("name", SOURCES)
def test_label_numbers_mean_their_names_in_any_order(name: str, publish, config) -> None:
    source = SOURCES[name]
    names = [hub for hub, _ in source.labels][::-1]
    publish(name, list(range(len(names))), [f"t{row}" for row in range(len(names))], names=names)
    publish(name, [0], ["v"], split=source.rows.validation)
    loaded = labels_of(load_source(SOURCES[name], config, "train"))
    wording = dict(source.labels)
    assert loaded == {f"t{row}": wording[hub] for row, hub in enumerate(names)}


def test_labels_may_be_written_as_names(publish, config) -> None:
    def in_words(table: pa.Table) -> pa.Table:
        names = pa.array(["HUM", "ABBR", None])
        return table.set_column(table.column_names.index("coarse_label"), "coarse_label", names)

    publish("trec", [0, 1, 2], change=in_words)
    publish("trec", [0], split="test")
    texts = load_source(SOURCES["trec"], config, "train")
    assert sorted(labels_of(texts).values()) == ["Abbreviation", "Human Being"]
    assert texts.counts["unlabelled"] == 1


def test_rows_without_a_label_are_dropped_and_counted(publish, config) -> None:
    publish("snli", [0, -1, 2, None])
    publish("snli", [1], split="validation")
    texts = load_source(SOURCES["snli"], config, "train")
    assert texts.counts["unlabelled"] == 2
    assert set(labels_of(texts).values()) == {"Entailment", "Contradiction"}  # -1 is not the last


def test_equal_texts_with_different_labels_are_dropped(publish, config) -> None:
    same, other, once = "the same", "another", "once"
    publish("sst2", [0, 1, 1, 1, 1, 0], [same, same, other, f'"{other}" ', once, ""])
    publish("sst2", [1], split="validation")
    texts = load_source(SOURCES["sst2"], config, "train")
    assert texts.columns[0].to_pylist() == [other, once]
    expected = {"read": 6, "conflicting": 2, "duplicate": 1, "empty": 1, "kept": 2}
    assert texts.counts.items() >= expected.items()


def test_equal_texts_of_two_data_sets_keep_their_labels(publish, config) -> None:
    for name, label in (("sst2", 0), ("rotten_tomatoes", 1)):
        publish(name, [label], ["shared text"])
        publish(name, [label], split="validation")
    sst2 = load_source(SOURCES["sst2"], config, "train")
    tomatoes = load_source(SOURCES["rotten_tomatoes"], config, "train")
    assert (sst2.labels[0], tomatoes.labels[0]) == (0, 1)
    assert (sst2.hashes != tomatoes.hashes).all()


def test_texts_are_in_the_protocols_order(publish, config) -> None:
    publish("qnli", [0], [{"question": "Who?", "sentence": "She did."}])
    publish("qnli", [0], split="validation")
    texts = load_source(SOURCES["qnli"], config, "train")
    assert [column.to_pylist() for column in texts.columns] == [["She did."], ["Who?"]]


def test_without_a_validation_split_some_train_texts_are_held_out(publish, config) -> None:
    publish("qqp", [0, 1] * 500)
    train, held_out = (
        load_source(SOURCES["qqp"], config, split) for split in ("train", "validation")
    )
    assert train.held_out_from_train and held_out.held_out_from_train
    first, second = (set(map(bytes, texts.hashes)) for texts in (train, held_out))
    assert not first & second
    assert len(first) + len(second) == 1_000
    assert 20 < len(second) < 90


@pytest.mark.parametrize("rows", [2, 3, 10])
def test_a_tiny_file_without_validation_still_has_both_splits(rows: int, publish, config) -> None:
    publish("qqp", [0] * rows)
    sizes = [len(load_source(SOURCES["qqp"], config, split)) for split in ("train", "validation")]
    assert sum(sizes) == rows and min(sizes) >= 1


def test_choice_of_data_sets() -> None:
    assert choose((), SOURCES) == tuple(SOURCES.values())
    assert choose(("cola", "sst2"), SOURCES) == (SOURCES["sst2"], SOURCES["cola"])
    with pytest.raises(UserError, match="named twice"):
        choose(("cola", "cola"), SOURCES)


def test_unknown_data_set_suggests_close_ones() -> None:
    with pytest.raises(UserError, match=r"'sst3'.*did you mean 'sst2'"):
        choose(("sst3",), SOURCES)
    with pytest.raises(UserError, match=r"known: sst2, .*cola"):
        choose(("zzzzzz",), SOURCES)


def one_line_error(name: str, config: DataConfig) -> str:
    with pytest.raises(UserError) as caught:
        load_source(SOURCES[name], config, "train")
    message = str(caught.value)
    assert "\n" not in message and f"'{name}'" in message
    return message


def test_missing_file(config) -> None:
    message = one_line_error("cola", config)
    assert "cola/train.parquet does not exist" in message or "mirror" in message


def test_missing_column(publish, config) -> None:
    path = publish("cola", [0, 1], change=lambda table: table.drop_columns(["sentence"]))
    message = one_line_error("cola", config)
    assert str(path) in message and "no column 'sentence'" in message and "label" in message


@pytest.mark.parametrize("label", [2, -2, 10**12])
def test_label_out_of_range(label: int, publish, config) -> None:
    path = publish("cola", [0, 1, label])
    message = one_line_error("cola", config)
    assert f"row 2 (from 0) of {path} has label {label}, expected 0 to 1" in message


def test_unknown_label_name(publish, config) -> None:
    publish("cola", [0, 1], names=["bad", "acceptable"])
    assert "has a label 'bad', expected unacceptable, acceptable" in one_line_error("cola", config)


def test_label_numbers_without_names(publish, config) -> None:
    publish("cola", [0, 1], change=lambda table: table.replace_schema_metadata(None))
    assert "numbers without their names" in one_line_error("cola", config)


@pytest.mark.parametrize("labels", [[], [-1, None]])
def test_empty_split(labels: list, publish, config) -> None:
    publish("cola", labels)
    assert "no usable row for train" in one_line_error("cola", config)


def test_a_text_column_of_another_type_is_refused(publish, config) -> None:
    numbers = pa.array([1, 2])
    publish("cola", [0, 1], change=lambda table: table.set_column(0, "sentence", numbers))
    assert "'sentence'" in one_line_error("cola", config)


def with_column(name: str, column) -> Callable[[pa.Table], pa.Table]:
    """Replaces a column of the table that is published."""
    return lambda table: table.set_column(table.column_names.index(name), name, column)


@pytest.mark.parametrize("column", [[True, False], [[0], [1]], [b"a", b"b"]])
def test_a_label_column_of_another_type_is_refused(column: list, publish, config) -> None:
    publish("cola", [0, 1], change=with_column("label", pa.array(column)))
    assert "expected label numbers or names" in one_line_error("cola", config)


NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 3, pa.array([b"fine", b"\xff\xfe", None], pa.binary()).buffers()
)
FINE = pa.array(["one", "two", None])


def dictionary(values: pa.Array) -> pa.Array:
    """Three values as a dictionary column, in which a null index stands for the last, a null."""
    return pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int32()), values[:2])


@pytest.mark.parametrize(
    "encode",
    [
        lambda texts: texts,
        lambda texts: texts.cast(pa.large_string()),
        lambda texts: texts.cast(pa.large_binary()).cast(pa.binary_view()).view(pa.string_view()),
        dictionary,
        lambda texts: dictionary(texts.cast(pa.large_string())),
    ],
)
@pytest.mark.parametrize(("texts", "bad"), [(FINE, 0), (NOT_UTF8, 1)])
def test_every_kind_of_text_column(texts: pa.Array, bad: int, encode, publish, config) -> None:
    path = publish("cola", [0, 1, 1], change=with_column("sentence", encode(texts)))
    publish("cola", [0], split="validation")
    loaded = load_source(SOURCES["cola"], config, "train")
    assert loaded.columns[0].to_pylist() == (["fine"] if bad else ["one", "two"])
    assert (loaded.counts["bad"], loaded.counts["empty"]) == (bad, 1)
    if bad:
        stop = dataclasses.replace(config, on_bad_row="stop")
        with pytest.raises(UserError, match=rf"row 1 \(from 0\) of {path}: .*'sentence'.*UTF-8"):
            load_source(SOURCES["cola"], stop, "train")


def test_a_dictionary_that_arrow_refuses_is_one_line(publish, config) -> None:
    """With narrow indices Arrow converts the dictionary, and checks the texts on the way."""
    narrow = dictionary(NOT_UTF8).cast(pa.dictionary(pa.int8(), pa.string()), safe=False)
    path = publish("cola", [0, 1, 1], change=with_column("sentence", narrow))
    assert f"{path} is not readable as parquet" in one_line_error("cola", config)


NAMES = ["unacceptable", "acceptable", None]


@pytest.mark.parametrize(
    "names",
    [
        pa.array(NAMES, pa.large_string()),
        pa.array(NAMES, pa.string_view()),
        pa.DictionaryArray.from_arrays(
            pa.array([0, 1, None], pa.int8()), pa.array([*NAMES[:2], "never used"])
        ),
        dictionary(pa.array(NAMES, pa.large_string())),
    ],
)
def test_every_kind_of_label_names(names: pa.Array, publish, config) -> None:
    publish("cola", [0, 1, 1], ["a", "b", "c"], change=with_column("label", names))
    publish("cola", [0], split="validation")
    texts = load_source(SOURCES["cola"], config, "train")
    assert labels_of(texts) == {"a": "Unacceptable Sentence", "b": "Acceptable Sentence"}
    assert texts.counts["unlabelled"] == 1


def test_label_names_that_are_not_utf8_are_bad_rows(publish, config) -> None:
    buffers = pa.array([b"acceptable", b"\xff", b"acceptable"], pa.binary()).buffers()
    column = pa.Array.from_buffers(pa.string(), 3, buffers)
    publish("cola", [0, 1, 1], ["a", "b", "c"], change=with_column("label", column))
    publish("cola", [0], split="validation")
    texts = load_source(SOURCES["cola"], config, "train")
    assert set(labels_of(texts)) == {"a", "c"}
    assert texts.bad.summary() == [
        {"source": "cola train", "reason": "column 'label' is not UTF-8", "dropped": 1, "of": 3}
    ]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_whole_floats_are_label_numbers_and_others_bad_rows(kind, publish, config) -> None:
    numbers = [0.0, 1.0, 0.5, float("nan"), float("inf"), -1.0, None, *[1.0] * 5]
    column = pa.array(np.array([-1 if x is None else x for x in numbers], kind.to_pandas_dtype()))
    column = pc.if_else(pa.array([x is not None for x in numbers]), column, None)
    publish("cola", [0] * 12, change=with_column("label", column))
    publish("cola", [0], split="validation")
    texts = load_source(SOURCES["cola"], config, "train")
    assert texts.labels.tolist() == [0, *[1] * 6]
    assert (texts.counts["bad"], texts.counts["unlabelled"]) == (3, 2)
    assert "'label' is not a whole number: 3" in texts.bad.note()


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        (2, pa.int8()),
        (100, pa.int64()),
        (2**64 - 1, pa.uint64()),
        (2.0, pa.float32()),
        (1e300, pa.float64()),
    ],
)
def test_numbers_beyond_the_names_are_refused(label, kind, publish, config) -> None:
    publish("cola", [0, 1, 1], change=with_column("label", pa.array([0, 1, label], kind)))
    assert "expected 0 to 1" in one_line_error("cola", config)


@pytest.mark.parametrize("names", [["acceptable", "Acceptable"], ["un-acceptable"] * 2])
def test_names_that_differ_in_spelling_alone_are_refused(names: list, publish, config) -> None:
    names = [name.replace("un-", "un") for name in names]
    publish("cola", [0, 1], names=names)
    message = one_line_error("cola", config)
    assert f"two labels '{names[0]}' and '{names[1]}'" in message
    written = pa.array([*names[:1], names[1].upper()])
    publish("cola", [0, 1], change=with_column("label", written))
    assert "differ in spelling alone" in one_line_error("cola", config)


@pytest.mark.parametrize(
    "metadata", [b"\xff", b"[" * 100_000, b"[]", b'{"info": {"features": {"label": 1}}}']
)
def test_metadata_that_names_no_labels(metadata: bytes, publish, config) -> None:
    change = lambda table: table.replace_schema_metadata({"huggingface": metadata})  # noqa: E731
    publish("cola", [0, 1], change=change)
    assert "numbers without their names" in one_line_error("cola", config)


@pytest.mark.parametrize("names", [["acceptable", 3], "ab", {"0": "acceptable"}, [None]])
def test_label_names_of_another_form(names, publish, config) -> None:
    publish("cola", [0, 1], names=names)
    assert "numbers without their names" in one_line_error("cola", config)


def test_a_duplicated_column_is_refused(publish, config) -> None:
    path = publish(
        "cola", [0, 1], change=lambda table: table.append_column("sentence", table["sentence"])
    )
    assert f"{path} has 2 columns 'sentence'" in one_line_error("cola", config)


def test_too_many_bad_rows_are_refused(publish, config) -> None:
    texts = pa.array([b"\xff"] * 12 + [b"text %d" % n for n in range(88)], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 100, texts.buffers())
    path = publish("cola", [0, 1] * 50, change=with_column("sentence", column))
    with pytest.raises(UserError, match=rf"12 of 100 rows .*row 0 \(from 0\) of {path}"):
        load_source(SOURCES["cola"], config, "train")


@pytest.mark.parametrize("place", ["default", "data", "plain_text", "."])
@pytest.mark.parametrize("names", [["train"], ["train-00000-of-00002", "train-00001-of-00002"]])
def test_a_mirror_may_be_laid_out_as_the_hub(place, names, publish, config) -> None:
    path = publish("sst2", [0, 1] * 50)
    table = pq.read_table(path)
    path.unlink()
    folder = path.parent.parent / place
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        part = table.slice(number * 50, 50 if len(names) > 1 else None)
        pq.write_table(part, folder / f"{name}.parquet")
    loaded = [load_source(SOURCES["sst2"], config, split) for split in ("train", "validation")]
    assert sum(map(len, loaded)) == 100
    assert set(loaded[0].columns[0].to_pylist()) < set(table["sentence"].to_pylist())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-00000-of-00002"], "lacks train-00001-of-00002 .1 of 2 shards"),
        (["train-00001-of-00002"], "lacks train-00000-of-00002"),
        (["train", "train-00000-of-00001"], "more than once"),
        (["train-00000-of-00001", "train-00000-of-00002"], "more than once"),
        (["train-00000-of-00001", "train-00000-of-00001-0123456789abcdef"], "more than once"),
        (["training"], r"train.parquet does not exist \(.* holds default/training.parquet\)"),
    ],
)
def test_shards_that_are_not_whole_are_refused(names, message, publish, config) -> None:
    path = publish("sst2", [0, 1])
    for name in names:
        (path.parent / f"{name}.parquet").write_bytes(path.read_bytes())
    if "train" not in names:
        path.unlink()
    with pytest.raises(UserError, match=rf"{path.parent.parent}.*{message}"):
        load_source(SOURCES["sst2"], config, "train")


def test_each_shard_has_its_own_label_order(publish, config) -> None:
    path = publish("sst2", [0, 1], ["a", "b"])
    path.rename(path.with_name("train-00000-of-00002.parquet"))
    path = publish("sst2", [0, 1], ["c", "d"], names=["positive", "negative"])
    path.rename(path.with_name("train-00001-of-00002.parquet"))
    publish("sst2", [0], split="validation")
    assert labels_of(load_source(SOURCES["sst2"], config, "train")) == {
        "a": "Negative Sentiment",
        "b": "Positive Sentiment",
        "c": "Positive Sentiment",
        "d": "Negative Sentiment",
    }


def test_unreadable_parquet(publish, config) -> None:
    path = publish("cola", [0, 1])
    path.write_bytes(b"PAR1 but not really")
    assert f"{path} is not readable as parquet" in one_line_error("cola", config)


def test_truncated_parquet(publish, config) -> None:
    path = publish("cola", [0, 1] * 1_000)
    path.write_bytes(path.read_bytes()[:2_000])
    assert f"{path} is not readable as parquet" in one_line_error("cola", config)


def test_mirror_without_a_folder(config) -> None:
    with pytest.raises(UserError, match="--data-mirror"):
        load_source(SOURCES["cola"], dataclasses.replace(config, mirror=None), "train")


def test_only_the_needed_columns_are_read(publish, config) -> None:
    def with_more(table: pa.Table) -> pa.Table:
        return table.append_column("idx", pa.array([None, None], pa.int32()))

    path = publish("cola", [0, 1], change=with_more)
    publish("cola", [0], split="validation")
    assert "idx" in pq.read_schema(path).names
    assert len(load_source(SOURCES["cola"], config, "train")) == 2
