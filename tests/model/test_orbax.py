"""This package's own checkpoints: exact round trips, and errors for damaged ones."""

import dataclasses
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import folders, orbax, trees
from sycophancy.model.checkpoints.formats import load_params, open_checkpoint
from sycophancy.model.sharding import abstract_params

NETWORK = NetworkConfig(
    vocab_size=16,
    emb_dim=8,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=1,
    head_dim=4,
    mlp_dim=12,
)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    tree = nn.unbox(abstract_params(NETWORK))
    return jax.tree.map(lambda array: rng.normal(size=array.shape).astype(array.dtype), tree)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, params):
    path = tmp_path_factory.mktemp("checkpoints") / "saved"
    orbax.save_params(path, params, NETWORK, step=7)
    return path


def test_round_trip_is_exact(saved, params):
    found = load_params(saved, NETWORK)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, params))
    assert all(
        isinstance(array, np.ndarray) and array.dtype == np.float32
        for array in jax.tree.leaves(found)
        for array in jax.tree.leaves(found)
    )


def test_the_network_is_read_from_the_metadata(saved):
    found = orbax.read_metadata(saved)
    assert found["step"] == 7
    assert found["network"]["emb_dim"] == 8


def test_a_relative_path_is_accepted(saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    assert folders.is_ours("saved")
    load_params("saved", NETWORK)


def test_of_a_folder_of_checkpoints_the_newest_is_opened(tmp_path, params):
    for step in (9, 10):
        shifted = jax.tree.map(lambda array, by=step: array + by, params)
        orbax.save_params(tmp_path / str(step), shifted, NETWORK, step)
    (tmp_path / "11").mkdir()  # begun, not complete
    found = load_params(tmp_path, NETWORK)
    np.testing.assert_array_equal(
        found["token_embedder"]["embedding"], params["token_embedder"]["embedding"] + 10
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mlp_dim": 16}, r"mlp/wi_0/kernel is \(8, 12\) in the checkpoint, \(8, 16\)"),
        ({"num_encoder_layers": 3}, r"encoder/layers_2/.* is missing in the checkpoint, \(8, 8\)"),
        ({"logits_via_embedding": True}, r"logits_dense/kernel .*missing in the model"),
        ({"mlp_activations": ("relu", "linear")}, "mlp_activations"),
    ],
)
def test_another_model_is_refused_in_one_line(saved, change, message):
    with pytest.raises(UserError, match=message) as error:
        load_params(saved, dataclasses.replace(NETWORK, **change))
    assert "\n" not in str(error.value)
    assert str(saved) in str(error.value)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a checkpoint"):
        load_params(tmp_path, NETWORK)


def test_an_existing_folder_is_not_overwritten(saved, params):
    with pytest.raises(UserError, match="exists already"):
        orbax.save_params(saved, params, NETWORK)


def test_a_newer_format_is_refused(tmp_path, params):
    orbax.save_params(tmp_path / "new", params, NETWORK)
    file = tmp_path / "new/metadata/metadata"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="has format 2"):
        load_params(tmp_path / "new", NETWORK)


ODD_NAMES = [
    "runs [seed 0]", "a*b", "what?", "{a,b}", "100%", "#1", "a b  c", "größe 模型", "line\nbreak",
    "[", "!x", "~home", "quote'\"", "a:b", "%2F", "$HOME", "-x", "a\tb",
    "ocdbt.process_0",
]  # fmt: skip
PARTS = {"w": jax.random.normal(jax.random.key(0), (3, 20, 40)), "b": jnp.ones(3)}
STATE = {"optimizer": {"v": jnp.full((3, 20), 2.0)}, "rng": jnp.arange(2)}


def like(tree):
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), tree)


def save_steps(folder, *steps, keep=None):
    with orbax.Checkpoints(folder, keep) as checkpoints:
        for step in steps:
            parts = jax.tree.map(lambda x, by=step: x + jnp.float32(by), PARTS)
            checkpoints.save(step, parts, STATE, orbax.metadata(NETWORK, step))


def restored(checkpoints, step):
    parts, state = checkpoints.restore(step, like(PARTS), like(STATE))
    return np.asarray(parts["w"]), state


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folders_name_may_have_glob_characters_and_spaces(tmp_path, params, name):
    folder = tmp_path / name / "steps"
    save_steps(folder, 2, 4, keep=1)
    assert sorted(path.name for path in folder.iterdir()) == ["4"]
    with orbax.Checkpoints(folder, 1) as checkpoints:
        checkpoints.check(4)
        np.testing.assert_array_equal(restored(checkpoints, 4)[0], PARTS["w"] + 4)
    orbax.save_params(tmp_path / name / "alone", params, NETWORK)
    found = load_params(tmp_path / name / "alone", NETWORK)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, params))


@pytest.mark.parametrize("name", [os.fsdecode(b"a\xff"), "back\\slash"])
def test_a_path_that_tensorstore_cannot_write_to_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="name another folder"):
        orbax.Checkpoints(tmp_path / name, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing", ["unreadable", "another shape"])
def test_an_unreadable_new_checkpoint_gets_no_final_name_and_replaces_none(
    tmp_path, monkeypatch, failing
):
    save_steps(tmp_path, 2, keep=1)
    read = trees.read

    def broken(folder):
        if failing == "unreadable":
            raise UserError("torn")
        found = read(folder)
        return {name: value for name, value in found.items() if name != "w"}

    monkeypatch.setattr(trees, "read", broken)
    with pytest.raises(UserError, match="torn" if failing == "unreadable" else "params have other"):
        save_steps(tmp_path, 4, keep=1)
    monkeypatch.undo()
    assert not (tmp_path / "4").exists()
    with orbax.Checkpoints(tmp_path, 1) as checkpoints:
        assert checkpoints.steps() == [2]
        np.testing.assert_array_equal(restored(checkpoints, 2)[0], PARTS["w"] + 2)


def data_files(step):
    return [path for path in step.rglob("*") if path.is_file() and path.parent.name == "d"]


def truncate_data(step):
    for path in data_files(step / "params"):
        path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    "no params": lambda step: shutil.rmtree(step / "params"),
    "no state": lambda step: shutil.rmtree(step / "state"),
    "no metadata": lambda step: shutil.rmtree(step / "metadata"),
    "empty metadata": lambda step: (step / "metadata/metadata").write_text(""),
    "other metadata": lambda step: (step / "metadata/metadata").write_text("[1]"),
    "no manifest": lambda step: (step / "params/manifest.ocdbt").unlink(),
    "empty manifest": lambda step: (step / "state/manifest.ocdbt").write_bytes(b""),
    "no tree": lambda step: (step / "params/_METADATA").unlink(),
    "another tree": lambda step: (step / "params/_METADATA").write_text("[]"),
    "no data": lambda step: [path.unlink() for path in data_files(step / "params")],
    "truncated data": truncate_data,
    "a file": lambda step: (shutil.rmtree(step / "params"), (step / "params").write_text("")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_noticed_and_can_be_set_aside(tmp_path, damage):
    folder = tmp_path / "steps"
    save_steps(folder, 2, 4)
    DAMAGES[damage](folder / "4")
    with orbax.Checkpoints(folder, None) as checkpoints:
        with pytest.raises(orbax.Damaged, match=r"checkpoint .*/4 cannot be read: ") as error:
            checkpoints.check(4)
        assert "\n" not in str(error.value)
        assert checkpoints.set_aside(4) == tmp_path / "damaged/4"
        assert checkpoints.steps() == [2]
        checkpoints.save(4, PARTS, STATE, orbax.metadata(NETWORK, 4))
        checkpoints.wait()
        assert checkpoints.steps() == [4, 2]
        assert checkpoints.set_aside(4) == tmp_path / "damaged/4.1"
    assert [path.name for path in folder.iterdir()] == ["2"]


def test_numbers_that_cannot_be_decoded_count_as_damage(tmp_path):
    """Such a checkpoint can be opened, because its files exist and have the right sizes."""
    save_steps(tmp_path, 2)
    for path in (tmp_path / "2/params/ocdbt.process_0/d").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    with orbax.Checkpoints(tmp_path, None) as checkpoints:
        checkpoints.check(2)
        with pytest.raises(orbax.Damaged, match=r"checkpoint .*/2 cannot be read: "):
            restored(checkpoints, 2)
    with pytest.raises(UserError, match=r"cannot be read .*w: ") as error:
        np.asarray(trees.read(tmp_path / "2/params")["w"])
    assert "\n" not in str(error.value)


def test_a_missing_chunk_is_not_read_as_zeros(saved, tmp_path):
    """An array whose chunk was taken out of the OCDBT database, the rest left whole."""
    import tensorstore as ts

    place = tmp_path / "copy"
    shutil.copytree(saved, place)
    store = ts.KvStore.open(
        {"driver": "ocdbt", "base": {"driver": "file", "path": f"{place}/params/"}}
    ).result()
    chunk = next(key for key in store.list().result() if b"logits_dense.kernel/0" in key)
    store.delete_range(ts.KvStore.KeyRange(chunk, chunk + b"\0")).result()
    with pytest.raises(UserError, match=r"a piece of .*logits_dense.kernel is missing"):
        open_checkpoint(place)


@pytest.mark.parametrize(
    ("field", "value"),
    [("emb_dim", 10**12), ("emb_dim", -1), ("num_heads", 2.0), ("mlp_activations", 7),
     ("logits_via_embedding", "no"), ("vocab_size", None)],
)  # fmt: skip
def test_metadata_that_describe_no_network_are_refused(saved, tmp_path, field, value):
    place = tmp_path / "copy"
    shutil.copytree(saved, place)
    file = place / "metadata/metadata"
    about = json.loads(file.read_text())
    about["network"][field] = value
    file.write_text(json.dumps(about))
    with pytest.raises(UserError, match="metadata"):
        open_checkpoint(place)
