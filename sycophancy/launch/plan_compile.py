"""Compiles the real steps for a TPU slice that is not there; a process of its own.

    python -m sycophancy.launch.plan_compile < request.json

libtpu reads the environment when it is loaded and JAX when it is imported, so `plan.py` sets both
and starts this. Standard output is one line of JSON, see `compiled`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sycophancy import batching, scoring
from sycophancy.config import Config, NetworkConfig, load_operative
from sycophancy.errors import UserError
from sycophancy.launch.plan_chips import parse_slice
from sycophancy.launch.plan_hlo import Program
from sycophancy.model.network import Transformer
from sycophancy.training import sharding
from sycophancy.training.optimizer import adafactor
from sycophancy.training.step import make_step, sharded_state


def main() -> None:
    request = json.load(sys.stdin)
    config = load_operative(request["operative"], "the configuration")
    mesh, shape = tuple(request["mesh"]), tuple(request["shape"])
    try:
        answer = compiled(config, request["topology"], request["program"], mesh, shape)
    except UserError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)


def compiled(
    config: Config,
    topology: str,
    program: str,
    mesh: tuple[int, int, int],
    shape: tuple[int, int],
) -> dict[str, Any]:
    """One program's memory and collectives on one chip of the slice.

    Args:
      config: the run.
      topology: `parse_slice` reads it.
      program: `train`, `score` (parameters whole on every chip, as the stages place them) or
        `score_sharded` (parameters as in training).
      mesh: data, fsdp, model.
      shape: encoder and decoder positions of a scored row.

    Returns:
      `seconds` to trace and to compile, `cpu_seconds` of both together, `rows` of a batch, and
      either `needs` and `available` (bytes of memory of a
      program that does not fit) or `arguments`, `temporaries`, `output`, `aliased` and `code`
      (bytes a chip), `collectives`, `matmul_flops` (of one chip) and `unknown_loops`.

    Raises:
      UserError: a mesh or batch that does not fit the slice.
    """
    wanted = parse_slice(topology)
    cores = {"chip_config_name": "megacore"} if wanted.chip.megacore else {}
    devices = topologies.get_topology_desc(topology, platform="tpu", **cores).devices
    began, cpu = time.monotonic(), time.process_time()
    rows = config.training.batch_size
    if program == "train":
        lowered = _lowered_training(config, sharding.make_mesh(mesh, devices))
    else:
        split = program == "score_sharded"
        flat = Mesh(np.array(devices), ("data",))
        placed = sharding.make_mesh(mesh, devices) if split else flat
        rows = _rows(config.model.network, placed, shape)
        lowered = _lowered_scoring(config.model.network, placed, (rows, *shape), split)
    traced = time.monotonic()
    try:
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        found: dict[str, Any] = _too_large(str(error))
    else:
        found = _measured(executable, len(devices))
    return {
        **found,
        "rows": rows,
        "seconds": [traced - began, time.monotonic() - traced],
        "cpu_seconds": time.process_time() - cpu,
    }


def _lowered_training(config: Config, mesh: Mesh) -> Any:
    """As `training.trainer` compiles it."""
    training = config.training
    sharding.check_batch(training.batch_size, training.microbatches, mesh)
    network = dataclasses.replace(config.model.network, dropout_rate=training.dropout_rate)
    optimizer = adafactor(training.learning_rate)
    state = sharded_state(network, optimizer, mesh)
    step = jax.jit(
        make_step(
            Transformer(network),
            optimizer,
            z_loss=training.z_loss,
            seed=training.seed,
            microbatches=training.microbatches,
            rules=sharding.logical_rules(network, mesh),
        ),
        donate_argnums=0,
        out_shardings=(sharding.shardings_of(state), sharding.replicated(mesh)),
    )
    by_row = sharding.batch_sharding(mesh)

    def rows(length: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((training.batch_size, length), jnp.int32, sharding=by_row)

    sides = {"encoder": training.input_length, "decoder": training.target_length}
    batch = {
        "encoder_input_tokens": rows(training.input_length),
        **{
            f"decoder_{name}": rows(training.target_length)
            for name in ("input_tokens", "target_tokens", "loss_weights")
        },
    }
    if training.packing:
        batch |= {
            f"{side}_{name}": rows(length)
            for side, length in sides.items()
            for name in ("segment_ids", "positions")
        }
    with jax.set_mesh(mesh):
        return step.trace(state, batch).lower(lowering_platforms=("tpu",))


def _rows(network: NetworkConfig, mesh: Mesh, shape: tuple[int, int]) -> int:
    """The rows `scoring.score` puts into a batch of this shape when there is no end of them."""
    inputs, targets = shape
    choices = {name: np.zeros(targets // 2, np.int32) for name in "ab"}
    question = batching.Question(np.zeros(inputs, np.int32), choices)
    splits = math.prod(mesh.shape[axis] for axis in _data_axes(mesh))
    many = [question] * (splits * scoring.BATCH_TOKENS_ACCELERATOR // inputs)
    tokens = scoring.BATCH_TOKENS_ACCELERATOR
    return next(batching.plan(many, splits, tokens, network.vocab_size))[1]


def _data_axes(mesh: Mesh) -> tuple[str, ...]:
    return tuple(axis for axis in scoring.DATA_AXES if axis in mesh.axis_names)


def _lowered_scoring(
    network: NetworkConfig, mesh: Mesh, shape: tuple[int, int, int], split: bool
) -> Any:
    """As `scoring.score` compiles it for one shape of row."""
    network = dataclasses.replace(network, dtype="float32", dropout_rate=0.0, remat_policy="none")
    if split:
        params = sharding.sharded_params(network, mesh)
    else:
        whole = NamedSharding(mesh, PartitionSpec())
        params = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
            sharding.nn.unbox(sharding.abstract_params(network)),
        )
    by_row = NamedSharding(mesh, PartitionSpec(_data_axes(mesh), None))
    rows, inputs, targets = shape
    batch = [
        jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=by_row)
        for length in (inputs, targets, targets)
    ]
    ask: Any = scoring._compiled(network, mesh)
    return ask.trace(params, *batch).lower(lowering_platforms=("tpu",))


def _measured(executable: Any, chips: int) -> dict[str, Any]:
    memory = executable.memory_analysis()
    program = Program(executable.as_text())
    return {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "output": memory.output_size_in_bytes,
        "aliased": memory.alias_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
        "collectives": [dataclasses.asdict(found) for found in program.collectives(chips)],
        "matmul_flops": program.matmul_flops(),
        "unknown_loops": program.unknown_loops,
    }


def _too_large(message: str) -> dict[str, Any]:
    """What a program would need, from the compiler's own words.

    Raises:
      UserError: the compiler failed for another reason.
    """
    sizes = re.search(r"\(([\d.]+)([KMG])\) exceeds available HBM \(([\d.]+)([KMG])\)", message)
    if sizes is None:
        used = re.search(r"Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm", message)
        if used is None:
            line = " ".join(message.split())[:400]
            raise UserError(f"the TPU compiler failed: {line}")
        sizes = used
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}
    return {
        "needs": float(sizes[1]) * unit[sizes[2]],
        "available": float(sizes[3]) * unit[sizes[4]],
    }


if __name__ == "__main__":
    main()
