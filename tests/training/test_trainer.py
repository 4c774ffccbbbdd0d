"""A whole finetuning: learning, saving, validating, stopping and resuming."""

import dataclasses
import itertools
import json
import math
import os
import random
import shutil
import signal

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from sycophancy.errors import UserError
from sycophancy.model import sharding
from sycophancy.model.checkpoints import layout
from sycophancy.model.checkpoints.formats import load_params
from sycophancy.model.checkpoints.orbax import save_params
from sycophancy.training import trainer
from sycophancy.training.preemption import Preempted
from sycophancy.training.step import make_program
from sycophancy.training.trainer import NonFiniteLoss, finetune

LOGGED = {
    "step", "steps", "loss", "z_loss", "accuracy", "learning_rate",
    "examples_per_second", "tokens_per_second", "seconds_left",
}  # fmt: skip


VALIDATED = {"step", "validation_loss", "validation_exact_match"} | {
    f"{kind}/validation_{name}"
    for kind in ("intervention", "instructions")
    for name in ("loss", "exact_match", "rows")
}


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def logged(out):
    """The lines about training."""
    return [line for line in lines(out) if "loss" in line]


def validated(out):
    """The lines about held-out rows."""
    return [line for line in lines(out) if "validation_loss" in line]


def state_of(checkpoint):
    """Every array of a checkpoint, by name."""
    import orbax.checkpoint as ocp

    found = {}
    for item in ("params", "state"):
        handler = ocp.PyTreeCheckpointHandler()
        folder = checkpoint / item
        args = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(folder).tree
        )
        tree = handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=args))
        handler.close()
        found |= {f"{item}/{name}": array for name, array in layout.flatten(tree).items()}
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run):
    """The folder of an uninterrupted run, which the first test that needs it makes."""
    return {"out": tmp_path_factory.mktemp("whole")}


@pytest.fixture
def uninterrupted(whole, config, run):
    if "last" not in whole:
        whole["last"] = finetune(config, run, whole["out"])
    return whole


@pytest.fixture
def finished(uninterrupted, tmp_path):
    """A copy of the uninterrupted run's folder, to be damaged or continued."""
    return shutil.copytree(uninterrupted["out"], tmp_path / "finished")


def stop_at(patched, moments):
    """Sends SIGTERM to this process after each of these steps."""
    tick = trainer.Pace.tick

    def tick_and_stop(pace, step):
        tick(pace, step)
        if step in moments:
            os.kill(os.getpid(), signal.SIGTERM)

    patched.setattr(trainer.Pace, "tick", tick_and_stop)


@pytest.mark.slow  # the demo learns, too
def test_it_learns(changed, run, tmp_path):
    losses = []
    finetune(
        changed(finetune_steps=20, log_period=10),
        run,
        tmp_path,
        report=lambda step, metrics: losses.append((step, metrics["loss"])),
    )
    assert [step for step, _ in losses] == [10, 20]
    assert losses[-1][1] < 0.7 * losses[0][1]


def test_what_is_written(uninterrupted, network):
    out, last = uninterrupted["out"], uninterrupted["last"]
    assert last == out / "checkpoints/6"
    assert [line["step"] for line in lines(out)] == [0, 2, 4, 6, 6]
    assert [line["step"] for line in logged(out)] == [2, 4, 6]
    assert [line["step"] for line in validated(out)] == [0, 6]
    assert all(set(line) == LOGGED for line in logged(out))
    assert all(set(line) == VALIDATED for line in validated(out))
    assert all(math.isfinite(value) for line in lines(out) for value in line.values())
    assert logged(out)[-1]["seconds_left"] == 0
    assert list((out / "tensorboard").glob("events*"))
    trained = layout.flatten(load_params(last, network))
    assert all(array.dtype == np.float32 for array in trained.values())


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_resume_is_bitwise_identical(config, run, tmp_path, uninterrupted, seed, monkeypatch):
    """Stopped by SIGTERM at two drawn steps, in the middle of log periods too, and continued."""
    moments = sorted(random.Random(seed).sample(range(1, 6), 2))
    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        stop_at(patched, moments)
        for step in moments:
            with pytest.raises(Preempted, match=f"step {step} of 6"):
                finetune(config, run, tmp_path)
    assert signal.getsignal(signal.SIGTERM) is handler
    last = finetune(config, run, tmp_path)

    found, expected = state_of(last), state_of(uninterrupted["last"])
    assert found.keys() == expected.keys()
    different = [name for name in found if not np.array_equal(found[name], expected[name])]
    assert not different
    keys = ("step", "loss", "z_loss", "accuracy")
    assert [[line[k] for k in keys] for line in logged(tmp_path)] == [
        [line[k] for k in keys] for line in logged(uninterrupted["out"])
    ]
    assert validated(tmp_path) == validated(uninterrupted["out"])


def test_validation_changes_nothing_of_training(config, run, tmp_path, uninterrupted, monkeypatch):
    monkeypatch.setattr(trainer, "read_held_out", lambda *_: ([], []))
    last = finetune(config, run, tmp_path)
    assert validated(tmp_path) == []
    without, with_validation = state_of(last), state_of(uninterrupted["last"])
    assert without.keys() == with_validation.keys()
    assert all(np.array_equal(without[name], with_validation[name]) for name in without)


@pytest.mark.slow
def test_a_run_stopped_at_a_save_is_validated_when_it_continues(
    changed, run, tmp_path, monkeypatch
):
    """A save after SIGTERM must be quick, so its validation waits for the next start."""
    config = changed(finetune_steps=4, save_period=2)
    finetune(config, run, tmp_path / "whole")
    with monkeypatch.context() as patched:
        stop_at(patched, [2])
        with pytest.raises(Preempted):
            finetune(config, run, tmp_path / "stopped")
    assert [line["step"] for line in validated(tmp_path / "stopped")] == [0]
    finetune(config, run, tmp_path / "stopped")
    assert [line["step"] for line in validated(tmp_path / "whole")] == [0, 2, 4]
    assert validated(tmp_path / "stopped") == validated(tmp_path / "whole")


def test_without_held_out_rows_a_note_says_so_and_training_goes_on(changed, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    empty = pq.read_table(run / "prepare/instructions_validation.parquet").slice(0, 0)
    pq.write_table(empty, tmp_path / "run/prepare/instructions_validation.parquet")
    notes = []
    finetune(changed(finetune_steps=1), tmp_path / "run", tmp_path / "out", conclude=notes.append)
    assert validated(tmp_path / "out") == []
    assert len(logged(tmp_path / "out")) == 1
    (note,) = notes
    assert note.startswith("no validation: ")
    assert "instructions_validation.parquet has no rows" in note


def meshes(devices):
    """Every data x fsdp x model mesh of `devices` devices."""
    sizes = [size for size in range(1, devices + 1) if devices % size == 0]
    return [shape for shape in itertools.product(sizes, repeat=3) if math.prod(shape) == devices]


def three_steps(network, training, params, batch, shape):
    """Losses and parameters of three steps on a mesh."""
    mesh = sharding.make_mesh(shape, jax.devices()[: math.prod(shape)])
    program = make_program(network, training, mesh)
    state = program.start(sharding.put(params, sharding.shardings_of(program.state.params)))
    losses = []
    with jax.set_mesh(mesh):
        for _ in range(3):
            state, loss = program.step(state, sharding.put_batch(batch, mesh))
            losses.append(float(loss))
    return losses, jax.tree.map(np.asarray, state.params)


@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param([(2, 2, 2)], id="2x2x2"),
        *(
            pytest.param(meshes(devices), id=f"{devices} devices", marks=pytest.mark.slow)
            for devices in (2, 4, 8)
        ),
    ],
)
def test_the_mesh_does_not_change_the_losses(changed, network, params, batch, shapes):
    """Three steps on each mesh against one device: within 2e-5, the last parameters within 1e-4.

    In float32 only the order of sums differs; 1e-6 a step, which Adafactor's normalised updates
    may amplify where a gradient is near zero.
    """
    training = changed(batch_size=8, microbatches=1, dropout_rate=0.0).training
    rows = {name: np.asarray(value) for name, value in batch.items()}
    expected, last = three_steps(network, training, params, rows, (1, 1, 1))
    for shape in shapes:
        losses, trained = three_steps(network, training, params, rows, shape)
        np.testing.assert_allclose(losses, expected, rtol=2e-5, err_msg=str(shape))
        for a, b in zip(jax.tree.leaves(trained), jax.tree.leaves(last), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4, err_msg=str(shape))


def test_after_a_kill_no_step_is_in_the_journal_twice(changed, run, finished):
    """A resume drops lines after the last checkpoint, and a truncated line."""
    with (finished / "metrics.jsonl").open("a") as file:
        file.write('[1]\n{"step": "x"}\n{}\n{"step": 7, "loss": 1.0}\n{"step": 8, "lo')
    with (finished / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff")
    finetune(changed(finetune_steps=8), run, finished)
    assert [line["step"] for line in lines(finished)] == [0, 2, 4, 6, 6, 8, 8]


@pytest.mark.slow
def test_after_a_kill_before_the_first_save_no_validation_is_in_the_journal_twice(
    changed, run, tmp_path
):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "validation_loss": 1.0}\n')
    finetune(changed(finetune_steps=1), run, tmp_path)
    assert [line["step"] for line in validated(tmp_path)] == [0, 1]
    assert validated(tmp_path)[0]["validation_loss"] != 1.0


def test_a_finished_run_is_left_as_it_is(config, run, uninterrupted):
    before = (uninterrupted["out"] / "metrics.jsonl").read_text()
    assert finetune(config, run, uninterrupted["out"]) == uninterrupted["last"]
    assert (uninterrupted["out"] / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_only_the_newest_checkpoints_are_kept(changed, run, tmp_path):
    finetune(changed(save_period=2, keep_checkpoints=2), run, tmp_path)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["4", "6"]


def test_checkpoints_of_the_keep_period_are_always_kept(changed, run, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "read_held_out", lambda *_: ([], []))  # to save time
    finetune(
        changed(finetune_steps=4, save_period=1, keep_checkpoints=1, keep_period=2), run, tmp_path
    )
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "4"]


def test_save_minutes_saves_at_logged_steps(changed, run, tmp_path):
    finetune(changed(finetune_steps=3, save_minutes=0.0, keep_checkpoints=None), run, tmp_path)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]


def test_a_damaged_checkpoint_is_named(changed, run, finished):
    for data in (finished / "checkpoints/6/params").rglob("*"):
        if data.is_file():
            data.write_bytes(b"")
    with pytest.raises(UserError, match=r"checkpoints/6 cannot be read: .*; delete its folder"):
        finetune(changed(finetune_steps=8), run, finished)


@pytest.mark.slow
def test_a_damaged_last_step_is_set_aside_and_the_one_before_continued(
    changed, run, tmp_path, uninterrupted
):
    """The result is bit for bit that of a run without the damaged checkpoint."""
    finetune(changed(finetune_steps=4, save_period=2, keep_checkpoints=3), run, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints/4/state")
    notes = []
    last = finetune(changed(save_period=2, keep_checkpoints=3), run, tmp_path, note=notes.append)
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == ["4"]
    note = notes[0]
    assert "checkpoints/4 cannot be read: " in note
    assert "damaged/4, and step 2 is continued from" in note
    found, expected = state_of(last), state_of(uninterrupted["last"])
    assert not [name for name in found if not np.array_equal(found[name], expected[name])]
    assert [line["step"] for line in logged(tmp_path)] == [2, 4, 6]


@pytest.mark.slow
def test_nothing_is_moved_if_no_checkpoint_can_be_read(changed, run, tmp_path):
    finetune(changed(finetune_steps=2, save_period=1, keep_checkpoints=None), run, tmp_path)
    for step in ("1", "2"):
        shutil.rmtree(tmp_path / "checkpoints" / step / "params")
    with pytest.raises(UserError, match=r"checkpoints/2 cannot be read: .*; delete its folder"):
        finetune(changed(finetune_steps=4), run, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["1", "2"]


@pytest.mark.slow
def test_a_run_continues_on_another_mesh(changed, run, tmp_path, uninterrupted, network):
    finetune(changed(finetune_steps=3), run, tmp_path)
    last = finetune(changed(mesh=(1, 2, 4)), run, tmp_path)
    found, expected = load_params(last, network), load_params(uninterrupted["last"], network)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_checkpoint_is_not_continued_with_another_stream_of_batches(changed, run, finished):
    with pytest.raises(UserError, match="seed = 0, now it is 7"):
        finetune(changed(seed=7, finetune_steps=8), run, finished)


def test_a_non_finite_loss_names_its_step_and_saves_nothing(
    changed, run, tmp_path, params, network
):
    broken = jax.tree.map(np.copy, params)
    broken["decoder"]["decoder_norm"]["scale"][0] = np.inf
    save_params(tmp_path / "broken", broken, network)
    config = changed(log_period=4)
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, checkpoint=str(tmp_path / "broken"))
    )
    with pytest.raises(NonFiniteLoss, match="not finite at step 1"):
        finetune(config, run, tmp_path / "out")
    assert not list((tmp_path / "out/checkpoints").iterdir())


def test_a_checkpoint_of_another_size_is_refused(config, run, tmp_path):
    wider = dataclasses.replace(config.model.network, mlp_dim=48)
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, encoder_decoder=wider)
    )
    with pytest.raises(UserError, match=r"mlp/wi_0/kernel is \(16, 32\).*\(16, 48\)"):
        finetune(config, run, tmp_path)


def test_missing_rows_are_named(changed, tmp_path):
    config = changed(mixture_or_task_name="sycophancy_intervention")
    with pytest.raises(UserError, match=r"kept\.parquet does not exist"):
        finetune(config, tmp_path, tmp_path / "out")


@pytest.fixture
def half(config):
    """`config` with activations in bfloat16."""
    network = dataclasses.replace(config.model.network, dtype="bfloat16")
    training = dataclasses.replace(config.training, finetune_steps=2)
    model = dataclasses.replace(config.model, encoder_decoder=network)
    return dataclasses.replace(config, model=model, training=training)


def test_a_step_with_bfloat16_activations_gives_float32_parameters(half, batch):
    """Traced, not run."""
    training = dataclasses.replace(half.training, batch_size=8)
    mesh = sharding.make_mesh(training.mesh)
    program = make_program(half.model.network, training, mesh)
    with jax.set_mesh(mesh):
        state, loss = jax.eval_shape(program.step, program.state, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, loss))} == {np.dtype("float32")}


@pytest.mark.slow
def test_bfloat16_activations_keep_float32_parameters(half, run, tmp_path):
    last = finetune(half, run, tmp_path)
    assert state_of(last)["params/token_embedder/embedding"].dtype == np.float32
