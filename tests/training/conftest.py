"""A prepared run, a tiny network and its first checkpoint."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn
from prepared_run import write_run

from sycophancy.config.schema import (
    Config,
    DataConfig,
    Lengths,
    ModelConfig,
    NetworkConfig,
    TrainingConfig,
)
from sycophancy.model.checkpoints.orbax import save_params
from sycophancy.model.network import Transformer
from sycophancy.training import trainer

NETWORK = NetworkConfig(
    vocab_size=80,
    emb_dim=16,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=1,
    head_dim=8,
    mlp_dim=32,
)


# What may differ between finetunings that run the same compiled program.
OUTSIDE_THE_PROGRAM = {
    "finetune_steps": 1,
    "save_period": 1,
    "save_minutes": None,
    "keep_checkpoints": None,
    "keep_period": None,
    "log_period": 1,
    "mesh": (1, 1, 1),
}


OUTSIDE_THE_ROWS = {
    name: value for name, value in OUTSIDE_THE_PROGRAM.items() if name != "save_period"
}


@pytest.fixture(scope="package", autouse=True)
def one_compilation_for_equal_finetunings():
    """Compiles each finetuning and reads its held-out rows once.

    So it is, however many tests start, stop and resume it; `test_validation` reads them each time.
    """
    programs = {}
    make_program = trainer.make_program

    def make_program_once(network, training, mesh):
        key = (network, dataclasses.replace(training, **OUTSIDE_THE_PROGRAM), mesh)
        if key not in programs:
            programs[key] = make_program(network, training, mesh)
        return programs[key]

    held_out = {}
    read_held_out = trainer.read_held_out

    def read_held_out_once(training, data_dir, model):
        key = (dataclasses.replace(training, **OUTSIDE_THE_ROWS), str(data_dir), model)
        if key not in held_out:
            held_out[key] = read_held_out(training, data_dir, model)
        return held_out[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainer, "make_program", make_program_once)
        patched.setattr(trainer, "read_held_out", read_held_out_once)
        yield


@pytest.fixture(scope="session")
def network():
    return NETWORK


@pytest.fixture(scope="session")
def params():
    tokens = np.zeros((1, 2), np.int32)
    init = jax.jit(Transformer(NETWORK).init)
    variables = init(jax.random.key(0), tokens, tokens, tokens)
    return jax.tree.map(np.asarray, nn.unbox(variables["params"]))


@pytest.fixture(scope="session")
def batch():
    """Eight packed rows: two examples each, the last positions padding."""
    rng = np.random.default_rng(0)
    rows, inputs, targets = 8, 24, 10
    input_segments = np.tile(np.repeat([1, 2, 0], [10, 9, 5]), (rows, 1)).astype(np.int32)
    target_segments = np.tile(np.repeat([1, 2, 0], [4, 3, 3]), (rows, 1)).astype(np.int32)
    target_segments[0] = [1] * 2 + [0] * 8  # rows differ in their number of tokens
    real = target_segments > 0
    tokens = rng.integers(2, 80, (rows, targets)).astype(np.int32) * real
    starts = np.diff(target_segments, axis=1, prepend=0) != 0
    shifted = np.where(starts, 0, np.roll(tokens, 1, axis=1)) * real
    return {
        "encoder_input_tokens": rng.integers(2, 80, (rows, inputs)).astype(np.int32)
        * (input_segments > 0),
        "encoder_segment_ids": input_segments,
        "decoder_input_tokens": shifted.astype(np.int32),
        "decoder_target_tokens": tokens,
        "decoder_segment_ids": target_segments,
        "decoder_loss_weights": real.astype(np.int32),
    }


@pytest.fixture(scope="session")
def run(tmp_path_factory, params):
    """A run folder with data, vocabulary and the checkpoint to start from."""
    folder = write_run(tmp_path_factory.mktemp("run"))
    save_params(folder / "first", params, NETWORK)
    return folder


@pytest.fixture
def config(run):
    """Six steps with everything that could make a resumed run differ: dropout, two microbatches."""
    return Config(
        model=ModelConfig("tiny", NETWORK, str(run / "first"), str(run / "spiece.model")),
        data=DataConfig(),
        training=TrainingConfig(
            finetune_steps=6,
            batch_size=4,
            task_feature_lengths=Lengths(inputs=64, targets=16),
            learning_rate=1e-2,
            dropout_rate=0.1,
            microbatches=2,
            save_period=100,
            log_period=2,
            mesh=(2, 1, 4),
        ),
        filtration=True,
        trainer="jax",
        recipe="test",
        operative="",
    )


@pytest.fixture
def changed(config):
    """`config` with other training settings."""
    return lambda **changes: dataclasses.replace(
        config, training=dataclasses.replace(config.training, **changes)
    )
