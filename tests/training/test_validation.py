"""Validation against independent computations: greedy decoding, single rows, sampled mixtures."""

import dataclasses
import functools
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from prepared_run import rows as prepared_rows

from sycophancy.config.schema import Lengths
from sycophancy.model import sharding
from sycophancy.model.network import Transformer
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.training import held_out
from sycophancy.training.held_out import read_held_out
from sycophancy.training.loss import token_losses
from sycophancy.training.step import make_program
from sycophancy.training.validation import (
    HeldOut,
    ValidationSums,
    Validator,
    metrics_of,
    validation_sums,
)

END = 1


def shifted(targets):
    return np.pad(targets, ((0, 0), (1, 0)))[:, :-1]


@pytest.fixture(scope="module")
def decoded(network, params):
    """Prompts and the outputs of greedy decoding, one token at a time, without teacher forcing."""
    model = Transformer(network)
    inputs = np.random.default_rng(1).integers(2, 80, (6, 9)).astype(np.int32)
    written = np.zeros((6, 5), np.int32)
    apply = jax.jit(model.apply)
    for position in range(5):
        # The network masks positions whose target is padding: any token does for the last one.
        query = written.copy()
        query[:, position] = END
        logits = apply({"params": params}, inputs, shifted(query), query)
        written[:, position] = np.argmax(logits[:, position], axis=-1)
    assert (written > 0).all()
    return inputs, written


@functools.partial(jax.jit, static_argnums=0)
def measured(network, params, batch):
    logits = Transformer(network).apply(
        {"params": params},
        **{name: value for name, value in batch.items() if name != "decoder_loss_weights"},
    )
    return validation_sums(token_losses(logits, batch["decoder_target_tokens"]), batch)


def unpacked(inputs, targets):
    return {
        "encoder_input_tokens": inputs,
        "decoder_input_tokens": shifted(targets),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": (targets > 0).astype(np.int32),
    }


def test_a_row_matches_exactly_if_greedy_decoding_writes_its_target(network, params, decoded):
    inputs, targets = decoded[0], decoded[1].copy()
    assert float(measured(network, params, unpacked(inputs, targets)).matches) == 6
    targets[1, 0] = 2 + (targets[1, 0] - 1) % 78  # the first token is another
    targets[2, 4] = 2 + (targets[2, 4] - 1) % 78  # the last one
    targets[3, 3:] = 0  # a shorter target that greedy decoding begins with
    sums = measured(network, params, unpacked(inputs, targets))
    assert (float(sums.matches), float(sums.rows), float(sums.tokens)) == (4, 6, 28)


def test_packing_and_padding_change_nothing(network, params, decoded):
    """Two examples packed into a row, beside a row of padding, give the sums of the two alone."""
    inputs, targets = decoded[0][:2], decoded[1][:2].copy()
    targets[1, 2] = 2 + (targets[1, 2] - 1) % 78
    alone = measured(network, params, unpacked(inputs, targets))
    packed = {
        "encoder_input_tokens": inputs.reshape(1, -1),
        "encoder_segment_ids": np.repeat([[1, 2]], 9, axis=1).astype(np.int32),
        "decoder_input_tokens": shifted(targets).reshape(1, -1),
        "decoder_target_tokens": targets.reshape(1, -1),
        "decoder_segment_ids": np.repeat([[1, 2]], 5, axis=1).astype(np.int32),
        "decoder_loss_weights": np.ones((1, 10), np.int32),
    }
    padded = {name: np.pad(value, ((0, 1), (0, 0))) for name, value in packed.items()}
    together = measured(network, params, padded)
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    assert float(together.matches) == 1


def test_the_total_is_the_mean_over_the_tokens_that_the_mixture_draws():
    """The oracle samples rows 5 to 1, as the mixture does, and averages over their tokens."""
    rng = np.random.default_rng(0)
    rows = {
        "a": [(rng.uniform(0, 3), tokens) for tokens in (2, 2, 3)],
        "b": [(rng.uniform(0, 3), tokens) for tokens in (7, 11)],
    }
    sums = {
        kind: ValidationSums(
            loss=sum(loss for loss, _ in found),
            tokens=sum(tokens for _, tokens in found),
            matches=1,
            rows=len(found),
        )
        for kind, found in rows.items()
    }
    rates = {"a": 5.0, "b": 1.0}
    metrics = metrics_of(rates, sums)
    kinds = rng.choice(["a", "b"], p=[5 / 6, 1 / 6], size=200_000)
    drawn = np.array([rows[kind][rng.integers(len(rows[kind]))] for kind in kinds])
    assert metrics["validation_loss"] == pytest.approx(
        drawn[:, 0].sum() / drawn[:, 1].sum(), rel=0.01
    )
    assert metrics["validation_exact_match"] == pytest.approx((5 / 3 + 1 / 2) / 6)
    assert metrics["b/validation_loss"] == pytest.approx(sums["b"].loss / 18)
    assert metrics["a/validation_rows"] == 3
    alone = metrics_of({"b": 0.3}, {"b": sums["b"]})
    assert alone["validation_loss"] == pytest.approx(alone["b/validation_loss"])
    assert metrics_of({}, {}) == {}


@pytest.mark.parametrize(
    "shape",
    [
        (4, 2, 1),
        *(
            pytest.param(shape, marks=pytest.mark.slow)
            for shape in ((1, 1, 1), (2, 1, 4), (1, 4, 2))
        ),
    ],
)
def test_the_mesh_does_not_change_a_validation(changed, network, params, batch, shape):
    """The oracle sums over single rows on one device; the validator has batches on a mesh."""
    training = changed(batch_size=8, microbatches=1, dropout_rate=0.5).training
    mesh = sharding.make_mesh(shape, jax.devices()[: math.prod(shape)])
    program = make_program(network, training, mesh)
    placed = sharding.put(params, sharding.shardings_of(program.state.params))
    part = HeldOut("intervention", 1.0, (batch, batch))
    with jax.set_mesh(mesh):
        metrics = Validator([part], program.add_sums, mesh).measure(placed)
    single = [
        measured(network, params, {name: value[i : i + 1] for name, value in batch.items()})
        for i in range(8)
    ]
    loss, tokens, matches, rows = np.sum([jax.device_get(sums) for sums in single], axis=0)
    assert metrics["intervention/validation_rows"] == 2 * rows == 30
    assert metrics["validation_loss"] == pytest.approx(loss / tokens, rel=1e-5)
    assert metrics["validation_exact_match"] == matches / rows


def texts_of(part, vocabulary):
    """The prompts of a part's batches, decoded, in order."""
    found = []
    for batch in part.batches:
        segments = batch.get("encoder_segment_ids", batch["encoder_input_tokens"] > 0)
        for tokens, ids in zip(batch["encoder_input_tokens"], segments, strict=True):
            for number in range(1, ids.max() + 1):
                found.append(vocabulary.decode(tokens[ids == number][:-1].tolist()))
    return found


@pytest.mark.parametrize("packing", [True, False])
def test_every_held_out_row_is_read_once(changed, run, packing):
    training = changed(packing=packing, save_period=1600).training
    parts, notes = read_held_out(training, run, changed().model)
    assert notes == []
    assert [(part.kind, part.rate) for part in parts] == [
        ("intervention", 5.0),
        ("instructions", 1.0),
    ]
    vocabulary = Vocabulary(str(run / "spiece.model"))
    for part, name in zip(parts, ("intervention", "instructions"), strict=True):
        table = pq.read_table(run / f"prepare/{name}_validation.parquet")
        assert sorted(texts_of(part, vocabulary)) == sorted(table["inputs"].to_pylist())
        assert all(rows.shape[0] == 2 for batch in part.batches for rows in batch.values())


def test_a_short_save_period_takes_fewer_rows_and_the_same_first_ones(changed, run):
    """The budget: a batch for 16 steps between saves, shared by the two kinds."""
    vocabulary = Vocabulary(str(run / "spiece.model"))
    texts = []
    for period in (1, 64):
        training = changed(packing=False, save_period=period, microbatches=1).training
        parts, _ = read_held_out(training, run, changed().model)
        texts.append(texts_of(parts[0], vocabulary))
    assert [len(found) for found in texts] == [4, 8]
    assert texts[1][:4] == texts[0]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("sycophancy_mix_1to1", {"intervention": 1.0, "instructions": 1.0}),
        ("sycophancy_mix_0to1", {"instructions": 1.0}),
        ("instruction_tuning", {"instructions": 1.0}),
        ("sycophancy_intervention", {"intervention": 1.0}),
    ],
)
def test_only_the_kinds_of_the_mixture_are_read(changed, run, name, kinds):
    training = changed(mixture_or_task_name=name).training
    parts, notes = read_held_out(training, run, changed().model)
    assert {part.kind: part.rate for part in parts} == kinds
    assert notes == []


def test_a_rate_of_zero_leaves_a_kind_out(changed, run):
    training = changed(mixture_ratio=(0.0, 2.0)).training
    parts, _ = read_held_out(training, run, changed().model)
    assert [part.kind for part in parts] == ["instructions"]


def test_rows_that_are_too_long_are_left_out_and_counted(changed, run, tmp_path):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "prepare/intervention_validation.parquet"
    pq.write_table(prepared_rows("long", 10, words=(3, 60)), file)
    parts, (note,) = read_held_out(
        changed(save_period=1600, task_feature_lengths=Lengths(32, 16)).training,
        tmp_path,
        changed().model,
    )
    assert note.startswith("validation: sycophancy_intervention: ")
    read = len(texts_of(parts[0], Vocabulary(str(run / "spiece.model"))))
    assert f"{10 - read} of 10 rows" in note


def test_a_budget_never_exceeds_what_memory_should_hold(changed, run, monkeypatch):
    monkeypatch.setattr(held_out, "MOST_BATCHES", 1)
    training = dataclasses.replace(changed(save_period=10**9).training, packing=False)
    parts, _ = read_held_out(training, run, changed().model)
    assert all(len(part.batches) == 1 for part in parts)


def test_sums_stay_finite_for_a_batch_of_padding(network, params, batch):
    nothing = {name: np.zeros_like(value) for name, value in batch.items()}
    sums = measured(network, params, nothing)
    assert all(float(value) == 0 for value in sums)
    assert jnp.isfinite(jnp.stack(list(sums))).all()
