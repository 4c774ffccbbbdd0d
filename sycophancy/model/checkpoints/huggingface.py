"""Hugging Face T5 folders, read and written without torch: config.json and safetensors.

The name map is that of the `transformers` conversion script for T5X checkpoints; a torch kernel is
the transpose of ours, and torch keeps the relative position bias in a stack's first layer. Weights
are handled in T5X's unstacked layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from sycophancy.config import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import layout
from sycophancy.model.checkpoints.contents import Contents
from sycophancy.model.checkpoints.leaf import Leaf
from sycophancy.model.vocabulary import Vocabulary

CONFIG, GENERATION, VOCABULARY = "config.json", "generation_config.json", "spiece.model"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = "model-{:05d}-of-{:05d}.safetensors"
SHARD_BYTES = 2 * 10**9
SENTINELS = 100

_TOKENS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
# transformers' defaults for what a config.json leaves out.
_DEFAULTS = {
    "model_type": "t5",
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
    "scale_decoder_outputs": True,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
}
# What the network does not leave open.
_FIXED = {
    "model_type": "t5",
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
}
_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}


def names(network: NetworkConfig) -> dict[str, tuple[str, bool]]:
    """T5X's parameter path -> (Hugging Face's name, whether the array is transposed)."""
    found: dict[str, tuple[str, bool]] = {"token_embedder/embedding": ("shared.weight", False)}
    kernels = ["wi"] if len(network.mlp_activations) == 1 else ["wi_0", "wi_1"]
    stacks = {"encoder": network.num_encoder_layers, "decoder": network.num_decoder_layers}
    for stack, depth in stacks.items():
        blocks = [("attention", "SelfAttention", "pre_attention_layer_norm")]
        if stack == "decoder":
            blocks = [
                ("self_attention", "SelfAttention", "pre_self_attention_layer_norm"),
                ("encoder_decoder_attention", "EncDecAttention", "pre_cross_attention_layer_norm"),
            ]
        for i in range(depth):
            ours, theirs = f"{stack}/layers_{i}", f"{stack}.block.{i}.layer"
            for n, (block, name, norm) in enumerate(blocks):
                found[f"{ours}/{norm}/scale"] = (f"{theirs}.{n}.layer_norm.weight", False)
                for part, letter in _ATTENTION.items():
                    hf_name = f"{theirs}.{n}.{name}.{letter}.weight"
                    found[f"{ours}/{block}/{part}/kernel"] = (hf_name, True)
            n = len(blocks)
            found[f"{ours}/pre_mlp_layer_norm/scale"] = (f"{theirs}.{n}.layer_norm.weight", False)
            for part in (*kernels, "wo"):
                hf_name = f"{theirs}.{n}.DenseReluDense.{part}.weight"
                found[f"{ours}/mlp/{part}/kernel"] = (hf_name, True)
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        found[f"{stack}/relpos_bias/rel_embedding"] = (bias, True)
        found[f"{stack}/{stack}_norm/scale"] = (f"{stack}.final_layer_norm.weight", False)
    if not network.logits_via_embedding:
        found["decoder/logits_dense/kernel"] = ("lm_head.weight", True)
    return found


def open_checkpoint(folder: epath.Path, source: str) -> Contents:
    """Looks at a folder with config.json and safetensors, in one file or with an index of several.

    Args:
      folder: local, or in a bucket.
      source: what to call it in messages.

    Raises:
      UserError: a file is missing or damaged, or the model is no T5 that the network computes.
    """
    network = read_config(folder)
    files = _weight_files(folder)
    params: dict[str, Leaf] = {}
    for path, (name, transposed) in names(network).items():
        if name in files:
            leaf = _open(files[name], name)
            params[path] = leaf.transposed() if transposed else leaf
    vocabulary = folder / VOCABULARY
    return Contents(
        source=source,
        format="hf",
        params=params,
        network=network,
        vocabulary=str(vocabulary) if vocabulary.exists() else None,
    )


def read_config(folder: epath.Path) -> NetworkConfig:
    """The network that a folder's config.json describes.

    Raises:
      UserError: the file is damaged, or describes what the network does not compute.
    """
    file = folder / CONFIG
    try:
        found = {**_DEFAULTS, **json.loads(file.read_text())}
        projection = found["feed_forward_proj"]
        network = NetworkConfig(
            vocab_size=int(found["vocab_size"]),
            emb_dim=int(found["d_model"]),
            num_heads=int(found["num_heads"]),
            num_encoder_layers=int(found["num_layers"]),
            num_decoder_layers=int(found.get("num_decoder_layers") or found["num_layers"]),
            head_dim=int(found["d_kv"]),
            mlp_dim=int(found["d_ff"]),
            mlp_activations=(projection.removeprefix("gated-"), "linear")
            if projection.startswith("gated-")
            else (projection,),
            # transformers 5 saves an untied model as tied, with its logits unscaled.
            logits_via_embedding=bool(
                found["tie_word_embeddings"] and found["scale_decoder_outputs"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} does not describe a T5: {type(error).__name__}: {error}") from None
    for name, value in _FIXED.items():
        if found[name] != value:
            raise UserError(f"{file}: {name} is {found[name]!r}, only {value!r} is supported")
    return network


def _weight_files(folder: epath.Path) -> dict[str, epath.Path]:
    """Tensor name -> the file it lies in."""
    index = folder / INDEX
    if index.exists():
        try:
            return {k: folder / v for k, v in json.loads(index.read_text())["weight_map"].items()}
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{index} cannot be read: {error}") from None
    file = folder / WEIGHTS
    if not file.exists():
        raise UserError(
            f"{folder} has neither {WEIGHTS} nor {INDEX}; weights that are stored as pickle "
            "(pytorch_model.bin) are not read, save them with safetensors"
        )
    with _safetensors(file) as opened:
        return dict.fromkeys(opened.keys(), file)


def _open(file: epath.Path, name: str) -> Leaf:
    def read() -> Any:
        with _safetensors(file) as opened:
            return opened.get_tensor(name)

    with _safetensors(file) as opened:
        if name not in opened.keys():  # noqa: SIM118
            raise UserError(f"{file} lacks {name}, which {INDEX} says is in it")
        shape = opened.get_slice(name).get_shape()
    return Leaf(shape, read)


def _safetensors(file: epath.Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(_on_disk(file), "numpy")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None


def _on_disk(file: epath.Path) -> str:
    """safetensors maps files into memory, which a bucket cannot do."""
    if "://" in str(file):
        raise UserError(
            f"{file}: safetensors are read from local folders or from hf:owner/name; copy the "
            "folder first"
        )
    return str(file)


def save(
    folder: epath.PathLike,
    params: Mapping[str, Any],
    network: NetworkConfig,
    vocabulary: str | None,
    report: Any = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a folder that `transformers` reads as T5: model and, with a vocabulary, tokenizer.

    A vocabulary with pieces that span words (the miniatures' has such) is copied, but not declared
    as a tokenizer: transformers' own would split at spaces and give other pieces.

    Args:
      folder: made if need be.
      params: the network's stacked tree, or T5X's unstacked one; arrays or Leafs.
      network: its shape.
      vocabulary: the SentencePiece file to copy; None leaves the tokenizer out.
      report: called with the bytes of every array that has been written.
      shard_bytes: weights of more bytes are written as several files with an index; memory holds
        one of them at a time.
    """
    import safetensors.numpy

    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    leaves = layout.flatten(layout.unstack(params))
    table = names(network)
    shards = _shards({table[path][0]: path for path in leaves}, leaves, shard_bytes)
    placed: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = WEIGHTS if len(shards) == 1 else SHARD.format(number, len(shards))
        tensors = {}
        for name, path in shard.items():
            array = np.asarray(leaves[path], np.float32)
            tensors[name] = np.ascontiguousarray(array.T if table[path][1] else array)
        if "://" in str(folder):
            (folder / file).write_bytes(safetensors.numpy.save(tensors, {"format": "pt"}))
        else:
            safetensors.numpy.save_file(tensors, str(folder / file), {"format": "pt"})
        placed |= dict.fromkeys(shard, file)
        if report:
            report(sum(array.nbytes for array in tensors.values()))
    if len(shards) > 1:
        total = sum(4 * int(np.prod(leaf.shape)) for leaf in leaves.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    for file, content in _descriptions(network, vocabulary).items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n")
    if vocabulary is not None:
        (folder / VOCABULARY).write_bytes(epath.Path(vocabulary).read_bytes())


def _shards(paths: Mapping[str, str], leaves: Mapping[str, Any], most: int) -> list[dict[str, str]]:
    """Tensors in order, dealt into as few files of at most `most` bytes as that order allows."""
    shards: list[dict[str, str]] = [{}]
    size = 0
    for name, path in sorted(paths.items()):
        nbytes = 4 * int(np.prod(leaves[path].shape))
        if shards[-1] and size + nbytes > most:
            shards.append({})
            size = 0
        shards[-1][name] = path
        size += nbytes
    return shards


def _descriptions(network: NetworkConfig, vocabulary: str | None) -> dict[str, dict[str, Any]]:
    """The small json files, by name."""
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    found = {CONFIG: _config(network), GENERATION: {"_from_model_config": True, **_TOKENS}}
    if vocabulary is not None and not Vocabulary(vocabulary).spans_words():
        found["special_tokens_map.json"] = special
        found["tokenizer_config.json"] = {
            "tokenizer_class": "T5Tokenizer",
            "extra_ids": _extra_ids(network, vocabulary),
            **special,
        }
    return found


def _extra_ids(network: NetworkConfig, vocabulary: str) -> int:
    """Sentinels that the tokenizer adds behind the pieces: T5's 100 where there is room and need.

    T5X's vocabulary file holds them among its pieces; Hugging Face's leaves them to the tokenizer.
    """
    pieces = Vocabulary(vocabulary)
    inside = pieces.piece_id("<extra_id_0>") is not None
    return 0 if inside or pieces.size + SENTINELS > network.vocab_size else SENTINELS


def _config(network: NetworkConfig) -> dict[str, Any]:
    gated = len(network.mlp_activations) == 2
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "d_model": network.emb_dim,
        "d_kv": network.head_dim,
        "d_ff": network.mlp_dim,
        "num_heads": network.num_heads,
        "num_layers": network.num_encoder_layers,
        "num_decoder_layers": network.num_decoder_layers,
        "vocab_size": network.vocab_size,
        "feed_forward_proj": f"gated-{network.mlp_activations[0]}"
        if gated
        else network.mlp_activations[0],
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": network.dropout_rate,
        "tie_word_embeddings": network.logits_via_embedding,
        **_TOKENS,
    }
