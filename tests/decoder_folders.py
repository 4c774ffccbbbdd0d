"""Tiny decoder-only models: one of each family, with what is particular to it switched on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from etils import epath

from sycophancy.model.checkpoints import decoder_folder, families

SIZES = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
# The contents of config.json, in the older style of names where a family's own folders have it.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **SIZES, "rope_theta": 10000.0, "rms_norm_eps": 1e-5},
    "llama 3, tied, biases": {
        "model_type": "llama", **SIZES, "head_dim": 16, "rope_theta": 500.0,
        "rope_scaling": LLAMA3, "tie_word_embeddings": True, "attention_bias": True,
        "mlp_bias": True,
    },
    "mistral": {"model_type": "mistral", **SIZES, "sliding_window": 5},
    "qwen 2.5": {"model_type": "qwen2", **SIZES, "rope_theta": 1e6, "use_sliding_window": False},
    "qwen 2.5, sliding": {
        "model_type": "qwen2", **SIZES, "use_sliding_window": True, "sliding_window": 5,
        "max_window_layers": 1,
    },
    "qwen 3": {"model_type": "qwen3", **SIZES, "head_dim": 16, "rope_theta": 1e6},
    "gemma 2": {
        "model_type": "gemma2", **SIZES, "head_dim": 8, "query_pre_attn_scalar": 24,
        "sliding_window": 5, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
    },
    "gemma 3": {
        "model_type": "gemma3_text", **SIZES, "num_hidden_layers": 6, "num_key_value_heads": 1,
        "head_dim": 8, "query_pre_attn_scalar": 24, "sliding_window": 5,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
    },
}  # fmt: skip


def complete(folder: Path, kind: str = "llama", *, seed: int = 0, **changes: Any) -> Path:
    """Writes a folder that can be trained and asked: random weights, SmolLM2's kind of tokenizer.

    Args:
      folder, kind, seed: as for `make`.
      changes: values of config.json to change before the weights are drawn.
    """
    import tokenizer_folders
    from hf_folders import draw

    like = tokenizer_folders.smollm2(folder.with_name(f"{folder.name}.like"))
    pieces = json.loads((like / "tokenizer.json").read_text())
    size = len(pieces["model"]["vocab"]) + len(pieces["added_tokens"])
    longest = {"vocab_size": size, "max_position_embeddings": 4096, "eos_token_id": 2}
    (like / "config.json").write_text(json.dumps({**CONFIGS[kind], **longest, **changes}))
    network = families.read(epath.Path(like))
    decoder_folder.save(folder, draw(network, seed), network, like)
    return folder


def make(folder: Path, kind: str = "gemma 3", *, seed: int = 0, **changes: Any) -> Path:
    """Writes a folder of random weights, as the product does, and then changes its config.json.

    Args:
      folder: is made; beside it, the folder `<name>.like` is.
      kind: a name of `CONFIGS`.
      seed: of the weights.
      changes: values of config.json to change; None removes one.
    """
    from hf_folders import draw

    like = folder.with_name(f"{folder.name}.like")
    like.mkdir(parents=True)
    (like / "config.json").write_text(json.dumps(CONFIGS[kind]))
    network = families.read(epath.Path(like))
    decoder_folder.save(folder, draw(network, seed), network, like)
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder
