"""The command `export`, and the files that it writes for Inspect."""

import ast
import json

import pytest

from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item
from sycophancy.export import inspect_files, item_files

ITEM = Item("a/1", "a", "neutral", "a/1", "Is 1 + 1 = 2?\n\u2028", ("yes", "no"), answer=0)


def test_items_are_read_as_they_were_written(tmp_path):
    name = item_files.write(tmp_path, [ITEM])
    assert item_files.read(tmp_path / name) == [ITEM]


def test_two_sets_of_one_exported_name_are_refused():
    other = Item("a b/1", "a.b", "neutral", "1", "?", ("yes", "no"), 0)
    third = Item("a_b/1", "a_b", "neutral", "1", "?", ("yes", "no"), 0)
    with pytest.raises(UserError, match="would both be exported as a_b"):
        item_files.by_task([other, third])


def test_the_file_for_inspect_has_a_function_for_each_set(tmp_path):
    names = inspect_files.write_tasks(tmp_path, {"a": [ITEM]})
    tree = ast.parse((tmp_path / inspect_files.FILE).read_text())
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions == names == ["a"]


def test_the_command_writes_every_set_of_a_run(sycophancy, tmp_path):
    run = ["--model", "mini_small", "--recipe", "quick", "--out", tmp_path / "run"]
    small = ["--set", "NUM_EXAMPLES=200", "--set", "NUM_INSTRUCTIONS=100"]
    for library, file in (("lm-eval", "sycophancy_addition.yaml"), ("inspect", "addition.jsonl")):
        outcome = sycophancy("export", tmp_path / library, "--to", library, *run, *small)
        assert outcome.code == 0, outcome.err
        assert (tmp_path / library / file).exists()
        assert outcome.out.splitlines()[-1] == str(tmp_path / library)
    prepared = json.loads((tmp_path / "run/prepare/summary.json").read_text())["evaluation"]
    rows = (tmp_path / "inspect" / "addition.jsonl").read_text().splitlines()
    assert len(rows) == prepared["addition"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["DIR", "--to", "inspekt"], "expected lm-eval or inspect; did you mean 'inspect'?"),
        (["FILE"], "is a file; name a folder"),
    ],
)
def test_bad_input_is_one_line(sycophancy, tmp_path, words, message):
    (tmp_path / "FILE").write_text("")
    words = [tmp_path / "FILE" if word == "FILE" else word for word in words]
    outcome = sycophancy("export", *words, "--model", "mini_small", "--out", tmp_path / "run")
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
