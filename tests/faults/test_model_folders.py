"""Whatever happens to a model's folder, it loads as it was, or one line says what is wrong.

Each draw copies a small folder (Hugging Face in one file or in several, T5X's legacy format, ours),
damages one thing, and opens and reads it. Either the arrays are those of the undamaged folder, or a
`UserError` names the damage. What no format can notice is left out: other bytes of weights in a
safetensors file or a chunk of zarr, and a config.json that describes another model of these weights
(its own values are checked one by one in tests/model/test_huggingface_variants.py).
"""

import json
import shutil
import tempfile
from pathlib import Path

import hf_folders
import hypothesis
import legacy_checkpoint
import numpy as np
import pytest
from hypothesis import strategies as st

from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.checkpoints import huggingface, layout, orbax
from sycophancy.model.checkpoints.formats import open_checkpoint

NETWORK = NetworkConfig(
    vocab_size=40,
    emb_dim=8,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=1,
    head_dim=4,
    mlp_dim=16,
)
FORMATS = ("hf", "hf with an index", "t5x-legacy", "orbax")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["gelu", "gated-gelu", "gated-silu", "relu", "bart", "../x", "", "\0"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """An undamaged folder of each format, with the same parameters."""
    params, home = hf_folders.draw(NETWORK), tmp_path_factory.mktemp("made")
    folders = {kind: home / kind for kind in FORMATS}
    orbax.save_params(folders["orbax"], params, NETWORK, 3)
    legacy_checkpoint.write(home, layout.unstack(params), 3, {}).rename(folders["t5x-legacy"])
    huggingface.save(folders["hf"], params, NETWORK, None)
    huggingface.save(folders["hf with an index"], params, NETWORK, None, shard_bytes=4_000)
    return folders


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """The parameters of all of them, by path."""
    leaves = layout.flatten(layout.unstack(hf_folders.draw(NETWORK)))
    return {path: np.asarray(leaf) for path, leaf in leaves.items()}


def is_weights(file: Path) -> bool:
    """Whether a file holds little but numbers, of which no other value would be noticed."""
    return file.suffix == ".safetensors" or file.name[0].isdigit() or file.parent.name == "d"


@st.composite
def damages(draw, folder: Path) -> tuple[str, ...]:
    """What to do to which file of a folder, in words."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    name = draw(st.sampled_from(files))
    kinds = ["truncate", "empty", "other form", "missing", "folder", "link away", "link to nothing",
             "pointer", "grow", "swap"]  # fmt: skip
    if name.endswith(".json") or name in ("metadata/metadata",):
        kinds += ["value"] * 6
    if not is_weights(folder / name):
        kinds += ["flip"] * 3
    if name.endswith(".safetensors"):
        kinds += ["header"] * 3
    kind = draw(st.sampled_from(kinds))
    return kind, name


def change_value(data, file: Path) -> None:
    """One value in a JSON file, at any depth, gets another type or size, or goes."""
    found = json.loads(file.read_text())
    node, key = None, None
    places = []

    def walk(tree):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for name, value in items:
            places.append((tree, name))
            if isinstance(value, dict | list):
                walk(value)

    walk(found)
    node, key = data.draw(st.sampled_from(range(len(places))).map(places.__getitem__), "place")
    if isinstance(node, dict) and data.draw(st.booleans(), "remove"):
        del node[key]
    else:
        node[key] = data.draw(VALUES, "value")
    file.write_text(json.dumps(found))


def do(data, folder: Path, kind: str, name: str) -> None:
    file = folder / name
    content = file.read_bytes()
    match kind:
        case "truncate":
            file.write_bytes(content[: data.draw(st.integers(0, max(len(content) - 1, 0)), "at")])
        case "empty":
            file.write_bytes(b"")
        case "grow":
            file.write_bytes(content + data.draw(st.binary(min_size=1, max_size=20), "more"))
        case "other form":
            file.write_bytes(
                data.draw(
                    st.sampled_from([b"[]", b"{}", b"null", b"7", b"\xff\xfe", b"PK\x03\x04",
                                     b"\x80\x04}q", b"<html>", b"[" * 5000, b"\0" * 64]),
                    "form",
                )
            )  # fmt: skip
        case "missing":
            file.unlink()
        case "folder":
            file.unlink()
            file.mkdir()
        case "link away":  # to an equal file elsewhere
            (folder.parent / "elsewhere").write_bytes(content)
            file.unlink()
            file.symlink_to(folder.parent / "elsewhere")
        case "link to nothing":
            file.unlink()
            file.symlink_to("nothing")
        case "pointer":
            file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        case "flip":
            at = data.draw(st.integers(0, max(len(content) - 1, 0)), "at")
            flipped = bytes([content[at] ^ data.draw(st.integers(1, 255), "bits")])
            file.write_bytes(content[:at] + flipped + content[at + 1 :])
        case "header":
            length = int.from_bytes(content[:8], "little")
            at = data.draw(st.integers(0, 7 + length), "at")
            flipped = bytes([content[at] ^ data.draw(st.integers(1, 255), "bits")])
            file.write_bytes(content[:at] + flipped + content[at + 1 :])
        case "swap":
            others = [path for path in folder.rglob("*") if path.is_file() and path != file]
            file.write_bytes(data.draw(st.sampled_from(sorted(others)), "with").read_bytes())
        case "value":
            change_value(data, file)


def check(data, made, expected) -> None:
    folder = made[data.draw(st.sampled_from(FORMATS), "format")]
    kind, name = data.draw(damages(folder), "damage")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "it"
        shutil.copytree(folder, place)
        do(data, place, kind, name)
        try:
            contents = open_checkpoint(place)
            contents.check(NETWORK)
            found = {path: np.asarray(leaf) for path, leaf in contents.params.items()}
        except UserError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 2000
            return
    assert found.keys() == expected.keys()
    different = [path for path in expected if not np.array_equal(found[path], expected[path])]
    # Other numbers in the place of numbers are not noticed by any of the formats.
    numbers = kind in ("swap", "flip") and (is_weights(folder / name) or name == "checkpoint")
    assert not different or numbers


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)
@hypothesis.given(data=st.data())
def test_a_damaged_folder_loads_as_it_was_or_is_refused(made, expected, data):
    check(data, made, expected)


@pytest.mark.faults
@hypothesis.settings(
    max_examples=600, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)  # fmt: skip
@hypothesis.given(data=st.data())
def test_many_damaged_folders_load_as_they_were_or_are_refused(made, expected, data):
    check(data, made, expected)
