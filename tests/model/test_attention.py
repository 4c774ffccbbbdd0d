"""T5's attention in parts and as one operation, against the textbook's."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sycophancy.model.attention import _attend_fused, _attend_in_parts, _has_fused


def textbook(query, key, value, mask, bias, kept):
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key)
    scores = scores if bias is None else scores + bias
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e10), axis=-1) * kept
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def drawn(rng, rows, heads, size, queries, keys, biased):
    """Arrays to differentiate by, and mask, dropout and weights of a sum over the output."""

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    arrays = [draw(rows, length, heads, size) for length in (queries, keys, keys)]
    arrays += [draw(1, heads, queries, keys)] if biased else []
    mask = jnp.asarray(rng.random((rows, 1, queries, keys)) < 0.7)
    kept = jnp.asarray(rng.random((rows, heads, 1, keys)) < 0.9, jnp.float32) / 0.9
    return arrays, mask, kept, draw(rows, queries, heads, size)


def values_and_gradients(attend, arrays, mask, kept, weights):
    def loss(query, key, value, bias=None):
        return jnp.sum(weights * attend(query, key, value, mask, bias, kept))

    return jax.tree.leaves(jax.value_and_grad(loss, tuple(range(len(arrays))))(*arrays))


def assert_equals_textbook(attend, asked):
    with jax.default_matmul_precision("float32"):
        found, expected = (values_and_gradients(f, *asked) for f in (attend, textbook))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("queries", [1, 16, 17, 70, 128])
def test_parts_of_the_queries_give_the_values_and_gradients_of_all(queries, biased):
    """70 queries are parts of 18, 18, 18 and 16."""
    asked = drawn(np.random.default_rng(queries), 3, 2, 4, queries, 21, biased)
    assert_equals_textbook(_attend_in_parts, asked)


@pytest.mark.parametrize("biased", [True, False])
def test_the_dropout_of_weights_can_be_applied_to_values(biased):
    asked = drawn(np.random.default_rng(7), 3, 2, 8, 16, 22, biased)
    assert_equals_textbook(functools.partial(_attend_fused, implementation="xla"), asked)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="JAX sees no GPU")
@pytest.mark.parametrize("biased", [True, False])
def test_the_gpus_attention_is_as_near_to_float32_as_that_in_parts(biased):
    arrays, *rest = drawn(np.random.default_rng(8), 4, 8, 64, 256, 128, biased)
    halves = [array.astype(jnp.bfloat16) for array in arrays]
    assert _has_fused(halves[0], halves[1])
    mask, kept, weights = rest

    def in_half(attend):
        def mixed(query, key, value, mask, bias, kept):
            half = kept.astype(jnp.bfloat16)
            return attend(query, key, value, mask, bias, half).astype(jnp.float32)

        return values_and_gradients(mixed, halves, mask, kept, weights)

    with jax.default_matmul_precision("float32"):
        exact = values_and_gradients(
            textbook, [half.astype(jnp.float32) for half in halves], mask, kept, weights
        )
    errors = [
        [
            float(jnp.linalg.norm(one.astype(jnp.float32) - other) / jnp.linalg.norm(other))
            for one, other in zip(in_half(attend)[1:], exact[1:], strict=True)
        ]
        for attend in (_attend_fused, _attend_in_parts)
    ]
    assert np.all(np.array(errors[0]) <= 1.5 * np.array(errors[1])), errors


@pytest.mark.parametrize("change", [{"dtype": jnp.float32}, {"queries": 15}, {"size": 12}])
def test_what_the_gpu_cannot_do_at_once_is_computed_in_parts(change, monkeypatch):
    gpu = types.SimpleNamespace(
        compute_capability="9.0", client=types.SimpleNamespace(platform_version="cuda 13000")
    )
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu])

    def asked(dtype=jnp.bfloat16, queries=16, size=64):
        return jax.ShapeDtypeStruct((2, queries, 4, size), dtype)

    assert _has_fused(asked(), asked())
    assert not _has_fused(asked(**change), asked())
    for older in ("7.5", None):
        gpu.compute_capability = older
        assert not _has_fused(asked(), asked())
    gpu.compute_capability = "9.0"
    gpu.client.platform_version = "rocm"
    assert not _has_fused(asked(), asked())
