"""The loss against closed forms and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sycophancy.training.loss import loss_sums, token_losses

Z = 1e-2


def cross_entropy(logits, targets, weights, z_loss):
    return loss_sums(token_losses(logits, targets), weights, z_loss)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 5, 11)) * 3, jnp.float32)
    targets = jnp.asarray(rng.integers(0, 11, (2, 5)), jnp.int32)
    weights = jnp.asarray([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], jnp.float32)
    return logits, targets, weights


def test_without_z_loss_equals_optax(batch):
    logits, targets, weights = batch
    per_token = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    found = cross_entropy(logits, targets, weights, 0.0)
    np.testing.assert_allclose(found.loss, jnp.sum(per_token * weights), rtol=1e-6)
    assert found.z_loss == 0
    assert found.tokens == 5


def test_z_loss_is_the_squared_log_normaliser(batch):
    logits, targets, weights = batch
    log_z = np.log(np.sum(np.exp(np.asarray(logits, np.float64)), axis=-1))
    expected = np.sum(Z * log_z**2 * weights)
    found = cross_entropy(logits, targets, weights, Z)
    np.testing.assert_allclose(found.z_loss, expected, rtol=1e-5)
    plain = cross_entropy(logits, targets, weights, 0.0)
    np.testing.assert_allclose(found.loss - plain.loss, expected, rtol=1e-4)


def test_uniform_logits_have_the_entropy_of_the_vocabulary():
    zeros = jnp.zeros((1, 3, 7))
    found = cross_entropy(zeros, jnp.ones((1, 3), jnp.int32), jnp.ones((1, 3)), Z)
    np.testing.assert_allclose(found.loss, 3 * (np.log(7) + Z * np.log(7) ** 2), rtol=1e-6)


def test_gradient_is_softmax_minus_target_scaled_by_the_z_loss(batch):
    logits, targets, weights = batch
    found = jax.grad(lambda x: cross_entropy(x, targets, weights, Z).loss)(logits)
    exact = np.asarray(logits, np.float64)
    log_z = np.log(np.sum(np.exp(exact), axis=-1, keepdims=True))
    softmax = np.exp(exact - log_z)
    one_hot = np.eye(11)[np.asarray(targets)]
    expected = ((1 + 2 * Z * log_z) * softmax - one_hot) * np.asarray(weights)[..., None]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_padding_changes_nothing(batch):
    logits, targets, weights = batch
    poisoned = jnp.where(weights[..., None] > 0, logits, 1e4 * jnp.ones_like(logits))
    found = cross_entropy(poisoned, targets, weights, Z)
    np.testing.assert_allclose(found, cross_entropy(logits, targets, weights, Z), rtol=1e-6)


def test_accuracy_counts_real_tokens_that_are_the_argmax(batch):
    logits, targets, weights = batch
    right = np.argmax(np.asarray(logits), -1) == np.asarray(targets)
    expected = np.sum(right * np.asarray(weights))
    assert cross_entropy(logits, targets, weights, Z).correct == expected
    sure = jax.nn.one_hot(targets, 11) * 10
    assert cross_entropy(sure, targets, weights, Z).correct == 5


def test_huge_logits_stay_finite():
    logits = jnp.asarray([[[1e4, -1e4, 0.0]]], jnp.float32)
    loss, gradient = jax.value_and_grad(
        lambda x: cross_entropy(x, jnp.ones((1, 1), jnp.int32), jnp.ones((1, 1)), 0.0).loss
    )(logits)
    np.testing.assert_allclose(loss, 2e4)
    np.testing.assert_allclose(gradient, [[[1.0, -1.0, 0.0]]], atol=1e-6)
