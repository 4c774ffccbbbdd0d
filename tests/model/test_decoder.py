"""A decoder-only network against itself: packing, caches, tree masks, meshes."""

import dataclasses
import functools

import decoder_folders
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hf_folders import draw

from sycophancy.config.schema import DecoderConfig
from sycophancy.model import sharding
from sycophancy.model.checkpoints import families, layout
from sycophancy.model.decoder import UNUSED, DecoderTransformer, Room

GEMMA = families.parse(decoder_folders.CONFIGS["gemma 3"], "config.json")  # windows of 5
LLAMA = families.parse(decoder_folders.CONFIGS["llama 3, tied, biases"], "config.json")
RNG = np.random.default_rng(3)


LENGTH = 24


@pytest.fixture(scope="module")
def params():
    return {"params": draw(GEMMA)}


@pytest.fixture(scope="module")
def apply():
    return jax.jit(DecoderTransformer(GEMMA).apply)


@pytest.fixture(scope="module")
def alone(params, apply):
    """The logits of one row by itself; it is padded, because later tokens do not matter."""

    def logits(row):
        padded = np.zeros((1, LENGTH), np.int32)
        padded[0, : row.size] = row.ravel()
        return np.asarray(apply(params, padded))[0, : row.size]

    return logits


@pytest.fixture(scope="module")
def extend(params):
    """`extend` with a cache of 12 places: from the cache, tokens and places to logits and cache."""
    model = DecoderTransformer(GEMMA)

    @jax.jit
    def extend(cache, tokens, positions, first, mask=None):
        hidden, changed = model.apply(
            {**params, **cache}, tokens, positions, Room(first, 12), mask,
            method=model.extend, mutable=["cache"],
        )  # fmt: skip
        return model.apply(params, hidden, method=model.logits), changed

    return extend


def ids(*shape: int) -> np.ndarray:
    return RNG.integers(0, GEMMA.vocab_size, shape).astype(np.int32)


def assert_close(found, expected) -> None:
    np.testing.assert_allclose(found, expected, atol=2e-5 * float(np.abs(expected).max()), rtol=0)


def branches(*lengths: int) -> np.ndarray:
    """The tree mask of answers behind one prompt, with the lengths of all of them."""
    of = np.repeat(np.arange(len(lengths)), lengths)
    return np.tril((of[None] == 0) | (of[None] == of[:, None]))[None, None]


def test_packed_rows_equal_separate_rows(params, apply, alone):
    first, second = ids(9), ids(13)
    row = np.concatenate([first, second, np.zeros(2, np.int32)])[None]
    segments = np.repeat([[1, 2, 0]], [9, 13, 2], axis=1)
    packed = apply(params, row, segment_ids=segments)
    assert_close(packed[0, :9], alone(first))
    assert_close(packed[0, 9:22], alone(second))
    assert np.isfinite(packed).all()
    positions = np.concatenate([np.arange(9), np.arange(13), np.arange(2)])[None]
    assert_close(apply(params, row, positions.astype(np.int32), segments), packed)


def test_answers_behind_one_prompt_under_a_tree_mask_equal_separate_rows(params, apply, alone):
    prompt, short, long = ids(10), ids(4), ids(7)
    row = np.concatenate([prompt, short, long])[None]
    positions = np.concatenate([np.arange(14), np.arange(10, 17)])[None].astype(np.int32)
    found = apply(params, row, positions, mask=branches(10, 4, 7))
    assert_close(found[0, :14], alone(np.concatenate([prompt, short])))
    assert_close(found[0, 14:], alone(np.concatenate([prompt, long]))[10:])


def test_cached_decoding_equals_the_full_forward_pass_for_rows_of_different_lengths(
    params, extend, alone
):
    """The rows' prompts have 7 and 4 tokens, and both are continued by 5 tokens."""
    model = DecoderTransformer(GEMMA)
    prompts, further = ids(2, 7), ids(2, 5)
    lengths = np.array([7, 4], np.int32)
    positions = np.broadcast_to(np.arange(7, dtype=np.int32), (2, 7))
    positions = np.where(positions < lengths[:, None], positions, UNUSED)

    @jax.jit
    def step(cache, previous, positions, first):
        return model.apply(
            {**params, **cache}, previous, positions, Room(first, 12),
            method=model.step, mutable=["cache"],
        )  # fmt: skip

    prefilled, cache = extend({}, prompts, positions, 0)
    steps = []
    for i in range(5):
        logits, cache = step(cache, further[:, i], lengths + i, 7 + i)
        steps.append(logits)
    for row, length in enumerate(lengths):
        expected = alone(np.concatenate([prompts[row, :length], further[row]]))
        assert_close(prefilled[row, :length], expected[:length])
        assert_close(np.stack([logits[row] for logits in steps]), expected[length:])


def test_answers_behind_a_cached_prompt_equal_separate_rows(extend, alone):
    prompt, answers = ids(6), ids(2, 3)
    places = np.arange(12, dtype=np.int32)[None]
    _, cache = extend({}, prompt[None], places[:, :6], 0)
    mask = branches(6, 3, 3)[:, :, 6:]
    found, _ = extend(cache, answers.reshape(1, 6), np.tile(places[:, 6:9], 2), 6, mask)
    for row, answer in zip(found.reshape(2, 3, -1), answers, strict=True):
        assert_close(row, alone(np.concatenate([prompt, answer]))[6:])


def test_logits_at_wanted_positions_equal_those_of_all(params, alone):
    model, row = DecoderTransformer(GEMMA), ids(LENGTH)

    @jax.jit
    def at(place):
        hidden = model.apply(params, row[None], method=model.hidden)
        return model.apply(params, hidden[:, place], method=model.logits)

    assert at(5).shape == (1, GEMMA.vocab_size)
    assert_close(at(5)[0], alone(row)[5])


def test_rematerialisation_changes_no_gradient(params):
    row = ids(1, 8)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(network, params):
        return jax.grad(lambda p: DecoderTransformer(network).apply(p, row).mean())(params)

    plain = layout.flatten(gradient(GEMMA, params))
    assert all(np.abs(value).max() > 0 for value in plain.values())
    for policy in ("dots", "full"):
        again = gradient(dataclasses.replace(GEMMA, remat_policy=policy), params)
        for path, value in layout.flatten(again).items():
            np.testing.assert_allclose(value, plain[path], atol=1e-6, err_msg=path)


def test_dropout_is_drawn_by_the_key_and_only_where_it_is_enabled(params, alone):
    row = ids(LENGTH)
    dropping = DecoderTransformer(dataclasses.replace(GEMMA, dropout_rate=0.5))
    apply = jax.jit(dropping.apply, static_argnames="enable_dropout")
    assert_close(apply(params, row[None])[0], alone(row))
    once, again, other = (
        apply(params, row[None], enable_dropout=True, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.1


def test_activations_of_bfloat16_stay_near_float32_and_logits_are_float32(params, alone):
    row = ids(LENGTH)
    narrow = DecoderTransformer(dataclasses.replace(GEMMA, dtype="bfloat16"))
    hidden = jax.eval_shape(lambda: narrow.apply(params, row[None], method=narrow.hidden))
    assert hidden.dtype == jnp.bfloat16
    logits = jax.jit(narrow.apply)(params, row[None])[0]
    assert logits.dtype == jnp.float32
    expected = alone(row)
    assert 0 < np.abs(logits - expected).mean() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 4, 2)])
@pytest.mark.parametrize("network", [LLAMA, GEMMA], ids=["two key heads", "one key head"])
def test_logits_are_equal_on_every_mesh(network: DecoderConfig, shape):
    params, row = draw(network), ids(4, 8)
    model = DecoderTransformer(network)
    expected = jax.jit(model.apply)({"params": params}, row)
    mesh = sharding.make_mesh(shape)
    rules = sharding.logical_rules(network, mesh)
    placed = sharding.put(params, sharding.shardings_of(sharding.sharded_params(network, mesh)))

    @jax.jit
    def apply(params, tokens):
        with nn.logical_axis_rules(rules):
            return model.apply({"params": params}, tokens)

    with jax.set_mesh(mesh):
        found = apply(placed, sharding.put_batch({"tokens": row}, mesh)["tokens"])
    assert_close(found, expected)
    attention = placed["decoder"]["layers"]["self_attention"]
    parts = {name: attention[name]["kernel"].sharding.spec[-1] for name in ("query", "key")}
    # A single key head is not split: every device of the model axis computes it.
    assert parts == {"query": "model", "key": "model" if network is LLAMA else None}
