"""Ids, ends and texts of tokenizers are those of transformers."""

import json
import os

import pyarrow.parquet as pq
import pytest
import tokenizer_folders

from sycophancy.errors import UserError
from sycophancy.model.tokenizer import load_tokenizer

EDGES = [
    "",
    " ",
    "  leads",
    "trails  ",
    " a\n\n b\t",
    "héllo e\u0301 世界 🙂\u200d\ufeff\x00",
    "1 + 1 = 3, 12345",
    *(f"{start}{start}No{end} yes" for start, end in (
        ("<s>", "</s>"), ("<bos>", "<eos>"), ("<|im_start|>", "<|im_end|>\n"),
        ("<|begin_of_text|>", "<|eot_id|>"), ("<think>", "</think>"), ("[PAD]", " <unk> "),
        ("<|vision_start|>", "<|endoftext|>"),
    )),
    tokenizer_folders.WORDS,
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    made = {name: make(root / name) for name, make in tokenizer_folders.FAMILIES.items()}
    for name, config in {
        "llama2_legacy": {"legacy": True},
        "llama2_unspaced": {"add_prefix_space": False},
        "llama2_as_it_is": {"tokenizer_class": "PreTrainedTokenizerFast"},
    }.items():
        made[name] = tokenizer_folders.llama2(root / name, **config)
    return made


NAMES = [*tokenizer_folders.FAMILIES, "llama2_legacy", "llama2_unspaced", "llama2_as_it_is"]


def reference(folder):
    transformers = pytest.importorskip("transformers", reason="needs transformers (extra hf)")
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def assert_equal(folder, texts):
    ours, theirs = load_tokenizer(str(folder)), reference(folder)
    ids = ours.encode_batch(texts)
    assert ids == theirs(texts, add_special_tokens=False)["input_ids"]
    assert [[*ours.start, *row] for row in ids] == theirs(texts)["input_ids"]
    assert [ours.decode(row) for row in ids] == [
        theirs.decode(row, skip_special_tokens=True) for row in ids
    ]
    assert [ours.decode(row, special=True) for row in ids] == [theirs.decode(row) for row in ids]
    assert ours.special_tokens == theirs.special_tokens_map
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert ours.size == len(theirs)
    assert all(ours.encode(text) == row for text, row in zip(texts, ids, strict=True))


@pytest.mark.extras
@pytest.mark.parametrize("name", NAMES)
def test_ids_and_texts_are_those_of_transformers(folders, name):
    assert_equal(folders[name], EDGES)


@pytest.mark.extras
@pytest.mark.parametrize(
    "name", ["smollm2_135m_instruct", pytest.param("gemma3_270m", marks=pytest.mark.slow)]
)
def test_a_real_tokenizer_has_the_ids_of_transformers_on_real_rows(name, real_data, real_models):
    folder = real_models(name)
    texts = list(EDGES)
    for path in sorted((real_data / "hub").glob("*/*/validation.parquet")):
        table = pq.read_table(path)
        for column in table.schema:
            if str(column.type) == "string":
                texts += [text for text in table[column.name].to_pylist()[:100] if text]
    with (real_data / "flan" / "train.jsonl").open() as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(200), strict=False)]
    texts += [row[name] for row in rows for name in ("inputs", "targets")]
    assert_equal(folder, texts)


def test_the_ends_of_a_text_come_from_all_files_that_name_one(folders):
    tokenizer = load_tokenizer(str(folders["llama3"]))
    ends = [tokenizer.piece(token) for token in tokenizer.end_ids]
    assert ends == ["<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"]
    assert load_tokenizer(str(folders["gemma"])).end_ids == (1, 6)
    assert load_tokenizer(str(folders["smollm2"])).end_ids == (2,)


def test_padding_has_an_id_of_the_vocabulary_even_if_no_token_is_for_it(folders):
    llama = load_tokenizer(str(folders["llama3"]))
    assert llama.piece(0) == "!" and llama.encode("!") == [0]  # so 0 is no sign of padding
    assert llama.pad_id == llama.eos_id != 0
    assert load_tokenizer(str(folders["gemma"])).pad_id == 0


def test_a_changed_file_is_read_again(tmp_path):
    folder = tokenizer_folders.smollm2(tmp_path / "model")
    assert load_tokenizer(str(folder)) is load_tokenizer(str(folder))
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    os.utime(file, ns=(1, 1))
    assert load_tokenizer(str(folder)).eos_id == 0


def test_bad_files_are_one_line(tmp_path):
    folder = tokenizer_folders.smollm2(tmp_path / "model")
    broken = {
        "tokenizer_config.json": [
            ("{", "tokenizer_config.json cannot be read as JSON"),
            ('{"added_tokens_decoder": {"x": {}}}', "added_tokens_decoder cannot be read"),
            ('{"added_tokens_decoder": {"9": {"contents": "a"}}}', "added_tokens_decoder cannot"),
        ],
        "tokenizer.json": [("{}", "tokenizer.json is not a tokenizer"), ("", "is not a tokenizer")],
    }
    for name, cases in broken.items():
        before = (folder / name).read_text()
        for number, (text, message) in enumerate(cases):
            (folder / name).write_text(text)
            os.utime(folder / name, ns=(number, number))
            with pytest.raises(UserError, match=message) as error:
                load_tokenizer(str(folder))
            assert "\n" not in str(error.value)
        (folder / name).write_text(before)
    for name in ("tokenizer_config.json", "config.json"):
        (folder / name).unlink()
    with pytest.raises(UserError, match="no file says which token ends a text; set eos_token"):
        load_tokenizer(str(folder))
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(UserError, match=r"no tokenizer\.json.*AutoTokenizer\.from_pretrained"):
        load_tokenizer(str(folder))
