"""T5's attention for parts of the queries, against the textbook's for all of them at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sycophancy.model.attention import _attend


def textbook(query, key, value, mask, bias, kept):
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key)
    scores = scores if bias is None else scores + bias
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e10), axis=-1) * kept
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("queries", [1, 16, 17, 70, 128])
def test_parts_of_the_queries_give_the_values_and_gradients_of_all(queries, biased):
    """70 queries are parts of 18, 18, 18 and 16."""
    rng = np.random.default_rng(queries)
    rows, heads, size, keys = 3, 2, 4, 21

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    query = draw(rows, queries, heads, size)
    key, value = draw(rows, keys, heads, size), draw(rows, keys, heads, size)
    bias = draw(1, heads, queries, keys) if biased else None
    mask = jnp.asarray(rng.random((rows, 1, queries, keys)) < 0.7)
    kept = jnp.asarray(rng.random((rows, heads, 1, keys)) < 0.9, jnp.float32) / 0.9
    weights = draw(rows, queries, heads, size)

    def loss(attend, *arrays):
        query, key, value, *rest = arrays
        return jnp.sum(weights * attend(query, key, value, mask, rest[0] if rest else None, kept))

    arrays = [query, key, value, *([bias] if biased else [])]
    found, expected = (
        jax.value_and_grad(lambda *given, of=attend: loss(of, *given), tuple(range(len(arrays))))(
            *arrays
        )
        for attend in (_attend, textbook)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
