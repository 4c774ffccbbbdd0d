"""Rows of decoder-only models: what SeqIO packs, with the loss on the answer alone."""

import dataclasses
import functools

import decoder_networks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from sycophancy.config.schema import TrainingConfig
from sycophancy.errors import UserError
from sycophancy.model import sharding
from sycophancy.model.decoder import DecoderTransformer
from sycophancy.training.decoder_rows import (
    FEATURES,
    DecoderConverter,
    check_loss_weights,
    decoder_rows,
)
from sycophancy.training.loss import loss_sums, sparse_token_losses, token_losses
from sycophancy.training.step import batch_losses, make_program

LENGTHS = {"inputs": 12, "targets": 5}
examples = st.lists(
    st.tuples(
        st.lists(st.integers(0, 49), min_size=1, max_size=LENGTHS["inputs"]),
        st.lists(st.integers(0, 49), min_size=1, max_size=LENGTHS["targets"]),
    ),
    min_size=1,
    max_size=8,
)


def converted(rows, packing: bool) -> list[dict[str, np.ndarray]]:
    """The features that SeqIO gets from the converter."""
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"inputs": inputs, "targets": targets} for inputs, targets in rows),
        output_signature={name: tf.TensorSpec([None], tf.int32) for name in LENGTHS},
    )
    return list(DecoderConverter(packing)(dataset, LENGTHS).as_numpy_iterator())


def unpacked(rows) -> list[tuple[list[int], list[int], list[int]]]:
    """Input tokens, targets and weights of each example in rows, in their order."""
    found = []
    for row in rows:
        for segment in range(1, row["decoder_segment_ids"].max(initial=0) + 1):
            inside = row["decoder_segment_ids"] == segment
            assert row["decoder_positions"][inside].tolist() == list(range(inside.sum()))
            names = ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights")
            found.append(tuple(row[name][inside].tolist() for name in names))
    return found


def put_into_rows(examples, packing: bool) -> list[dict[str, np.ndarray]]:
    """The features of rows with these examples, from the function that the converter calls."""
    longest = max(len(inputs) + len(targets) for inputs, targets in examples)
    tokens = np.full((len(examples), longest), -1)
    for row, (inputs, targets) in enumerate(examples):
        tokens[row, : len(inputs) + len(targets)] = [*inputs, *targets]
    prompts = np.array([len(inputs) for inputs, _ in examples])
    columns = decoder_rows(tokens, prompts, sum(LENGTHS.values()), packing)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@given(examples, st.booleans())
def test_every_example_is_whole_and_its_answer_alone_counts(rows, packing):
    expected = [
        (
            (inputs + targets)[:-1],
            (inputs + targets)[1:],
            [0] * (len(inputs) - 1) + [1] * len(targets),
        )
        for inputs, targets in rows
    ]
    found = put_into_rows(rows, packing)
    assert all(row[name].shape == (17,) for row in found for name in FEATURES)
    assert unpacked(found) == expected
    if not packing:
        assert len(found) == len(rows)


def test_the_converter_gives_these_rows_and_without_zeros_they_are_seqios():
    """SeqIO's converter has one place more for each example: its start of sequence."""
    rng = np.random.default_rng(0)
    rows = [
        (rng.integers(1, 50, rng.integers(1, 13)), rng.integers(1, 50, rng.integers(1, 6)))
        for _ in range(40)
    ]
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"inputs": inputs, "targets": targets} for inputs, targets in rows),
        output_signature={name: tf.TensorSpec([None], tf.int32) for name in LENGTHS},
    )
    for one, other in zip(converted(rows, True), put_into_rows(rows, True), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in FEATURES)
    theirs = seqio.PrefixLMFeatureConverter(pack=False)(dataset, LENGTHS).as_numpy_iterator()
    ours = unpacked(converted(rows, packing=False))
    for row, (tokens, targets, weights) in zip(theirs, ours, strict=True):
        size = len(tokens)
        assert row["decoder_input_tokens"][1 : size + 1].tolist() == tokens
        assert row["decoder_target_tokens"][1 : size + 1].tolist() == targets
        assert row["decoder_loss_weights"][1 : size + 1].tolist() == weights


@pytest.mark.parametrize("kind", decoder_networks.KINDS)
def test_packed_and_unpacked_rows_have_the_same_loss(kind):
    network = decoder_networks.KINDS[kind]
    params = decoder_networks.draw(network)
    rng = np.random.default_rng(1)
    sizes = rng.integers(2, 14, 9)
    tokens = np.full((9, 13), -1)
    for row, size in enumerate(sizes):
        tokens[row, :size] = rng.integers(0, 50, size)
    prompts = np.array([rng.integers(1, size) for size in sizes])

    def loss(packing: bool, length: int):
        batch = jax.tree.map(jnp.asarray, decoder_rows(tokens, prompts, length, packing))
        weights = batch["decoder_loss_weights"].astype(jnp.float32)
        found = jax.jit(functools.partial(batch_losses, DecoderTransformer(network)))(params, batch)
        return loss_sums(found, weights, 1e-4), len(weights)

    packed, few = loss(True, 40)
    apart, many = loss(False, 13)
    assert few < many == 9
    assert int(packed.tokens) == int(apart.tokens) == (sizes - prompts).sum()
    np.testing.assert_allclose(packed.loss, apart.loss, rtol=1e-5)


@pytest.mark.parametrize("length", [5, 16, 33])
def test_losses_at_few_positions_have_the_values_and_gradients_of_all(length):
    """Against logits at every position, with rows that count everywhere, somewhere and nowhere."""
    rng = np.random.default_rng(2)
    hidden = jnp.asarray(rng.normal(size=(3, length, 8)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(8, 20)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, 20, (3, length)), jnp.int32)
    weights = np.zeros((3, length), np.int32)
    weights[0] = 1
    weights[1, rng.integers(0, length, 3)] = 1

    def sums(losses):
        return loss_sums(losses, jnp.asarray(weights, jnp.float32), 1e-2)

    def sparse(hidden, kernel):
        return sparse_token_losses(lambda x: x @ kernel, hidden, targets, jnp.asarray(weights))

    def dense(hidden, kernel):
        return token_losses(hidden @ kernel, targets)

    sparse, dense = jax.jit(sparse), jax.jit(dense)
    found, expected = sums(sparse(hidden, kernel)), sums(dense(hidden, kernel))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found, expected = (
        jax.grad(lambda *arrays, of=losses: sums(of(*arrays)).loss, argnums=(0, 1))(hidden, kernel)
        for losses in (sparse, dense)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    counted = weights > 0
    np.testing.assert_array_equal(
        sparse(hidden, kernel).correct[counted], dense(hidden, kernel).correct[counted]
    )


@pytest.mark.parametrize("optimizer", ["adafactor", pytest.param("adamw", marks=pytest.mark.slow)])
def test_mesh_microbatches_and_remat_do_not_change_the_steps(optimizer):
    """Two key and value heads on four devices of the model axis: each computes both."""
    network = decoder_networks.LLAMA
    rng = np.random.default_rng(4)
    tokens, prompts = rng.integers(0, 50, (8, 9)), rng.integers(1, 9, 8)
    batch = decoder_rows(tokens, prompts, 9, packing=False)
    params = jax.tree.map(np.asarray, decoder_networks.draw(network))
    losses = []
    for shape, microbatches, remat in (((8, 1, 1), 1, "none"), ((1, 2, 4), 2, "full")):
        program = make_program(
            dataclasses.replace(network, remat_policy=remat),
            TrainingConfig(
                batch_size=8,
                microbatches=microbatches,
                dropout_rate=0.0,
                optimizer=optimizer,
                learning_rate=1e-2,
            ),
            mesh := sharding.make_mesh(shape),
        )
        with jax.set_mesh(mesh):
            placed = sharding.shardings_of(program.state.params)
            state = program.start(sharding.put(params, placed))
            losses.append([])
            for _ in range(3):
                state, loss = program.step(state, sharding.put_batch(batch, mesh))
                losses[-1].append(float(loss))
    assert losses[0][2] < losses[0][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_the_backward_pass_keeps_the_output_layer_once():
    """Not once for each chunk: that would be 16 times 2 MiB."""
    rows, length, width, vocabulary = 1, 256, 64, 8192
    batch = [jnp.zeros((rows, length), jnp.int32)] * 2

    def loss(hidden, kernel):
        losses = sparse_token_losses(lambda x: x @ kernel, hidden, *batch)
        return jnp.sum(losses.log_z)

    hidden, kernel = jnp.zeros((rows, length, width)), jnp.zeros((width, vocabulary))
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(hidden, kernel).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 5 * kernel.nbytes


@pytest.mark.parametrize(("weight", "which"), [(0, "no token"), (1, "every token")])
def test_a_batch_without_a_prompt_or_an_answer_is_refused(weight, which):
    batch = decoder_rows(np.array([[3, 4, 5]]), np.array([2]), 4, packing=True)
    check_loss_weights(batch)
    everywhere = np.full((1, 4), weight, np.int32)
    with pytest.raises(UserError, match=f"{which} of a batch counts in the loss"):
        check_loss_weights(batch | {"decoder_loss_weights": everywhere})
