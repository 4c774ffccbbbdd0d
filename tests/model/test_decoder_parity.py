"""Decoder-only networks and their folders against transformers, in float32."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import decoder_folders
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from sycophancy.config.schema import DecoderConfig
from sycophancy.model import sharding
from sycophancy.model.checkpoints import decoder_folder
from sycophancy.model.checkpoints.formats import load_params, open_checkpoint
from sycophancy.model.decoder import UNUSED, DecoderTransformer
from sycophancy.model.generation import make_programs

torch = pytest.importorskip("torch", reason="torch is not installed (extra `hf`)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

pytestmark = pytest.mark.extras

LENGTH = 24  # several times the sliding windows


class Model(NamedTuple):
    folder: Path
    theirs: Any
    network: DecoderConfig
    params: dict[str, Any]


@pytest.fixture(scope="module", params=decoder_folders.CONFIGS)
def model(request, tmp_path_factory) -> Model:
    """A model that transformers made and wrote, as torch and as the network compute it."""
    given = dict(decoder_folders.CONFIGS[request.param])
    config = transformers.AutoConfig.for_model(given.pop("model_type"), **given)
    theirs = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            drawn = torch.empty_like(value).normal_(0.0, 0.3, generator=generator)
            value.copy_(drawn + 1 if "norm" in name else drawn)
    folder = tmp_path_factory.mktemp("models") / "theirs"
    theirs.eval().save_pretrained(folder)
    checkpoint = open_checkpoint(folder)
    assert isinstance(checkpoint.network, DecoderConfig)
    return Model(folder, theirs, checkpoint.network, load_params(folder, checkpoint.network))


def tokens(network: DecoderConfig, rows: int = 2, length: int = LENGTH) -> np.ndarray:
    return np.random.default_rng(1).integers(0, network.vocab_size, (rows, length))


def logits_of(theirs: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = theirs(input_ids=torch.tensor(ids)).logits.numpy()
    return found


def assert_close(found: Any, expected: np.ndarray) -> None:
    """The largest difference is less than 1e-4 of the largest logit."""
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.abs(expected).max()), rtol=0)


def test_logits_equal_transformers(model):
    ids = tokens(model.network)
    found = jax.jit(DecoderTransformer(model.network).apply)({"params": model.params}, ids)
    assert found.dtype == jnp.float32
    assert_close(found, logits_of(model.theirs, ids))


@pytest.mark.parametrize("model", ["llama 3, tied, biases", "gemma 3"], indirect=True)
def test_greedy_decoding_writes_what_transformers_writes(model):
    """Three prompts of different lengths in a batch; transformers reads them one by one."""
    ids = tokens(model.network, 3, 9)
    lengths, new = (9, 2, 6), 8
    padded = np.full((4, 9), UNUSED, np.int32)  # the last row is padding alone
    expected = np.zeros((4, new), np.int64)
    for row, length in enumerate(lengths):
        prompt = torch.tensor(ids[row : row + 1, :length])
        padded[row, :length] = prompt[0]
        texts = model.theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=new,
            eos_token_id=[], pad_token_id=0,
        )  # fmt: skip
        expected[row] = texts[0, length:]
    mesh = sharding.make_mesh((2, 1, 2), jax.devices()[:4])
    end = int(expected[0, 3])  # ends the first row, and perhaps others
    programs = make_programs(model.network, mesh, new, (end,))
    shardings = sharding.shardings_of(sharding.sharded_params(model.network, mesh))
    with jax.set_mesh(mesh):
        params = sharding.put(model.params, shardings)
        prompts = sharding.put(padded, sharding.batch_sharding(mesh))
        state = programs.start(params, prompts)
        nothing = sharding.put(np.zeros(4, bool), sharding.batch_sharding(mesh))
        state = programs.go_on(params, prompts, state, nothing, np.int32(new))
    for row in expected:
        if end in row:
            row[row.tolist().index(end) + 1 :] = 0
    np.testing.assert_array_equal(state.tokens, expected)


def test_a_written_folder_opens_in_transformers_with_the_same_weights(model, tmp_path):
    for name in ("tokenizer.json", "chat_template.jinja"):
        (model.folder / name).write_text(f"the {name}")
    decoder_folder.save(tmp_path / "ours", model.params, model.network, model.folder, None, 20_000)
    assert (tmp_path / "ours" / "model.safetensors.index.json").exists()  # several files
    assert (tmp_path / "ours" / "tokenizer.json").read_text() == "the tokenizer.json"
    assert (tmp_path / "ours" / "chat_template.jinja").read_text() == "the chat_template.jinja"
    before, after = (
        json.loads((folder / "config.json").read_text())
        for folder in (model.folder, tmp_path / "ours")
    )
    assert before == after
    again, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report.values()), report
    mine, other = again.state_dict(), model.theirs.state_dict()
    assert mine.keys() == other.keys()
    for name, value in other.items():
        assert torch.equal(mine[name], value), name
    assert_close(
        logits_of(again, tokens(model.network)), logits_of(model.theirs, tokens(model.network))
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_of_two_bytes_are_read_exactly(dtype, tmp_path):
    folder = decoder_folders.make(tmp_path / "model", "qwen 3")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    theirs.save_pretrained(tmp_path / "narrow")
    network = open_checkpoint(tmp_path / "narrow").shape()
    params = load_params(tmp_path / "narrow", network)
    decoder_folder.save(tmp_path / "wide", params, network, tmp_path / "narrow")
    written = safetensors.numpy.load_file(tmp_path / "wide" / "model.safetensors")
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(written[name], value.float().numpy())
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "wide")
    assert opened.dtype == torch.float32  # not rounded again when it is opened


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2_135m_instruct", "gemma3_270m"])
def test_logits_of_real_weights_equal_transformers(name, real_models):
    """Against float64, which float32 in torch misses by about as much as the network does."""
    folder = real_models(name)
    text = "I believe the best answer is (B). Do you agree that 910581 + 646733 = 1557314? " * 22
    ids = transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    ids = np.array([ids[:560]])  # beyond Gemma's window of 512
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    network = open_checkpoint(folder).shape()
    apply = jax.jit(DecoderTransformer(network).apply)
    found = np.asarray(apply({"params": load_params(folder, network)}, ids))
    single, expected = logits_of(theirs.eval(), ids), logits_of(theirs.double(), ids)
    print(f"{name}: torch in float32 is off by {np.abs(single - expected).max():.2g}")
    print(f"{name}: {np.abs(found - expected).max():.2g} of {np.abs(expected).max():.3g}")
    assert_close(found, expected)
