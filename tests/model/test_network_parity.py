"""The network against another implementation: transformers' T5 in torch."""

import hf_folders
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sycophancy.config.schema import NetworkConfig
from sycophancy.model.attention import RELPOS_MAX_DISTANCE, relative_position_bucket
from sycophancy.model.checkpoints import huggingface, layout
from sycophancy.model.checkpoints.formats import load_params
from sycophancy.model.network import Transformer

SHAPES = {
    "gated gelu, untied": NetworkConfig(
        vocab_size=64,
        emb_dim=32,
        num_heads=4,
        num_encoder_layers=3,
        num_decoder_layers=2,
        head_dim=8,
        mlp_dim=48,
    ),
    "gated relu, heads wider than the embedding": NetworkConfig(
        vocab_size=40,
        emb_dim=24,
        num_heads=3,
        num_encoder_layers=1,
        num_decoder_layers=1,
        head_dim=16,
        mlp_dim=40,
        mlp_activations=("relu", "linear"),
    ),
    "deep enough to be scanned, tied": NetworkConfig(
        vocab_size=50,
        emb_dim=16,
        num_heads=2,
        num_encoder_layers=6,
        num_decoder_layers=5,
        head_dim=8,
        mlp_dim=32,
        logits_via_embedding=True,
    ),
}


@pytest.fixture(params=SHAPES)
def network(request) -> NetworkConfig:
    return SHAPES[request.param]


@pytest.mark.extras
def test_logits_equal_transformers_on_padded_batches(network, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `hf`)")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    params = hf_folders.draw(network)
    huggingface.save(tmp_path / "hf", params, network, None)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "hf").eval()

    rng = np.random.default_rng(1)
    inputs = rng.integers(2, network.vocab_size, (4, 150))  # beyond the farthest bucket
    targets = rng.integers(2, network.vocab_size, (4, 7))
    for row, (length, answer) in enumerate([(150, 7), (131, 5), (9, 2), (1, 1)]):
        inputs[row, length:] = 0
        targets[row, answer:] = 0
    previous = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.tensor(inputs),
            attention_mask=torch.tensor(inputs > 0).long(),
            decoder_input_ids=torch.tensor(previous),
        ).logits.numpy()
    found = jax.jit(Transformer(network).apply)(
        {"params": params}, jnp.array(inputs), jnp.array(previous), jnp.array(targets)
    )
    real = targets > 0
    np.testing.assert_allclose(np.asarray(found)[real], expected[real], atol=1e-4, rtol=1e-4)


def test_hugging_face_round_trip_is_exact(network, tmp_path):
    params = hf_folders.draw(network)
    huggingface.save(tmp_path / "hf", params, network, None)
    again = layout.flatten(load_params(tmp_path / "hf", network))
    for path, array in layout.flatten(params).items():
        np.testing.assert_array_equal(again[path], array, err_msg=path)


def test_packed_examples_do_not_see_each_other(network):
    params = {"params": hf_folders.draw(network)}
    rng = np.random.default_rng(2)
    first, second = rng.integers(2, network.vocab_size, (2, 1, 5))
    answer, other = rng.integers(2, network.vocab_size, (2, 1, 3))
    apply = jax.jit(Transformer(network).apply)
    previous = np.pad(answer[:, :-1], ((0, 0), (1, 0)))
    alone = apply(params, jnp.array(first), jnp.array(previous), jnp.array(answer))

    def pack(a, b):
        return jnp.array(np.concatenate([a, b], axis=1))

    packed = apply(
        params,
        pack(first, second),
        pack(previous, np.pad(other[:, :-1], ((0, 0), (1, 0)))),
        pack(answer, other),
        encoder_segment_ids=pack(np.full((1, 5), 1), np.full((1, 5), 2)),
        decoder_segment_ids=pack(np.full((1, 3), 1), np.full((1, 3), 2)),
    )
    np.testing.assert_allclose(packed[:, :3], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_positions_share_buckets_only_when_far(bidirectional):
    distances = np.arange(-300, 301)
    buckets = np.asarray(relative_position_bucket(jnp.array(distances), bidirectional))
    past = buckets[:301][::-1]  # by growing distance into the past
    exact = 8 if bidirectional else 16
    assert past[:exact].tolist() == list(range(exact))
    assert (np.diff(past) >= 0).all()
    assert len(set(past[RELPOS_MAX_DISTANCE:])) == 1
    if bidirectional:
        assert (buckets[301:] == past[1:] + 16).all()
    else:
        assert (buckets[301:] == 0).all()
