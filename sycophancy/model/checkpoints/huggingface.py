"""Reads and writes Hugging Face T5 folders (config.json and safetensors) without torch.

The names are those of the `transformers` conversion script for T5X checkpoints. A kernel in torch
is the transpose of a kernel here, and torch keeps the relative position bias in the first layer of
a stack. This module uses T5X's unstacked layout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.checkpoints import architecture, folders, layout, shards, weights
from sycophancy.model.checkpoints.checkpoint import Checkpoint
from sycophancy.model.checkpoints.folders import CONFIG, GENERATION, VOCABULARY
from sycophancy.model.vocabulary import Vocabulary

EMBEDDING_PATH, OUTPUT_PATH = "token_embedder/embedding", "decoder/logits_dense/kernel"
OUTPUT = "lm_head.weight"
SENTINELS = 100

# transformers' names of the embedding; a file may hold several copies of it.
_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# Weights in old files that no T5 uses; transformers ignores them too.
_UNUSED = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"}
# Files of tokenizers in forms that are not read.
_OTHER_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}


def names(network: NetworkConfig) -> dict[str, tuple[str, bool]]:
    """For each parameter's path in T5X: its name in Hugging Face, and whether it is transposed."""
    table: dict[str, tuple[str, bool]] = {EMBEDDING_PATH: (_EMBEDDINGS[0], False)}
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
                table[f"{ours}/{norm}/scale"] = (f"{theirs}.{n}.layer_norm.weight", False)
                for part, letter in _ATTENTION.items():
                    hf_name = f"{theirs}.{n}.{name}.{letter}.weight"
                    table[f"{ours}/{block}/{part}/kernel"] = (hf_name, True)
            n = len(blocks)
            table[f"{ours}/pre_mlp_layer_norm/scale"] = (f"{theirs}.{n}.layer_norm.weight", False)
            for part in (*kernels, "wo"):
                hf_name = f"{theirs}.{n}.DenseReluDense.{part}.weight"
                table[f"{ours}/mlp/{part}/kernel"] = (hf_name, True)
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        table[f"{stack}/relpos_bias/rel_embedding"] = (bias, True)
        table[f"{stack}/{stack}_norm/scale"] = (f"{stack}.final_layer_norm.weight", False)
    if not network.logits_via_embedding:
        table[OUTPUT_PATH] = (OUTPUT, True)
    return table


def open_checkpoint(folder: epath.Path, source: str) -> Checkpoint:
    """Opens a folder with config.json and safetensors without reading its tensors.

    Args:
      folder: the folder, local or in a bucket.
      source: the folder's name for messages.

    Raises:
      UserError: a file is missing or damaged, the network cannot compute the model, or the files
        hold tensors that the network does not have.
    """
    folders.refuse_other_models(folder)
    network, tied = architecture.read(folder)
    tensors = weights.find(folder)
    copied = tied and not network.logits_via_embedding and OUTPUT not in tensors
    table = names(network)
    embeddings = [name for name in _EMBEDDINGS if name in tensors]
    if tied and OUTPUT in tensors and (network.logits_via_embedding or not embeddings):
        embeddings.append(OUTPUT)
    if embeddings:
        table[EMBEDDING_PATH] = (embeddings[0], False)
        if copied:
            table[OUTPUT_PATH] = (embeddings[0], True)
    _check_names(tensors, {name for name, _ in table.values()} | set(embeddings), folder, network)
    params = {
        path: tensors[name].lazy().transposed() if transposed else tensors[name].lazy()
        for path, (name, transposed) in table.items()
    }

    def check_stored() -> None:
        for name in embeddings[1:]:
            if not tensors[embeddings[0]].equals(tensors[name]):
                raise UserError(
                    f"{folder}: {name} differs from {embeddings[0]}, but {CONFIG} says or implies "
                    "that they are the same; mend tie_word_embeddings or the weights"
                )

    has_vocabulary = locations.inside(folder, VOCABULARY).exists()
    others = [name for name in _OTHER_TOKENIZERS if (folder / name).exists()]
    return Checkpoint(
        source=source,
        format="hf",
        params=params,
        network=network,
        vocabulary=str(folder / VOCABULARY) if has_vocabulary else None,
        other_tokenizer=None if has_vocabulary or not others else str(folder / others[0]),
        tied_output=copied,
        check_stored=check_stored,
    )


def _check_names(
    tensors: Mapping[str, weights.Tensor],
    read: set[str],
    folder: epath.Path,
    network: NetworkConfig,
) -> None:
    """Checks that the files hold exactly the tensors that the network reads.

    Raises:
      UserError: tensors are missing, or there are others.
    """
    missing = sorted(read - tensors.keys())
    if missing:
        raise UserError(
            f"{folder} lacks {layout.some(missing)}, which a T5 of its {CONFIG} has; copy the "
            "folder again, or mend the file"
        )
    unread = sorted(tensors.keys() - read - _UNUSED)
    if unread:
        layers = f"{network.num_encoder_layers} and {network.num_decoder_layers} layers"
        raise UserError(
            f"{tensors[unread[0]].file} holds {layout.some(unread)}, which a T5 of its {CONFIG} "
            f"({layers}, {'tied' if network.logits_via_embedding else 'untied'}) does not have; "
            "mend the one that is wrong"
        )


def save(
    folder: epath.PathLike,
    params: layout.Tree,
    network: NetworkConfig,
    vocabulary: str | None,
    report: Callable[[int], None] | None = None,
    shard_bytes: int = shards.SHARD_BYTES,
) -> None:
    """Writes a folder that `transformers` reads as T5: the model and, if given, the tokenizer.

    A vocabulary with pieces that span words, such as the miniatures', is copied but not declared as
    a tokenizer, because transformers would split texts at spaces and produce other pieces.

    Args:
      folder: it is made if it does not exist.
      params: the network's stacked tree or T5X's unstacked tree, of arrays or `LazyArray`s.
      network: the network.
      vocabulary: the SentencePiece file to copy; None writes no tokenizer.
      report: called with the number of bytes of each file's tensors after they were written.
      shard_bytes: the most bytes of tensors in a file. Larger models are written as several files
        with an index; memory holds the tensors of one file at a time.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = layout.flatten(layout.unstack(params))
    tensors = {
        name: layout.transposed(arrays[path]) if transposed else arrays[path]
        for path, (name, transposed) in names(network).items()
    }
    shards.write(folder, tensors, report, shard_bytes)
    for file, content in _descriptions(network, vocabulary).items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n")
    if vocabulary is not None:
        (folder / VOCABULARY).write_bytes(epath.Path(vocabulary).read_bytes())


def _descriptions(network: NetworkConfig, vocabulary: str | None) -> dict[str, dict[str, Any]]:
    """The contents of the folder's small JSON files, by name."""
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    found = {
        CONFIG: architecture.describe(network),
        GENERATION: {"_from_model_config": True, **architecture.TOKENS},
    }
    if vocabulary is not None and not Vocabulary(vocabulary).spans_words():
        found["special_tokens_map.json"] = special
        found["tokenizer_config.json"] = {
            "tokenizer_class": "T5Tokenizer",
            "extra_ids": _extra_ids(network, vocabulary),
            **special,
        }
    return found


def _extra_ids(network: NetworkConfig, vocabulary: str) -> int:
    """The number of sentinels that the tokenizer adds after the vocabulary's pieces.

    It is T5's 100, unless the vocabulary has them already, as T5X's does, or the network's
    embedding has no room for them. Hugging Face's vocabulary files leave them to the tokenizer.
    """
    pieces = Vocabulary(vocabulary)
    inside = pieces.piece_id("<extra_id_0>") is not None
    return 0 if inside or pieces.size + SENTINELS > network.vocab_size else SENTINELS
