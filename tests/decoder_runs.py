"""A tiny decoder-only model with a tokenizer and a chat template, and settings of a tiny run."""

import json
from pathlib import Path

import decoder_folders
import tokenizer_folders
from etils import epath
from hf_folders import draw

from sycophancy.model.checkpoints import decoder_folder, families

SETTINGS = {
    "NUM_EXAMPLES": 48,
    "NUM_INSTRUCTIONS": 24,
    "NUM_VALIDATION": 8,
    "NUM_SURVEY_ITEMS": 2,
    "FINETUNE_STEPS": 4,
    "SAVE_PERIOD": 2,
    "LOG_PERIOD": 1,
    "BATCH_SIZE": 8,
    "TASK_FEATURE_LENGTHS": "{'inputs': 512, 'targets': 32}",
    "DATA_ORIGIN": "miniature",
    "HELD_OUT_SETS": (),
    "SAMPLING": "balanced",
    "MAX_QUESTIONS": 2,
    "DROPOUT_RATE": 0.0,
}


def make_model(folder: Path) -> Path:
    """A random Qwen 3 of two layers whose tokenizer has the template of SmolLM2."""
    like = folder.with_name(f"{folder.name}.like")
    tokenizer_folders.smollm2(like)
    config = decoder_folders.CONFIGS["qwen 3"] | {
        "vocab_size": 400,
        "eos_token_id": 2,
        "max_position_embeddings": 2_048,
    }
    (like / "config.json").write_text(json.dumps(config))
    network = families.read(epath.Path(like))
    decoder_folder.save(folder, draw(network, 0), network, like)
    return folder


def words(command: str, model: Path, out: Path, **settings: object) -> list[object]:
    """The command line of a tiny run."""
    named = (f"{name}={value!r}" for name, value in (SETTINGS | settings).items())
    named = (text.replace('"{', "{").replace('}"', "}") for text in named)
    options = (word for setting in named for word in ("--set", setting))
    return [command, "--model", model, "--recipe", "quick", "--out", out, *options]
