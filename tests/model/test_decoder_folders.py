"""Folders of decoder-only models: what is refused, and what a conversion keeps."""

import json

import decoder_folders
import numpy as np
import pytest
import safetensors.numpy

from sycophancy.config.schema import DecoderConfig
from sycophancy.errors import UserError
from sycophancy.model import decoders
from sycophancy.model.checkpoints import families, layout
from sycophancy.model.checkpoints.convert import convert
from sycophancy.model.checkpoints.formats import open_checkpoint

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
NO_HIGH = {name: value for name, value in decoder_folders.LLAMA3.items() if "high" not in name}

# kind, changes of config.json, what the message says
REFUSED = [
    ("llama", {"model_type": "gpt2"}, "model_type is 'gpt2', .*Llama.*Qwen.*Gemma"),
    ("llama", {"model_type": "gemma3"}, "model_type is 'gemma3'"),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config is set"),
    ("llama", {"rope_scaling": YARN}, "'yarn'; only 'default', 'linear' and 'llama3'"),
    ("llama", {"rope_scaling": NO_HIGH}, "high_freq_factor is missing"),
    ("llama", {"rope_scaling": decoder_folders.LLAMA3 | {"factor": "8"}}, "factor is 8, only"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, only 1"),
    ("llama", {"hidden_act": "relu6"}, "hidden_act is relu6, only one of .*silu"),
    ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "only LlamaForCausalLM"),
    ("llama", {"auto_map": {"AutoModelForCausalLM": "mine.Model"}}, "never run"),
    ("llama", {"num_key_value_heads": 3}, "only a divisor of num_attention_heads"),
    ("llama", {"head_dim": 7}, "head_dim is 7, only an even number"),
    ("llama", {"num_hidden_layers": 0}, "num_hidden_layers is '0'"),
    ("llama", {"hidden_size": None}, "hidden_size is missing"),
    ("llama", {"rms_norm_eps": -1}, "rms_norm_eps is -1, only a number above 0"),
    ("llama", {"tie_word_embeddings": "no"}, "tie_word_embeddings is no, only true or false"),
    ("llama", {"num_hidden_layers": 3}, "lacks model.layers.2.input_layernorm.weight"),
    ("llama", {"num_hidden_layers": 1}, "holds model.layers.1.input_layernorm.weight"),
    ("llama", {"attention_bias": True}, "lacks model.layers.0.self_attn.k_proj.bias"),
    ("llama 3, tied, biases", {"mlp_bias": False}, "holds model.layers.0.mlp.down_proj.bias"),
    ("llama 3, tied, biases", {"tie_word_embeddings": False}, "lacks lm_head.weight"),
    ("qwen 3", {"num_key_value_heads": ...}, "num_key_value_heads is missing"),
    ("gemma 3", {"use_bidirectional_attention": True}, "use_bidirectional_attention is set"),
    ("gemma 3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0, only null"),
    ("gemma 3", {"layer_types": ["full_attention"]}, "num_hidden_layers .6. entries"),
    ("gemma 3", {"layer_types": ["chunked_attention"] * 6}, "only a list of sliding_attention"),
    ("gemma 3", {"sliding_window": 0}, "sliding_window is 0, only a whole number"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "changes", "message"), REFUSED)
def test_what_the_network_does_not_compute_is_refused_in_one_line(kind, changes, message, tmp_path):
    changes = {name: None if value is ... else value for name, value in changes.items()}
    folder = decoder_folders.make(tmp_path / "model", kind, **changes)
    with pytest.raises(UserError, match=message) as caught:
        checkpoint = open_checkpoint(folder)
        checkpoint.check(checkpoint.shape())
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_an_output_layer_that_differs_from_the_embedding_it_should_be_is_refused(tmp_path):
    folder = decoder_folders.make(tmp_path / "model", "llama 3, tied, biases")
    file = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    safetensors.numpy.save_file(tensors, file)
    checkpoint = open_checkpoint(folder)
    checkpoint.check(checkpoint.shape())
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(UserError, match=r"lm_head.weight differs from model.embed_tokens.weight"):
        open_checkpoint(folder).check(checkpoint.shape())


def test_only_folders_of_the_families_are_computed_here(tmp_path):
    folder = decoder_folders.make(tmp_path / "model", "qwen 3")
    found = decoders.network(str(folder))
    assert isinstance(found, DecoderConfig)
    assert (found.num_heads, found.num_kv_heads, found.head_dim) == (4, 2, 16)
    for kind in ("gpt2", "t5"):
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
        assert not decoders.is_computed_here(str(folder))
        with pytest.raises(UserError, match=f"model_type is '{kind}'"):
            decoders.network(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json"):
        decoders.is_computed_here(str(folder))
    # A damaged checkpoint of a finetuning is no model of transformers.
    (folder / "config.json").unlink()
    assert decoders.is_computed_here(str(folder))
    with pytest.raises(UserError):
        decoders.network(str(folder))


@pytest.mark.parametrize("kind", ["llama 3, tied, biases", "gemma 3"])
def test_a_model_is_the_same_after_a_conversion_to_orbax_and_back(kind, tmp_path):
    folder = decoder_folders.make(tmp_path / "model", kind)
    (folder / "tokenizer.json").write_text("{}")
    convert(str(folder), str(tmp_path / "orbax"), "orbax", step=7)
    stored = open_checkpoint(tmp_path / "orbax")
    assert stored.network == open_checkpoint(folder).network
    assert stored.step == 7
    with pytest.raises(UserError, match="give --vocabulary, the Hugging Face folder"):
        convert(str(tmp_path / "orbax"), str(tmp_path / "again"), "hf")
    convert(str(tmp_path / "orbax"), str(tmp_path / "again"), "hf", vocabulary=str(folder))
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        ours, again = (place / name for place in (folder, tmp_path / "again"))
        if name == "model.safetensors":
            before, after = map(safetensors.numpy.load_file, (ours, again))
            assert before.keys() == after.keys()
            for tensor, value in before.items():
                np.testing.assert_array_equal(after[tensor], value)
        else:
            assert json.loads(ours.read_text()) == json.loads(again.read_text())


def test_other_conversions_are_refused(tmp_path):
    folder = decoder_folders.make(tmp_path / "model", "llama")
    with pytest.raises(UserError, match="T5X does not compute; write hf or orbax"):
        convert(str(folder), str(tmp_path / "t5x"), "t5x")
    other = decoder_folders.make(tmp_path / "other", "llama", rms_norm_eps=1e-3)
    with pytest.raises(UserError, match="is of another model: norm_epsilon is"):
        convert(str(folder), str(tmp_path / "hf"), "hf", vocabulary=str(other))
    assert not (tmp_path / "hf").exists()


def test_a_folder_with_old_buffers_and_more_than_one_file_is_read(tmp_path):
    folder = decoder_folders.make(tmp_path / "model", "llama")
    whole = safetensors.numpy.load_file(folder / "model.safetensors")
    expected = layout.flatten(open_checkpoint(folder).tree())
    expected = {path: np.asarray(array) for path, array in expected.items()}
    whole["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    names = sorted(whole)
    placed = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        safetensors.numpy.save_file({name: whole[name] for name in part}, folder / file)
        placed |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    checkpoint = open_checkpoint(folder)
    checkpoint.check(checkpoint.shape())
    for path, array in layout.flatten(checkpoint.tree()).items():
        np.testing.assert_array_equal(np.asarray(array), expected[path])


def test_both_styles_of_names_of_rotary_positions_mean_the_same():
    old = decoder_folders.CONFIGS["llama 3, tied, biases"]
    new = {name: value for name, value in old.items() if not name.startswith("rope")}
    new["rope_parameters"] = {**old["rope_scaling"], "rope_theta": old["rope_theta"]}
    assert families.parse(new, "new") == families.parse(old, "old")
    gemma = decoder_folders.CONFIGS["gemma 3"]
    older = {name: value for name, value in gemma.items() if name != "rope_parameters"} | {
        "rope_theta": 1e6,
        "rope_local_base_freq": 100.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }
    assert families.parse(older, "older") == families.parse(gemma, "gemma")
