"""Variants of Hugging Face T5 folders, against transformers, and folders that must be refused."""

import dataclasses
import functools
import json
import os
import shutil
import struct

import hf_folders
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hf_folders import NETWORK

from sycophancy.config.load import load_config
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import huggingface, layout
from sycophancy.model.checkpoints.formats import load_params, open_checkpoint
from sycophancy.model.layers import ACTIVATIONS
from sycophancy.model.network import Transformer

UNGATED = dataclasses.replace(NETWORK, mlp_activations=("relu",))
NORM = "decoder.block.0.layer.0.layer_norm.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def rename(old, new):
    def change(tensors):
        tensors[new] = tensors.pop(old)

    return change


def both(tensors):
    rename("shared.weight", "encoder.embed_tokens.weight")(tensors)
    tensors["decoder.embed_tokens.weight"] = tensors["encoder.embed_tokens.weight"]


def tied(tensors):
    del tensors["lm_head.weight"]


def output_alone(tensors):
    tensors["lm_head.weight"] = tensors.pop("shared.weight")


def copied(tensors):
    tensors["lm_head.weight"] = tensors["shared.weight"].copy()


# name -> network that the folder is written for, changes of config.json, changes of the tensors
VARIANTS = {
    "embedding under the encoder": (
        NETWORK, {}, rename("shared.weight", "encoder.embed_tokens.weight"),
    ),
    "embedding under the decoder": (
        NETWORK, {}, rename("shared.weight", "decoder.embed_tokens.weight"),
    ),
    "embedding under both": (NETWORK, {}, both),
    "first Flan config": (
        NETWORK,
        {"feed_forward_proj": "gelu", "is_gated_act": True, "dense_act_fn": "gelu_new"},
        lambda tensors: None,
    ),
    "gated by is_gated_act alone": (
        NETWORK, {"feed_forward_proj": "gelu", "is_gated_act": True}, lambda tensors: None,
    ),
    "another dense_act_fn": (NETWORK, {"dense_act_fn": "relu"}, lambda tensors: None),
    "exact gelu, gated": (NETWORK, {"dense_act_fn": "gelu"}, lambda tensors: None),
    "exact gelu, ungated": (UNGATED, {"feed_forward_proj": "gelu"}, lambda tensors: None),
    "gelu_new, ungated": (UNGATED, {"feed_forward_proj": "gelu_new"}, lambda tensors: None),
    "ungated by is_gated_act": (UNGATED, {"feed_forward_proj": "gated-gelu", "is_gated_act": False},
        lambda tensors: None,
    ),
    "swish": (NETWORK, {"feed_forward_proj": "gated-swish"}, lambda tensors: None),
    "tanh": (NETWORK, {"feed_forward_proj": "gated-tanh"}, lambda tensors: None),
    "sigmoid": (NETWORK, {"feed_forward_proj": "gated-sigmoid"}, lambda tensors: None),
    "gelu_fast": (NETWORK, {"feed_forward_proj": "gated-gelu_fast"}, lambda tensors: None),
    "tied": (NETWORK, {"tie_word_embeddings": True}, tied),
    "tied, unscaled": (
        NETWORK, {"tie_word_embeddings": True, "scale_decoder_outputs": False}, tied,
    ),
    "tied, unscaled, the output layer alone": (
        NETWORK, {"tie_word_embeddings": True, "scale_decoder_outputs": False}, output_alone,
    ),
    "tied, the output layer alone": (NETWORK, {"tie_word_embeddings": True}, output_alone),
    "tied, with an equal output layer": (NETWORK, {"tie_word_embeddings": True}, copied),
    "untied, as transformers 5 writes it": (
        NETWORK,
        {"tie_word_embeddings": True, "scale_decoder_outputs": False},
        lambda tensors: None,
    ),
}  # fmt: skip


@functools.cache
def compiled(network):
    return jax.jit(Transformer(network).apply)


def logits(network, params, inputs, previous, targets):
    return np.asarray(compiled(network)({"params": params}, inputs, previous, targets))


def reference(folder, inputs, previous):
    """transformers' logits."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `hf`)")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(
            input_ids=torch.tensor(inputs), decoder_input_ids=torch.tensor(previous)
        ).logits.numpy()


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(1)
    inputs, targets = (rng.integers(2, NETWORK.vocab_size, (2, n)) for n in (7, 5))
    return inputs, np.pad(targets[:, :-1], ((0, 0), (1, 0))), targets


@pytest.mark.extras
@pytest.mark.parametrize("name", VARIANTS)
def test_variants_give_the_logits_of_transformers(tmp_path, texts, name):
    network, config, tensors = VARIANTS[name]
    folder = hf_folders.make(tmp_path / "hf", network, config=config, tensors=tensors)
    inputs, previous, targets = texts
    expected = reference(folder, inputs, previous)
    network = open_checkpoint(folder).shape()
    found = logits(
        network, load_params(folder, network), *map(jnp.array, (inputs, previous, targets))
    )
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.extras
@pytest.mark.parametrize(
    "activation",
    [
        name if name in ("gelu", "relu") else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(ACTIVATIONS)
    ],
)
@pytest.mark.parametrize("gated", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_transformers_computes_our_logits_from_what_we_write(tmp_path, texts, activation, gated):
    activations = (activation, "linear") if gated else (activation,)
    network = dataclasses.replace(NETWORK, mlp_activations=activations)
    params = hf_folders.draw(network)
    huggingface.save(tmp_path, params, network, None)
    inputs, previous, targets = texts
    found = logits(network, params, *map(jnp.array, (inputs, previous, targets)))
    np.testing.assert_allclose(found, reference(tmp_path, inputs, previous), atol=1e-4, rtol=1e-4)
    assert open_checkpoint(tmp_path).shape() == network


def test_every_activation_can_be_set():
    for name in ACTIVATIONS:
        config = load_config("mini_base", "paper", [f"MLP_ACTIVATIONS=('{name}', 'linear')"])
        assert config.model.network.mlp_activations == (name, "linear")


@pytest.mark.extras
def test_we_compute_the_logits_of_a_new_transformers_model(tmp_path, texts):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `hf`)")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=40, d_model=8, d_kv=4, d_ff=16, num_heads=2, num_layers=2,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0,
    )  # fmt: skip
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    inputs, previous, targets = texts
    network = open_checkpoint(tmp_path).shape()
    found = logits(
        network, load_params(tmp_path, network), *map(jnp.array, (inputs, previous, targets))
    )
    expected = reference(tmp_path, inputs, previous)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def refused(folder) -> str:
    """The one line with which a folder is refused, before or while it is checked."""
    with pytest.raises(UserError) as error:
        checkpoint = open_checkpoint(folder)
        checkpoint.check(checkpoint.shape())
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"feed_forward_proj": "gated-quux"}, "the activation 'quux' is not supported"),
        ({"feed_forward_proj": "quux"}, "the activation 'quux' is not supported"),
        ({"feed_forward_proj": "gated-gelu-new"}, "expected gated-NAME or NAME"),
        ({"feed_forward_proj": "glu-gelu"}, "expected gated-NAME or NAME"),
        ({"feed_forward_proj": ["relu"]}, "expected a text"),
        ({"dense_act_fn": 7}, "the activation 7 is not supported"),
        ({"is_gated_act": "yes"}, "is_gated_act is 'yes', expected true or false"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1, expected true or false"),
        ({"tie_word_embeddings": False, "scale_decoder_outputs": True}, "scale_decoder_outputs"),
        ({"num_heads": True}, "num_heads is 'True', expected a whole number"),
        ({"num_heads": "2"}, "num_heads is '2', expected a whole number"),
        ({"d_model": 8.0}, "d_model is '8.0', expected a whole number"),
        ({"d_ff": 0}, "d_ff is '0', expected a whole number from 1"),
        ({"d_kv": -4}, "d_kv is '-4'"),
        ({"vocab_size": 10**12}, "vocab_size is '1000000000000'"),
        ({"num_layers": 10**9, "num_decoder_layers": None}, "num_layers is '1000000000'"),
        ({"num_decoder_layers": 0}, "num_decoder_layers is '0'"),
        ({"num_layers": 1}, "encoder.block.1.layer.0.SelfAttention.k.weight"),
        ({"num_layers": 3}, "lacks encoder.block.2.layer.0.SelfAttention.k.weight"),
        ({"hidden_size": 16}, "hidden_size is 16, d_model 8"),
        ({"pad_token_id": 3}, "pad_token_id is 3, only 0"),
        ({"decoder_start_token_id": 5}, "decoder_start_token_id is 5, only 0"),
        ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon is 1e-05"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantization_config is set"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder is False"),
        ({"model_type": "gpt2"}, "model_type is 'gpt2', only 't5'"),
        ({"model_type": "llama"}, "is_encoder_decoder is set"),
        ({"model_type": ["t5"]}, "only 't5'"),
        ({"tie_word_embeddings": True}, "lm_head.weight differs from shared.weight"),
        ({"d_model": 16}, "does not fit the model"),
    ],
)  # fmt: skip
def test_a_contradictory_config_is_refused(tmp_path, config, message):
    hf_folders.make(tmp_path / "hf", config=config)
    assert message in refused(tmp_path / "hf")


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{", '{"d_model": 8, "d_model": 9}', '{"num_heads": Infinity}',
             '{"num_heads": NaN}', "[" * 100_000, "\x00", '{"d_model": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_a_malformed_config_is_refused(tmp_path, text):
    hf_folders.make(tmp_path / "hf")
    (tmp_path / "hf/config.json").write_text(text)
    assert "config.json" in refused(tmp_path / "hf")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (lambda t: t.update(extra=np.zeros(3, np.float32)), "holds extra, which a T5"),
        (lambda t: t.pop("encoder.final_layer_norm.weight"), "lacks encoder.final_layer_norm"),
        (lambda t: t.pop("lm_head.weight"), "lacks lm_head.weight"),
        (lambda t: t.pop("shared.weight"), "lacks shared.weight"),
        (
            lambda t: t.update({"encoder.embed_tokens.weight": t["shared.weight"] + 1}),
            "encoder.embed_tokens.weight differs from shared.weight",
        ),
        (
            lambda t: t.update({"lm_head.weight": t["lm_head.weight"].astype(np.int8)}),
            "lm_head.weight is stored as I8",
        ),
        (
            lambda t: t.update(
                {"lm_head.weight": t["lm_head.weight"].astype(ml_dtypes.float8_e4m3fn)}
            ),
            "lm_head.weight is stored as F8_E4M3",
        ),
        (lambda t: t.update({"lm_head.weight": t["lm_head.weight"].T.copy()}), "does not fit"),
    ],
)
def test_weights_that_the_network_would_not_read_are_refused(tmp_path, tensors, message):
    hf_folders.make(tmp_path / "hf", tensors=tensors)
    assert message in refused(tmp_path / "hf")


def test_tensors_that_no_t5_uses_are_ignored(tmp_path):
    def old(tensors):
        bias = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
        tensors[bias] = np.zeros((32, 2), np.float32)
        tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]

    hf_folders.make(tmp_path / "hf", tensors=old)
    found = layout.flatten(load_params(tmp_path / "hf", NETWORK))
    for path, array in layout.flatten(hf_folders.draw(NETWORK)).items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_git_lfs_pointer_is_named_in_the_error(tmp_path, name):
    hf_folders.make(tmp_path / "hf")
    (tmp_path / "hf" / name).write_text(POINTER)
    assert f"{name} is a Git LFS pointer" in refused(tmp_path / "hf")


def header(data: bytes, change) -> bytes:
    """A safetensors file with another header."""
    (length,) = struct.unpack("<Q", data[:8])
    text = change(data[8 : 8 + length].decode()).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def overlapping(text: str) -> str:
    found = json.loads(text)
    names = [name for name in found if name != "__metadata__"]
    first, second = (found[name] for name in names[:2])
    size = second["data_offsets"][1] - second["data_offsets"][0]
    second["data_offsets"] = [first["data_offsets"][0], first["data_offsets"][0] + size]
    return json.dumps(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[:-1], "its header says"),
        (lambda d: d + b"\0", "its header says"),
        (lambda d: d[:100], "it is cut short, or no safetensors file"),
        (lambda d: b"", "it is cut short, or no safetensors file"),
        (lambda d: b"\x80\x02}q\x00.", "it is cut short, or no safetensors file"),
        (lambda d: struct.pack("<Q", 2**63) + d[8:], "it is cut short, or no safetensors file"),
        (lambda d: d[:8] + b"\xff" + d[9:], "cannot be read"),
        (lambda d: header(d, overlapping), "does not begin where the tensor before it ends"),
        (
            lambda d: header(d, lambda t: '{"shared.weight": {}, ' + t[1:]),
            "'shared.weight' stands in it twice",
        ),
        (lambda d: header(d, lambda t: t.replace("[40,8]", "[40,9]")), "does not say how"),
        (lambda d: header(d, lambda t: t.replace("[40,8]", "[-40,-8]")), "does not say how"),
        (lambda d: header(d, lambda t: t.replace("[40,8]", '"40,8"')), "does not say how"),
        (lambda d: header(d, lambda t: '{"a":' * 50_000 + "1" + "}" * 50_000), "cannot be read"),
    ],
)
def test_a_damaged_safetensors_file_is_refused(tmp_path, change, message):
    hf_folders.make(tmp_path / "hf")
    file = tmp_path / "hf/model.safetensors"
    file.write_bytes(change(file.read_bytes()))
    found = refused(tmp_path / "hf")
    assert message in found
    assert str(file) in found


@pytest.fixture
def sharded(tmp_path):
    """A folder with an index and several files."""
    folder = tmp_path / "sharded"
    huggingface.save(folder, hf_folders.draw(NETWORK), NETWORK, None, shard_bytes=5_000)
    return folder


def whole(folder, seed):
    """Puts all weights into one file beside the index."""
    hf_folders.make(folder / "one", seed=seed)
    (folder / "one/model.safetensors").rename(folder / "model.safetensors")
    shutil.rmtree(folder / "one")


def test_one_file_and_an_index_that_agree_are_read(sharded):
    whole(sharded, seed=0)
    found = layout.flatten(load_params(sharded, NETWORK))
    for path, array in layout.flatten(hf_folders.draw(NETWORK)).items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


def test_one_file_and_an_index_that_disagree_are_refused(sharded):
    whole(sharded, seed=1)
    message = refused(sharded)
    assert "model.safetensors and model.safetensors.index.json, and the two disagree" in message
    next(sharded.glob("model-00002-*")).unlink()
    assert "the two disagree" in refused(sharded)
    (sharded / "model.safetensors.index.json").unlink()
    load_params(sharded, NETWORK)


def index(folder, change) -> None:
    file = folder / "model.safetensors.index.json"
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i["weight_map"].pop(NORM), f"holds {NORM}, which"),
        (lambda i: i["weight_map"].update(extra=i["weight_map"][NORM]), "lacks extra, which"),
        (lambda i: i["weight_map"].update({"shared.weight": 5}), "5 of shared.weight is not"),
        (lambda i: i["weight_map"].update({"shared.weight": "../a.safetensors"}), "is not the"),
        (lambda i: i["weight_map"].update({"shared.weight": "/a/b.safetensors"}), "is not the"),
        (lambda i: i["weight_map"].update({"shared.weight": "gone.safetensors"}), "gone"),
        (lambda i: i["weight_map"].update({"shared.weight": "a\0.safetensors"}), "is not the"),
        (lambda i: i["weight_map"].update({"shared.weight": "x" * 5000 + ".safetensors"}), ""),
        (lambda i: i.update(weight_map=[]), "weight_map"),
        (lambda i: i.update(weight_map={}), "weight_map"),
        (lambda i: i.pop("weight_map"), "weight_map"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(sharded, change, message):
    index(sharded, change)
    assert message in refused(sharded)


def test_an_index_reads_nothing_outside_its_folder(tmp_path, sharded):
    shutil.copytree(sharded, tmp_path / "other")
    first = next(sharded.glob("model-00001-*"))
    first.unlink()
    first.symlink_to(tmp_path / "other" / first.name)
    assert "is a link to" in refused(sharded)
    first.unlink()
    first.symlink_to(first)
    assert "leads nowhere" in refused(sharded)
    first.unlink()
    os.mkfifo(first)
    assert "is not a file" in refused(sharded)


def test_the_hubs_cache_of_links_is_read(tmp_path, sharded):
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sharded.iterdir()):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    load_params(snapshot, NETWORK)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "a PEFT adapter, not a whole model"),
        (["adapter_config.json", "config.json", "model.safetensors"], "a PEFT adapter"),
        (["checkpoint-5/x", "checkpoint-40/x", "trainer_state.json"], "checkpoint-40"),
        (["checkpoint-5/x", "config.json"], "output folder of a transformers Trainer"),
        (["pytorch_model.bin", "config.json"], "stored as pickle"),
        (["consolidated.00.pth", "params.json"], "stored as pickle"),
        (["model-00001-of-00002.safetensors", "config.json"], "neither model.safetensors nor"),
        (["model.safetensors"], "weights but no config.json"),
        (["README.md"], "expected a T5 of Hugging Face"),
        ([], "expected a T5 of Hugging Face"),
    ],
)
def test_the_error_says_what_kind_of_folder_it_is(tmp_path, files, message):
    for name in files:
        (tmp_path / "it" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "it" / name).write_text("{}")
    (tmp_path / "it").mkdir(exist_ok=True)
    assert message in refused(tmp_path / "it")


def test_float16_and_bfloat16_weights_are_read(tmp_path):
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        folder = tmp_path / np.dtype(dtype).name
        hf_folders.make(
            folder, tensors=lambda t, to=dtype: t.update({n: a.astype(to) for n, a in t.items()})
        )
        stored = safetensors.numpy.load_file(folder / "model.safetensors")["shared.weight"]
        found = load_params(folder, NETWORK)["token_embedder"]["embedding"]
        np.testing.assert_array_equal(found, stored.astype(np.float32))
