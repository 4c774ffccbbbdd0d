"""Adafactor against its paper's formulas, and layer by layer against plain optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sycophancy.model.checkpoints.layout import stack, unstack
from sycophancy.training.optimizer import adafactor

RATE = 0.01


def tree(seed, scale=1.0, wide=160):
    """An unstacked tree: two layers whose sizes differ, factored and unfactored tensors."""
    rng = np.random.default_rng(seed)

    def normal(*shape, size=1.0):
        return jnp.asarray(rng.normal(size=shape) * size * scale, jnp.float32)

    layers = {
        f"layers_{i}": {
            "attention": {"kernel": normal(130, wide, size=10.0**i)},
            "norm": {"scale": normal(130, size=3.0**i)},
        }
        for i in range(2)
    }
    return {"encoder": {**layers, "small": normal(3, 4)}, "embedding": normal(140, 130)}


def run(optimizer, params, gradients):
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_trees_close(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)


def test_stacked_layers_are_updated_like_separate_tensors():
    params, gradients = tree(0), [tree(seed, scale=0.1) for seed in (1, 2, 3)]
    apart, _ = run(adafactor(RATE), params, gradients)
    together, _ = run(adafactor(RATE), stack(params), [stack(g) for g in gradients])
    assert_trees_close(unstack(together), apart)


def test_unstacked_equals_optax():
    params, gradients = tree(0), [tree(seed, scale=0.1) for seed in (1, 2, 3)]
    ours, _ = run(adafactor(RATE), params, gradients)
    theirs, _ = run(optax.adafactor(RATE), params, gradients)
    assert_trees_close(ours, theirs)


def test_plain_optax_on_stacked_layers_differs():
    """Without per-layer statistics, the stacked tree would have another optimizer."""
    params, gradients = stack(tree(0)), [stack(tree(1, scale=0.1))]
    ours, _ = run(adafactor(RATE), params, gradients)
    naive, _ = run(optax.adafactor(RATE), params, gradients)
    kernel = ours["encoder"]["layers"]["attention"]["kernel"]
    other = naive["encoder"]["layers"]["attention"]["kernel"]
    assert float(jnp.max(jnp.abs(kernel - other))) > 1e-3


def test_factored_update_follows_the_paper():
    """Shazeer and Stern 2018, algorithm 4, in float64; relative steps, update clipping."""
    rng = np.random.default_rng(3)
    param = rng.normal(size=(130, 150))
    gradients = rng.normal(size=(3, 130, 150)) * np.array([1.0, 30.0, 0.01])[:, None, None]
    expected, rows, columns = param.copy(), np.zeros(130), np.zeros(150)
    for t, gradient in enumerate(gradients, start=1):
        decay = 1 - t**-0.8
        square = gradient**2 + 1e-30
        rows = decay * rows + (1 - decay) * square.mean(axis=1)
        columns = decay * columns + (1 - decay) * square.mean(axis=0)
        update = gradient / np.sqrt(np.outer(rows, columns) / rows.mean())
        update /= max(1.0, np.sqrt(np.mean(update**2)))
        expected -= RATE * max(1e-3, np.sqrt(np.mean(expected**2))) * update
    found, _ = run(
        adafactor(RATE),
        {"w": jnp.asarray(param, jnp.float32)},
        [{"w": jnp.asarray(g, jnp.float32)} for g in gradients],
    )
    np.testing.assert_allclose(found["w"], expected, rtol=1e-5, atol=1e-7)


def test_unfactored_update_follows_the_paper():
    param, gradient = np.array([2.0, -2.0]), np.array([0.5, -3.0])
    found, state = run(
        adafactor(RATE),
        {"w": jnp.asarray(param, jnp.float32)},
        [{"w": jnp.asarray(gradient, jnp.float32)}],
    )
    # At t = 1 the decay is 0, so the update is the gradient's sign, of root mean square 1.
    np.testing.assert_allclose(found["w"], param - RATE * 2.0 * np.sign(gradient), rtol=1e-6)
    np.testing.assert_allclose(state.v["w"], gradient**2, rtol=1e-6)


def test_a_zero_parameter_still_moves():
    found, _ = run(adafactor(RATE), {"w": jnp.zeros(4)}, [{"w": jnp.ones(4)}])
    np.testing.assert_allclose(found["w"], -RATE * 1e-3 * np.ones(4), rtol=1e-6)


def test_step_offset_equals_a_fresh_start():
    """T5X continues the pretrained count of steps; as the offset, it restarts the decay."""
    params, gradient = {"w": jnp.ones(4)}, {"w": jnp.arange(1.0, 5.0)}
    fresh, late = adafactor(RATE), adafactor(RATE, step_offset=1000)
    pretrained = late.init(params)._replace(
        count=jnp.asarray(1000, jnp.int32), v={"w": jnp.full(4, 7.0)}
    )
    expected, expected_state = fresh.update(gradient, fresh.init(params), params)
    found, found_state = late.update(gradient, pretrained, params)
    np.testing.assert_array_equal(found["w"], expected["w"])
    np.testing.assert_array_equal(found_state.v["w"], expected_state.v["w"])


@pytest.mark.parametrize(("wide", "factored"), [(127, False), (128, True)])
def test_moments_are_factored_from_a_size_of_128(wide, factored):
    state = adafactor(RATE).init(stack(tree(0, wide=wide)))
    v = state.v["encoder"]["layers"]["attention"]["kernel"]
    v_row = state.v_row["encoder"]["layers"]["attention"]["kernel"]
    assert (v.shape == (2, 1)) == factored
    assert (v_row.shape == (2, min(130, wide))) == factored
