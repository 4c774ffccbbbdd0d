"""Models on the hub and in a bucket, with local servers in their place; models named by folders."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import decoder_runs
import jax
import legacy_checkpoint
import numpy as np
import pytest
import stand_ins
from etils import epath
from etils.epath.testing import mock_epath
from flax import linen as nn

from sycophancy.config.load import load_config
from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model import locations, references
from sycophancy.model.checkpoints import layout
from sycophancy.model.checkpoints.convert import convert
from sycophancy.model.checkpoints.formats import load_params, open_checkpoint
from sycophancy.model.sharding import abstract_params

MINI = load_config("mini_base", "paper").model


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command line with these environment variables, which libraries read at their import."""
    kept = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_HOME")}
    return subprocess.run(
        [sys.executable, "-c", "from sycophancy.cli.main import main; main()", *arguments],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """The miniature's folder with other files that a hub repository may have."""
    root = tmp_path_factory.mktemp("hub") / "tiny"
    shutil.copytree(MINI.checkpoint, root)
    (root / "pytorch_model.bin").write_bytes(b"large")
    (root / "tf_model.h5").write_bytes(b"large")
    return root


def test_a_model_of_the_hub_is_fetched_once_and_then_needs_no_network(tmp_path, repository):
    home = str(tmp_path / "home")
    with stand_ins.hub(repository) as hub:
        hub.busy = 2  # an answer that is worth another try
        first = command(
            "convert", "hf:owner/tiny", str(tmp_path / "a"), "--to", "hf",
            HF_ENDPOINT=hub.address, HF_HOME=home,
        )  # fmt: skip
        assert first.returncode == 0, first.stderr
        assert any("model.safetensors" in path for path in hub.asked)
        assert not any("pytorch_model" in path or "tf_model" in path for path in hub.asked)
    again = command(
        "convert", "hf:owner/tiny", str(tmp_path / "b"), "--to", "hf",
        HF_HUB_OFFLINE="1", HF_HOME=home,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    weights = (Path(MINI.checkpoint) / "model.safetensors").read_bytes()
    assert (tmp_path / "a/model.safetensors").read_bytes() == weights
    assert (tmp_path / "b/model.safetensors").read_bytes() == weights


def test_a_plan_for_a_decoder_only_model_of_the_hub_fetches_no_weights(tmp_path):
    folder = decoder_runs.make_model(tmp_path / "tiny")
    with stand_ins.hub(folder) as hub:
        done = command(
            "plan", "--model", "hf:owner/tiny", "--topology", "h100:4",
            HF_ENDPOINT=hub.address, HF_HOME=str(tmp_path / "home"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert any("config.json" in path for path in hub.asked)
        assert not any("safetensors" in path for path in hub.asked)


def test_a_model_that_the_hub_lacks_is_an_error_of_one_line(tmp_path):
    done = command(
        "convert", "hf:owner/other", str(tmp_path / "a"), "--to", "hf",
        HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("sycophancy:")]
    assert "hf:owner/other" in line
    assert "name a local folder" in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["hf:", "hf:owner", "hf:a/b/c/d", "hf:owner/name@"])
def test_a_name_that_cannot_be_on_the_hub_is_refused(name):
    with pytest.raises(UserError, match="expected hf:owner/name"):
        locations.local(name)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """`gs://weights/...` lies in `tmp_path/weights`: arrays by HTTP, small files by epath."""

    def here(path) -> Path:
        return tmp_path / str(path).removeprefix("gs://")

    def moved(function, path, *rest):
        return function(here(path), *rest)

    # With TensorFlow installed epath goes through its client, which knows Google's address alone.
    monkeypatch.setattr("etils.epath.gpath._is_tf_installed", lambda: False)
    with (
        stand_ins.buckets(tmp_path) as server,
        mock_epath(open=moved, exists=moved, isdir=moved, listdir=moved),
    ):
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", server.address)
        yield server


@pytest.mark.parametrize("style", [pytest.param("file", marks=pytest.mark.slow), "gcs"])
def test_a_legacy_checkpoint_is_read_from_a_bucket(tmp_path, bucket, style):
    network = NetworkConfig(
        vocab_size=64,
        emb_dim=16,
        num_heads=2,
        num_encoder_layers=2,
        num_decoder_layers=1,
        head_dim=8,
        mlp_dim=24,
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda array: rng.normal(size=array.shape).astype(np.float32),
        nn.unbox(abstract_params(network)),
    )
    folder = tmp_path / "weights/flan"
    legacy_checkpoint.write(folder, layout.unstack(params), 5, {}, style=style)
    found = load_params("gs://weights/flan/checkpoint_5", network)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, params))
    assert any(path.endswith("target.token_embedder.embedding/0.0") for path in bucket.asked)
    assert open_checkpoint("gs://weights/flan").step == 5
    (folder / "checkpoint_5/target.token_embedder.embedding/1.1").rename(tmp_path / "kept")
    with pytest.raises(UserError, match=r"token_embedder/embedding .*a piece of it is missing"):
        open_checkpoint("gs://weights/flan/checkpoint_5").check(network)
    shutil.rmtree(folder / "checkpoint_5/target.token_embedder.embedding")
    with pytest.raises(UserError, match="token_embedder/embedding cannot be read"):
        load_params("gs://weights/flan/checkpoint_5", network)


def test_an_unreachable_bucket_is_an_error_of_one_line(monkeypatch):
    def refused(self):
        raise RuntimeError("could not resolve host\nand so on")

    monkeypatch.setattr(type(epath.Path("gs://weights/flan")), "exists", refused)
    with pytest.raises(UserError, match=r"gs://weights/flan cannot be reached: could not") as error:
        open_checkpoint("gs://weights/flan")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("to", ["hf", "t5x", "orbax"])
def test_a_checkpoint_of_a_shipped_models_shape_is_finetuned_like_it(tmp_path, to):
    """Its vocabulary is its own if it has one, else the shipped model's."""
    place = tmp_path / "mine" / "checkpoint_77" if to == "t5x" else tmp_path / "mine"
    convert(MINI.checkpoint, str(place), to, network=MINI.network, step=77 if to == "t5x" else None)
    found = load_config(str(place), "demo")
    shipped = load_config("mini_base", "demo")
    assert found.training == shipped.training
    assert found.data == shipped.data
    assert found.model.network == shipped.model.network
    assert found.model.name == "mine"
    assert found.model.checkpoint == str(place)
    assert found.model.pretrained_step == (77 if to == "t5x" else 0)
    own = to == "hf"
    assert found.model.vocabulary == (str(place / "spiece.model") if own else MINI.vocabulary)
    load_params(found.model.checkpoint, found.model.network)


def scrambled(params):
    """Other weights of the same shape."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda array: rng.normal(size=array.shape).astype(np.float32), params)


@pytest.mark.parametrize("to", ["hf", "t5x", "orbax"])
def test_an_equal_shape_does_not_make_an_equal_model(tmp_path, to):
    """Other weights of a shipped model's shape do not get its vocabulary, or its activations."""
    from sycophancy.model.checkpoints import huggingface

    params = scrambled(load_params(MINI.checkpoint, MINI.network))
    huggingface.save(tmp_path / "from", params, MINI.network, None)
    place = str(tmp_path / "checkpoint_7")
    convert(str(tmp_path / "from"), place, to)
    with pytest.raises(UserError, match=r"VOCABULARY is not set.*--set VOCABULARY="):
        load_config(place, "demo")
    given = load_config(place, "demo", [f"VOCABULARY={MINI.vocabulary}"]).model
    assert given.vocabulary == MINI.vocabulary
    if to == "t5x":  # which stores no activations, and then a gated MLP is a gelu's
        assert given.network.mlp_activations == ("gelu", "linear")


def test_a_checkpoint_with_another_tokenizer_does_not_get_the_shipped_vocabulary(tmp_path):
    """This holds even for the shipped model's own weights."""
    convert(MINI.checkpoint, str(tmp_path / "hf"), "hf")
    (tmp_path / "hf/spiece.model").unlink()
    assert load_config(str(tmp_path / "hf"), "demo").model.vocabulary == MINI.vocabulary
    (tmp_path / "hf/tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="VOCABULARY is not set"):
        load_config(str(tmp_path / "hf"), "demo")


def test_weights_finetuned_from_a_shipped_model_are_recognised(tmp_path):
    from sycophancy.model.checkpoints import orbax

    params = load_params(MINI.checkpoint, MINI.network)
    rng = np.random.default_rng(0)
    moved = jax.tree.map(
        lambda array: array * (1 + 0.1 * rng.normal(size=array.shape).astype(np.float32)), params
    )
    orbax.save_params(tmp_path / "it", moved, MINI.network)
    assert load_config(str(tmp_path / "it"), "demo").model.vocabulary == MINI.vocabulary


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"\xff" * 50, "not a SentencePiece model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_a_damaged_vocabulary_is_an_error_of_one_line(tmp_path, data, message):
    from sycophancy.model.vocabulary import Vocabulary

    (tmp_path / "spiece.model").write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        Vocabulary(str(tmp_path / "spiece.model"))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        Vocabulary(str(tmp_path / "gone.model"))


def test_a_vocabulary_without_t5s_padding_is_refused(tmp_path):
    """Padding has the number 0, which other SentencePiece models give to a piece."""
    import sentencepiece

    from sycophancy.model.vocabulary import Vocabulary

    with (tmp_path / "other.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["some words", "and more of them"] * 20),
            model_writer=file,
            vocab_size=30,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    with pytest.raises(UserError, match="padding is -1 and the end 2"):
        Vocabulary(str(tmp_path / "other.model"))


def test_another_shape_is_finetuned_as_a_flan_t5_and_needs_a_vocabulary(tmp_path):
    from sycophancy.model.checkpoints import huggingface

    network = NetworkConfig(
        vocab_size=1300,
        emb_dim=16,
        num_heads=2,
        num_encoder_layers=2,
        num_decoder_layers=1,
        head_dim=8,
        mlp_dim=24,
    )
    params = jax.tree.map(
        lambda array: np.zeros(array.shape, np.float32), nn.unbox(abstract_params(network))
    )
    huggingface.save(tmp_path / "with", params, network, MINI.vocabulary)
    found = load_config(str(tmp_path / "with"), "paper")
    flan = load_config("flan_t5_base", "paper")
    assert found.training == flan.training
    assert found.model.network.emb_dim == 16
    assert found.model.vocabulary == str(tmp_path / "with/spiece.model")
    huggingface.save(tmp_path / "without", params, network, None)
    with pytest.raises(UserError, match=r"VOCABULARY is not set.*--set VOCABULARY="):
        load_config(str(tmp_path / "without"), "paper")
    given = load_config(str(tmp_path / "without"), "paper", [f"VOCABULARY={MINI.vocabulary}"])
    assert given.model.vocabulary == MINI.vocabulary


def test_a_shipped_models_name_never_means_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mini_base").mkdir()
    assert not references.is_checkpoint("mini_base")
    assert references.is_checkpoint("./mini_base")
    assert epath.Path(load_config("mini_base", "paper").model.checkpoint).exists()
