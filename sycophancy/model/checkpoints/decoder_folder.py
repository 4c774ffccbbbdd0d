"""Reads and writes Hugging Face folders of decoder-only models without torch.

A kernel in torch is the transpose of a kernel here. Like the other formats' modules, this one uses
the unstacked layout, with one subtree for each layer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Set

from etils import epath

from sycophancy.config.schema import DecoderConfig
from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.checkpoints import families, folders, layout, shards, weights
from sycophancy.model.checkpoints.checkpoint import Checkpoint, architecture_fields
from sycophancy.model.checkpoints.folders import CONFIG, GENERATION

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
# Buffers in old files that follow from config.json; transformers ignores them too.
_UNUSED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}
_MLP = {"wi_0": "gate_proj", "wi_1": "up_proj", "wo": "down_proj"}
# The norms of a layer; those of models with norms behind the branches, too, have other names.
_NORMS = {
    False: {
        "pre_self_attention": "input_layernorm",
        "pre_mlp": "post_attention_layernorm",
    },
    True: {
        "pre_self_attention": "input_layernorm",
        "post_self_attention": "post_attention_layernorm",
        "pre_mlp": "pre_feedforward_layernorm",
        "post_mlp": "post_feedforward_layernorm",
    },
}
# The small files beside the weights that a written folder gets unchanged.
_COPIED = (GENERATION, *locations.TOKENIZER_FILES)


def names(network: DecoderConfig) -> dict[str, str]:
    """For each parameter's path: its name in Hugging Face. Kernels are transposed there."""
    table = {
        "token_embedder/embedding": EMBEDDING,
        "decoder/decoder_norm/scale": "model.norm.weight",
    }
    if not network.logits_via_embedding:
        table["logits_dense/kernel"] = OUTPUT
    biased = {"query": network.qkv_bias, "key": network.qkv_bias, "value": network.qkv_bias}
    biased["out"] = network.out_bias
    for i in range(network.num_layers):
        ours, theirs = f"decoder/{layout.LAYERS}_{i}", f"model.layers.{i}"
        for name, hf_name in _NORMS[network.post_norms].items():
            table[f"{ours}/{name}_layer_norm/scale"] = f"{theirs}.{hf_name}.weight"
        for name, hf_name in _ATTENTION.items():
            table[f"{ours}/self_attention/{name}/kernel"] = f"{theirs}.self_attn.{hf_name}.weight"
            if biased[name]:
                table[f"{ours}/self_attention/{name}/bias"] = f"{theirs}.self_attn.{hf_name}.bias"
        for name in ("query", "key") if network.query_key_norm else ():
            hf_name = f"{theirs}.self_attn.{name[0]}_norm.weight"
            table[f"{ours}/self_attention/{name}_norm/scale"] = hf_name
        for name, hf_name in _MLP.items():
            table[f"{ours}/mlp/{name}/kernel"] = f"{theirs}.mlp.{hf_name}.weight"
            if network.mlp_bias:
                table[f"{ours}/mlp/{name}/bias"] = f"{theirs}.mlp.{hf_name}.bias"
    return table


def open_checkpoint(folder: epath.Path, source: str) -> Checkpoint:
    """Opens a folder with config.json and safetensors without reading its tensors.

    Args:
      folder: a local folder.
      source: the folder's name for messages.

    Raises:
      UserError: a file is missing or damaged, the model is not computed here (`families.read`), or
        the files hold tensors that the network does not have.
    """
    folders.refuse_other_models(folder)
    network = families.read(folder)
    tensors = weights.find(folder)
    table = names(network)
    _check_names(tensors.keys(), set(table.values()), folder, network)

    def check_stored() -> None:
        tied = network.logits_via_embedding and OUTPUT in tensors
        if tied and not tensors[EMBEDDING].equals(tensors[OUTPUT]):
            raise UserError(
                f"{folder}: {OUTPUT} differs from {EMBEDDING}, but {CONFIG} says or implies that "
                "they are the same; mend tie_word_embeddings or the weights"
            )

    return Checkpoint(
        source=source,
        format="hf",
        params={
            path: tensors[name].lazy().transposed() if _is_kernel(path) else tensors[name].lazy()
            for path, name in table.items()
        },
        network=network,
        vocabulary=str(folder),
        check_stored=check_stored,
    )


def _is_kernel(path: str) -> bool:
    return path.endswith("/kernel")


def _check_names(
    stored: Set[str], read: Set[str], folder: epath.Path, network: DecoderConfig
) -> None:
    """Checks that the files hold exactly the tensors that the network reads.

    Raises:
      UserError: tensors are missing, or there are others.
    """
    missing = sorted(read - stored)
    if missing:
        raise UserError(
            f"{folder} lacks {layout.some(missing)}, which a model of its {CONFIG} has; copy the "
            "folder again, or mend the file"
        )
    allowed = {OUTPUT} if network.logits_via_embedding else set()
    unread = sorted(n for n in stored - read - allowed if not _UNUSED.fullmatch(n))
    if unread:
        raise UserError(
            f"{folder} holds {layout.some(unread)}, which a model of its {CONFIG} "
            f"({network.num_layers} layers) does not have; mend the one that is wrong"
        )


def save(
    folder: epath.PathLike,
    params: layout.Tree,
    network: DecoderConfig,
    like: epath.PathLike,
    report: Callable[[int], None] | None = None,
    shard_bytes: int = shards.SHARD_BYTES,
) -> None:
    """Writes a folder that `transformers` reads: float32 weights, and the files of another folder.

    Args:
      folder: it is made if it does not exist.
      params: the network's stacked tree or the unstacked tree, of arrays or `LazyArray`s.
      network: the network.
      like: a folder of the same architecture, such as the one that the model was finetuned from.
        Its config.json is copied, but for the type of the weights; its generation_config.json,
        tokenizer and chat template are copied as they are.
      report: called with the number of bytes of each file's tensors after they were written.
      shard_bytes: the most bytes of tensors in a file.

    Raises:
      UserError: `like` is of another architecture.
    """
    folder, like = epath.Path(folder), epath.Path(like)
    config = weights.read_json(like, CONFIG)
    theirs = families.parse(config, like / CONFIG)
    for name in architecture_fields(network):
        if getattr(theirs, name) != getattr(network, name):
            raise UserError(
                f"{like / CONFIG} is of another model: {name} is {getattr(theirs, name)} there, "
                f"{getattr(network, name)} in the model to write"
            )
    folder.mkdir(parents=True, exist_ok=True)
    arrays = layout.flatten(layout.unstack(params))
    tensors = {
        name: layout.transposed(arrays[path]) if _is_kernel(path) else arrays[path]
        for path, name in names(network).items()
    }
    shards.write(folder, tensors, report, shard_bytes)
    # transformers 4 reads torch_dtype, later versions read dtype.
    typed = "torch_dtype" if "torch_dtype" in config else "dtype"
    config |= {typed: "float32"}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    for name in _COPIED:
        if (file := locations.inside(like, name)).exists():
            (folder / name).write_bytes(file.read_bytes())
