"""One step: the mesh, the number of microbatches and a restart do not change it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sycophancy.model import sharding
from sycophancy.model.network import Transformer
from sycophancy.training.step import GOOD, init_state, make_step, named_key, sharded_state

SGD = optax.sgd(0.1)


@functools.cache
def step_on(network, mesh_shape, microbatches):
    """A step of plain gradient descent, compiled once; its mesh, and the state it expects.

    Its updates are the gradients themselves; Adafactor's would hide a wrong scale.
    """
    mesh = sharding.make_mesh(mesh_shape)
    expected = sharded_state(network, SGD, mesh)
    step = jax.jit(
        make_step(
            Transformer(network),
            SGD,
            z_loss=1e-4,
            seed=0,
            microbatches=microbatches,
            rules=sharding.logical_rules(network, mesh),
        ),
        out_shardings=(sharding.shardings_of(expected), sharding.replicated(mesh)),
    )
    return step, mesh, expected


def trained(network, params, batch, *, mesh_shape=(1, 1, 8), steps=3, microbatches=1, rate=0.0):
    """Losses and the state after steps of plain gradient descent."""
    network = dataclasses.replace(network, dropout_rate=rate)
    step, mesh, expected = step_on(network, mesh_shape, microbatches)
    # Placed as the step's results are, counters included: else the second step is compiled again.
    state = jax.device_put(init_state(params, SGD), sharding.shardings_of(expected))
    losses = []
    with jax.set_mesh(mesh):
        for _ in range(steps):
            state, loss = step(state, sharding.put_batch(batch, mesh))
            losses.append(float(loss))
    return losses, state


@pytest.fixture(scope="module")
def plain(network, params, batch):
    return trained(network, params, batch)


@pytest.mark.slow  # tests/training/test_trainer.py takes three steps on a mesh of 2x2x2
@pytest.mark.parametrize("mesh_shape", [(8, 1, 1), (1, 8, 1), (2, 2, 2), (4, 1, 2)])
def test_losses_do_not_depend_on_the_mesh(network, params, batch, plain, mesh_shape):
    losses, _ = trained(network, params, batch, mesh_shape=mesh_shape)
    np.testing.assert_allclose(losses, plain[0], rtol=1e-5)


@pytest.mark.parametrize("microbatches", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_microbatches_equal_the_full_batch(network, params, batch, plain, microbatches):
    losses, state = trained(network, params, batch, mesh_shape=(2, 1, 4), microbatches=microbatches)
    np.testing.assert_allclose(losses, plain[0], rtol=1e-5)
    for found, expected in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(plain[1].params), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=2e-6)
    for found, expected in zip(
        jax.tree.leaves(state.window), jax.tree.leaves(plain[1].window), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_window_counts_what_was_seen(batch, plain):
    window = jax.device_get(plain[1].window)
    assert window.loss.tokens == 3 * batch["decoder_loss_weights"].sum()
    assert window.examples == 3 * (7 * 2 + 1)
    assert window.input_tokens == 3 * (batch["encoder_input_tokens"] > 0).sum()
    np.testing.assert_allclose(window.loss.loss / window.loss.tokens, np.mean(plain[0]), rtol=1e-5)


def test_the_update_is_the_gradient_of_the_mean_loss(network, params, batch):
    """Against a loss written out with optax, by a directional derivative."""

    def mean_loss(tree):
        inputs = {name: rows for name, rows in batch.items() if "loss" not in name}
        logits = Transformer(network).apply({"params": tree}, **inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits, batch["decoder_target_tokens"]
        )
        penalty = 1e-4 * jax.nn.logsumexp(logits, axis=-1) ** 2
        weights = batch["decoder_loss_weights"].astype(np.float32)
        return jnp.sum((losses + penalty) * weights) / weights.sum()

    _, state = trained(network, params, batch, steps=1)
    expected = jax.jit(jax.grad(mean_loss))(params)
    found = jax.tree.map(lambda a, b: (a - b) / 0.1, params, jax.device_get(state.params))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_dropout_depends_on_the_step_and_not_on_the_mesh(network, params, batch, plain):
    same, _ = trained(network, params, batch, rate=0.5, steps=2)
    again, _ = trained(network, params, batch, rate=0.5, steps=2)
    elsewhere, _ = trained(network, params, batch, rate=0.5, steps=2, mesh_shape=(2, 2, 2))
    assert same == again
    np.testing.assert_allclose(elsewhere, same, rtol=1e-5)
    assert abs(same[0] - plain[0][0]) > 1e-3


def test_the_first_bad_step_is_kept(network, params, batch):
    broken = jax.tree.map(np.copy, params)
    broken["token_embedder"]["embedding"][:] = np.nan
    _, state = trained(network, broken, batch, steps=3)
    assert state.first_bad_step == 0
    _, state = trained(network, params, batch, steps=1)
    assert state.first_bad_step == GOOD


def test_keys_differ_by_name_and_seed():
    keys = [named_key(seed, name) for seed in (0, 1) for name in ("dropout", "data")]
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == 4
