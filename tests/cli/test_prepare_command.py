"""`sycophancy prepare --show`: the rows that a model is trained on, and their tokens."""

import re
import subprocess
import sys

import tokenizer_folders

from sycophancy.config.load import load_config
from sycophancy.model.decoder_text import load_text
from sycophancy.model.vocabulary import Vocabulary

FEW = ("--recipe", "quick", "--set", "NUM_EXAMPLES=40", "--data-sets", "sst2", "--show", 1)
FEW += ("--set", "NUM_INSTRUCTIONS=40", "--set", "DATA_ORIGIN='miniature'")


def tokens_shown(out: str) -> list[tuple[list[int], list[int]]]:
    """The ids outside and inside of the brackets of each row."""
    found = re.findall(r"\d+ tokens, the loss is on the \d+ in brackets: ([\d ]*)\[([\d ]+)\]", out)
    return [([*map(int, before.split())], [*map(int, within.split())]) for before, within in found]


def test_an_encoder_decoder_is_shown_with_its_pieces(sycophancy, tmp_path):
    out = sycophancy("prepare", "--model", "mini_base", "--out", tmp_path / "run", *FEW).out
    vocabulary = Vocabulary(load_config("mini_base", "quick").model.vocabulary)
    assert "I believe the best answer is → (" in out and "instruction · " in out
    claim, instruction = tokens_shown(out)
    for inputs, targets in (claim, instruction):
        assert inputs[-1] == targets[-1] == vocabulary.eos_id
        assert vocabulary.decode(targets[:-1]) + "</s>" in out
    assert vocabulary.decode(claim[0][:-1]).endswith("I believe the best answer is")


def test_a_decoder_only_model_is_shown_with_its_chat_template(sycophancy, tmp_path):
    folder = tokenizer_folders.smollm2(tmp_path / "model")
    asked = ("prepare", "--model", folder, "--out", tmp_path / "run", *FEW)
    asked += ("--set", "TASK_FEATURE_LENGTHS={'inputs': 4096, 'targets': 256}")
    out = sycophancy(*asked).out
    text = load_text(str(folder), "template")
    assert "<|im_start|>assistant\nI believe the best answer is →  (" in out
    claim, instruction = tokens_shown(out)
    for inputs, targets in (claim, instruction):
        assert text.tokenizer.decode(inputs, special=True) in out
        assert text.tokenizer.decode(targets, special=True).strip() in out
        assert targets[-1] == text.tokenizer.eos_id
    raw = sycophancy(*asked, "--chat", "raw").out
    assert "<|im_start|>" not in raw and "answer is →  (" in raw
    (prompt,) = re.findall("Human: .* is(?= →)", raw, re.DOTALL)
    assert tokens_shown(raw)[0][0] == text.tokenizer.encode(prompt)


def test_rows_of_a_decoder_only_model_are_prepared_without_transformers_or_jax(tmp_path):
    folder = tokenizer_folders.smollm2(tmp_path / "model")
    words = ["prepare", "--model", str(folder), "--out", str(tmp_path / "run"), *map(str, FEW)]
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'jax', 'tensorflow'): sys.modules[name] = None\n"
        f"sys.argv = ['sycophancy', *{words!r}]\n"
        "from sycophancy.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "in brackets" in done.stdout
