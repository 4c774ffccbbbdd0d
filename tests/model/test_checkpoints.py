"""Checkpoints of every format: reading, writing, converting and refusing them."""

import dataclasses
import json
import shutil

import jax
import legacy_checkpoint
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import sentencepiece
from flax import linen as nn

from sycophancy.config.load import load_config
from sycophancy.config.schema import NetworkConfig
from sycophancy.data.miniature.curriculum import Curriculum
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import folders, huggingface, layout, orbax, trees, weights
from sycophancy.model.checkpoints.checkpoint import infer_network
from sycophancy.model.checkpoints.convert import convert
from sycophancy.model.checkpoints.formats import load_params, open_checkpoint
from sycophancy.model.checkpoints.lazy_array import LazyArray
from sycophancy.model.checkpoints.moments import zero_moments
from sycophancy.model.sharding import abstract_params
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.training.optimizer import adafactor

NETWORK = NetworkConfig(
    vocab_size=160,
    emb_dim=128,
    num_heads=4,
    num_encoder_layers=3,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=136,  # with emb_dim large enough for Adafactor to factor
)
TIED = dataclasses.replace(NETWORK, logits_via_embedding=True, mlp_activations=("relu",))
STEP = 1_138_000
TEXTS = [
    "Human: Hello, my name is Ann.\n\nChoices:\n (A) Agree\n (B) Disagree",
    "  two  spaces, \ttabs and an end ",
    "Human: What is your opinion? 17 + 25 = 9000001",
]


def draw(network: NetworkConfig, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda array: rng.normal(size=array.shape).astype(np.float32),
        nn.unbox(abstract_params(network)),
    )


def equal(a, b) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(
        jax.tree.map(np.array_equal, a, b)
    )


@pytest.fixture(
    scope="module",
    params=["untied, gated", pytest.param("tied, ungated", marks=pytest.mark.slow)],
)
def network(request) -> NetworkConfig:
    return NETWORK if request.param.startswith("untied") else TIED


@pytest.fixture(scope="module")
def params(network) -> dict:
    return draw(network)


@pytest.fixture(scope="module")
def moments(params) -> dict:
    """Adafactor's state after a step, in T5X's names."""
    optimizer = adafactor(1e-3)
    _, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    return {
        f"{path}/{moment}": np.asarray(value)
        for moment in ("v_row", "v_col", "v")
        for path, value in layout.flatten(layout.unstack(getattr(state, moment))).items()
    }


@pytest.fixture(scope="module")
def legacy(tmp_path_factory, params, moments):
    states = moments | {
        path.removesuffix("/v") + "/m": np.zeros(1, np.float32)
        for path in moments
        if path.endswith("/v")
    }
    target = layout.unstack(params)
    folder = tmp_path_factory.mktemp("legacy")
    return legacy_checkpoint.write(folder, target, STEP, layout.unflatten(states))


def test_the_legacy_format_is_read(legacy, network, params, moments):
    found = open_checkpoint(legacy)
    assert (found.format, found.step, found.network) == ("t5x-legacy", STEP, None)
    assert equal(load_params(legacy, network), params)
    assert found.moments.keys() == moments.keys()
    assert all(np.array_equal(found.moments[path], moments[path]) for path in moments)


@pytest.mark.parametrize("style", ["gcs", "old"])
def test_a_legacy_checkpoint_copied_from_a_bucket_is_read(tmp_path, style):
    params = draw(NETWORK)
    legacy_checkpoint.write(tmp_path, layout.unstack(params), 5, {}, style=style)
    assert equal(load_params(tmp_path / "checkpoint_5", NETWORK), params)


def test_bfloat16_is_read_as_the_same_float32(tmp_path):
    params = jax.tree.map(lambda array: array.astype(ml_dtypes.bfloat16), draw(NETWORK))
    legacy_checkpoint.write(tmp_path, layout.unstack(params), 5, {})
    found = load_params(tmp_path / "checkpoint_5", NETWORK)
    assert equal(found, jax.tree.map(lambda array: array.astype(np.float32), params))
    tensors = {"x": np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)}
    safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors")
    array = weights._tensors(tmp_path / "x.safetensors")["x"].lazy()
    assert np.asarray(array.transposed()).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_the_network_is_inferred_from_shapes(legacy, network):
    assert infer_network(open_checkpoint(legacy).params, "it") == network


@pytest.mark.parametrize("to", ["hf", "t5x", "orbax"])
def test_converting_there_and_back_is_bit_exact(tmp_path, legacy, network, params, moments, to):
    there = convert(str(legacy), str(tmp_path / "there"), to, network=network)
    assert equal(load_params(there.path, network), params)
    back = convert(there.path, str(tmp_path / "back"), "t5x", step=STEP)
    found = open_checkpoint(back.path)
    assert equal(load_params(back.path, network), params)
    assert (found.format, found.step) == ("t5x", STEP)
    kept = moments if to == "t5x" else {path: np.zeros_like(v) for path, v in moments.items()}
    assert found.moments.keys() == kept.keys()
    for path, value in kept.items():
        np.testing.assert_array_equal(found.moments[path], value, err_msg=path)
    if to != "t5x":
        assert any("Adafactor starts with zeros" in note for note in back.notes)


def test_large_stacks_are_written_layer_by_layer(tmp_path, monkeypatch, legacy, network, params):
    monkeypatch.setattr(trees, "CHUNK_BYTES", 20_000)
    asked: list[tuple[int, ...]] = []
    read = LazyArray.__array__

    def counted(array, *arguments, **more):
        asked.append(array.shape)
        return read(array, *arguments, **more)

    monkeypatch.setattr(LazyArray, "__array__", counted)
    done = convert(str(legacy), str(tmp_path / "ours"), "orbax", network=network)
    assert max(map(np.prod, asked)) == np.prod((160, 128))  # the embedding, and no stack
    monkeypatch.undo()
    assert equal(load_params(done.path, network), params)


def test_zero_moments_have_the_shapes_of_the_optimizers(moments, network):
    zeros = zero_moments(network)
    assert {path: array.shape for path, array in zeros.items()} == {
        path: value.shape for path, value in moments.items()
    }
    assert not any(np.any(np.asarray(array)) for array in zeros.values())


def test_a_finetuning_checkpoint_converts_with_its_moments_and_its_total_step(
    tmp_path, params, network, moments
):
    from sycophancy.training.step import init_state

    optimizer = adafactor(1e-3)
    state = init_state(params, optimizer)
    _, after = jax.jit(optimizer.update)(params, state.optimizer, params)
    rest = state._replace(optimizer=after)._asdict()
    about = orbax.metadata(network, 250, pretrained_step=STEP)
    with orbax.Checkpoints(tmp_path / "steps", None) as checkpoints:
        checkpoints.save(250, rest.pop("params"), rest, about)
        checkpoints.wait()
    found = open_checkpoint(tmp_path / "steps")
    assert found.step == STEP + 250
    assert found.shape() == network
    assert all(np.array_equal(found.moments[path], moments[path]) for path in moments)
    done = convert(str(tmp_path / "steps"), str(tmp_path / "t5x"), "t5x")
    assert done.path.endswith(f"checkpoint_{STEP + 250}")
    again = open_checkpoint(tmp_path / "t5x")
    assert all(np.array_equal(again.moments[path], moments[path]) for path in moments)


def test_weights_over_several_files_are_written_and_read(tmp_path, params, network):
    huggingface.save(tmp_path, params, network, None, shard_bytes=200_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    assert {file.name for file in files} == set(index["weight_map"].values())
    sizes = [sum(t.nbytes for t in safetensors.numpy.load_file(f).values()) for f in files]
    assert max(sizes) <= 200_000
    assert index["metadata"]["total_size"] == sum(sizes)
    assert equal(load_params(tmp_path, network), params)


@pytest.mark.extras
def test_transformers_reads_several_files_and_writes_what_we_read(tmp_path, params, network):
    pytest.importorskip("torch", reason="torch is not installed (extra `hf`)")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    huggingface.save(tmp_path / "ours", params, network, None, shard_bytes=200_000)
    model = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert model.generation_config.decoder_start_token_id == 0
    model.save_pretrained(tmp_path / "theirs", max_shard_size="200KB")
    assert (tmp_path / "theirs/model.safetensors.index.json").exists()
    found = open_checkpoint(tmp_path / "theirs")
    assert found.network == network
    assert equal(load_params(tmp_path / "theirs", network), params)


@pytest.mark.extras
def test_transformers_tokenizes_as_our_vocabulary_does(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed (extra `hf`)")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    network = dataclasses.replace(NETWORK, vocab_size=700)
    curriculum = Curriculum("train", seed=0)
    texts = [t for name in curriculum.families for _ in range(20) for t in curriculum.draw(name)]
    vocabulary = tmp_path / "drawn.model"
    with vocabulary.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([*texts, *TEXTS]),
            model_writer=file,
            vocab_size=200,
            hard_vocab_limit=False,
            minloglevel=2,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
        )
    huggingface.save(tmp_path / "hf", draw(network), network, str(vocabulary))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    ours = Vocabulary(str(vocabulary))
    for text in TEXTS:
        assert theirs(text).input_ids == [*ours.encode(text), ours.eos_id]
    assert len(theirs) == ours.size + 100  # T5's sentinels, for which the network has room
    assert theirs.convert_tokens_to_ids("<extra_id_0>") == len(theirs) - 1


def test_a_vocabulary_that_transformers_cannot_tokenize_with_is_not_declared(tmp_path):
    done = convert(load_config("mini_base", "paper").model.checkpoint, str(tmp_path / "hf"), "hf")
    assert any("pieces that span words" in note for note in done.notes)
    assert (tmp_path / "hf/spiece.model").exists()
    assert not (tmp_path / "hf/tokenizer_config.json").exists()


def test_of_a_folder_of_checkpoints_the_newest_complete_one_is_opened(tmp_path):
    for step in (9, 10):
        legacy_checkpoint.write(tmp_path, layout.unstack(draw(NETWORK, step)), step, {})
    (tmp_path / "checkpoint_11.tmp-1234").mkdir()
    (tmp_path / "checkpoint_12").mkdir()  # begun, not complete
    assert open_checkpoint(tmp_path).step == 10
    assert equal(load_params(tmp_path, NETWORK), draw(NETWORK, 10))


def test_arrays_are_read_only_when_they_are_needed(tmp_path):
    place = legacy_checkpoint.write(tmp_path, layout.unstack(draw(NETWORK)), 5, {})
    (place / "target.encoder.layers_1.mlp.wo.kernel").rename(tmp_path / "gone")
    found = open_checkpoint(place)
    np.asarray(found.params["encoder/layers_0/mlp/wo/kernel"])
    with pytest.raises(UserError, match=r"encoder/layers_1/mlp/wo/kernel cannot be read"):
        np.asarray(found.params["encoder/layers_1/mlp/wo/kernel"])


def test_another_models_checkpoint_is_refused_with_names_and_both_shapes(legacy, network):
    other = dataclasses.replace(network, mlp_dim=64)
    with pytest.raises(UserError) as error:
        load_params(legacy, other)
    message = str(error.value)
    assert message.count(" in the checkpoint, ") == 3
    assert "mlp/wo/kernel is (136, 128) in the checkpoint, (64, 128) in the model" in message
    assert "more of" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda place: (place / "checkpoint").write_bytes(b"\x00garbage"), "not a T5X checkpoint"),
        (
            lambda place: (place / "checkpoint").write_text(
                'model_checkpoint_path: "model.ckpt-1"'
            ),
            "TensorFlow",
        ),
    ],
)
def test_a_damaged_legacy_checkpoint_is_refused_in_one_line(tmp_path, damage, message):
    place = legacy_checkpoint.write(tmp_path, layout.unstack(draw(NETWORK)), 5, {})
    damage(place)
    with pytest.raises(UserError, match=message) as error:
        open_checkpoint(place)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bart"}, "model_type is 'bart', only 't5' is supported"),
        ({"relative_attention_num_buckets": 64}, "relative_attention_num_buckets is 64"),
        ({"d_model": "wide"}, "d_model is 'wide', expected a whole number"),
    ],
)
def test_a_config_that_the_network_does_not_compute_is_refused(tmp_path, change, message):
    huggingface.save(tmp_path, draw(NETWORK), NETWORK, None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        open_checkpoint(tmp_path)


def test_pickled_weights_are_refused(tmp_path):
    huggingface.save(tmp_path, draw(NETWORK), NETWORK, None)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="stored as pickle"):
        open_checkpoint(tmp_path)


def pieces(place):
    """The chunks of the legacy format's arrays."""
    return sorted(p for p in place.rglob("*") if p.is_file() and p.name[0].isdigit())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda piece: piece.unlink(), "is missing"),
        (lambda piece: piece.write_bytes(b""), "is cut short"),
        (lambda piece: piece.write_bytes(piece.read_bytes()[:-1]), "is cut short"),
        (lambda piece: (piece.parent / ".zarray").unlink(), "does not exist"),
        (lambda piece: (piece.parent / ".zarray").write_text("{}"), "cannot be read"),
        (
            lambda piece: (piece.parent / ".zarray").write_text(
                (piece.parent / ".zarray").read_text().replace('"<f4"', '"<i4"')
            ),
            "is stored as int32",
        ),
    ],
)
def test_a_missing_chunk_is_named_before_an_array_is_read(tmp_path, damage, message):
    """TensorStore would read it as zeros."""
    place = legacy_checkpoint.write(tmp_path, layout.unstack(draw(NETWORK)), 5, {})
    for piece in (pieces(place)[0], pieces(place)[-1]):
        kept = tmp_path / "kept"
        shutil.copytree(piece.parent, kept)
        damage(piece)
        with pytest.raises(UserError, match=message) as error:
            open_checkpoint(place).check(NETWORK)
        name = piece.parent.name.removeprefix("target.").replace(".", "/")
        assert name in str(error.value)
        assert "\n" not in str(error.value)
        shutil.rmtree(piece.parent)
        kept.rename(piece.parent)
    open_checkpoint(place).check(NETWORK)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", ".", "", "a/../../b"])
def test_a_legacy_checkpoint_reads_nothing_outside_its_folder(tmp_path, path):
    from flax import serialization

    place = legacy_checkpoint.write(tmp_path, layout.unstack(draw(NETWORK)), 5, {})
    stored = serialization.msgpack_restore((place / "checkpoint").read_bytes())
    stored["optimizer"]["target"]["token_embedder"]["embedding"]["kvstore"]["path"] = path
    (place / "checkpoint").write_bytes(serialization.msgpack_serialize(stored))
    with pytest.raises(UserError, match="outside its folder"):
        open_checkpoint(place)


@pytest.mark.parametrize(
    "step", [np.asarray(-1), np.asarray([1, 2]), np.asarray(2**40), np.asarray(np.nan)]
)
def test_an_invalid_step_is_refused(tmp_path, step):
    from flax import serialization

    place = legacy_checkpoint.write(tmp_path, layout.unstack(draw(NETWORK)), 5, {})
    stored = serialization.msgpack_restore((place / "checkpoint").read_bytes())
    stored["optimizer"]["state"]["step"] = step
    (place / "checkpoint").write_bytes(serialization.msgpack_serialize(stored))
    with pytest.raises(UserError, match="its step is not a number"):
        open_checkpoint(place)


def test_quantized_weights_of_t5x_are_refused(tmp_path):
    params = jax.tree.map(lambda array: (10 * array).astype(np.int8), draw(NETWORK))
    legacy_checkpoint.write(tmp_path, layout.unstack(params), 5, {})
    with pytest.raises(UserError, match="is stored as int8"):
        load_params(tmp_path / "checkpoint_5", NETWORK)


def test_a_checkpoints_digest_covers_only_its_own_files(tmp_path, legacy):
    for to in ("hf", "t5x", "orbax"):
        there = convert(str(legacy), str(tmp_path / to), to)
        (tmp_path / to / "notes.txt").write_text("mine")
        found = {path.name for path in folders.parts(tmp_path / to)}
        assert found and "notes.txt" not in found
        assert all(part.exists() for part in folders.parts(there.path))
    with pytest.raises(UserError, match="/ is not a checkpoint"):
        folders.parts("/")


@pytest.mark.parametrize("to", ["hf", "t5x", "orbax"])
def test_an_existing_destination_is_not_changed(tmp_path, legacy, to):
    place = tmp_path / "checkpoint_5"
    place.mkdir()
    (place / "mine").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        convert(str(legacy), str(place), to)
    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoint_5", "mine"]


def test_a_failed_conversion_leaves_nothing(tmp_path):
    place = legacy_checkpoint.write(tmp_path / "from", layout.unstack(draw(NETWORK)), 5, {})
    (place / "target.encoder.layers_1.mlp.wo.kernel").rename(tmp_path / "gone")
    for to in ("hf", "t5x", "orbax"):
        with pytest.raises(UserError, match="cannot be read"):
            convert(str(place), str(tmp_path / to / "out"), to)
        assert not open_places(tmp_path / to)


def open_places(folder) -> list:
    """Paths that a later command could mistake for a checkpoint."""
    found = []
    for place in [folder, *folder.rglob("*")] if folder.exists() else []:
        try:
            found.append(open_checkpoint(place))
        except UserError:
            continue
    return found
