"""Compiles a run's own programs for a TPU slice, without a TPU; works in a process of its own.

    python -m sycophancy.plan.compile < request.json

libtpu reads the environment when it is loaded, and JAX when it is imported: `plan.request` sets the
environment and starts this process. The last line of standard output is JSON, see `compiled`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh

from sycophancy.config.load import load_operative
from sycophancy.config.schema import Config, DecoderConfig, Network
from sycophancy.data.training_rows import DECODER_FEATURES
from sycophancy.errors import UserError
from sycophancy.model import sharding
from sycophancy.model.mesh import Shape
from sycophancy.plan import costs, dump
from sycophancy.plan.chips import parse_slice
from sycophancy.plan.hlo import Program
from sycophancy.scoring import answers
from sycophancy.scoring.batching import full_rows
from sycophancy.training.step import make_program

_POLL = 0.2  # seconds


def main() -> None:
    request = json.load(sys.stdin)
    config = load_operative(request["operative"], "the configuration")
    try:
        answer = compiled(
            config,
            request["topology"],
            request["program"],
            tuple(request["mesh"]),
            tuple(request["shape"]),
            Path(request["dump"]),
        )
    except UserError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
    os._exit(0)  # without waiting for the machine code, which is never run


def compiled(
    config: Config,
    topology: str,
    program: str,
    mesh: Shape,
    shape: tuple[int, int],
    folder: Path,
) -> dict[str, Any]:
    """Compiles one program and returns its memory and collectives on one chip of the slice.

    Args:
        config: the run.
        topology: as `parse_slice` reads it.
        program: `train` or `score`.
        mesh: data, fsdp, model.
        shape: encoder and decoder positions of a scored row.
        folder: an empty folder, to which the compiler still writes after this returns.

    Returns:
        `rows` of a batch, `seconds` to trace and to compile, `cpu_seconds` of both together, and
        either `needs` (the bytes of a chip that a program wants that does not fit) or `memory`
        (bytes by purpose), `collectives`, `matmul_flops` (of one chip) and `unknown_loops`.

    Raises:
        UserError: the mesh or batch does not fit the slice, or the compiler failed.
    """
    place = parse_slice(topology)
    cores = {"chip_config_name": "megacore"} if place.chip.megacore else {}
    devices = topologies.get_topology_desc(topology, platform="tpu", **cores).devices
    began, cpu = time.monotonic(), time.process_time()
    placed = sharding.make_mesh(mesh, devices)
    chosen = 1.0
    if program == "train":
        rows = config.training.batch_size
        lowered = _lowered_training(config, placed)
        if isinstance(config.model.network, DecoderConfig):  # the loss skips chunks of a row
            wanted, chunks = costs.logit_chunks(config.training)
            chosen = wanted / chunks
    else:
        splits = math.prod(placed.shape[axis] for axis in sharding.BATCH_AXES)
        tokens, network = answers.BATCH_TOKENS_ACCELERATOR, config.model.network
        rows = splits * full_rows(shape, tokens, network.vocab_size)
        lowered = _lowered_scoring(network, placed, (rows, *shape))
    traced = time.monotonic()
    verdict = _verdict(lowered, len(devices), folder, chosen)
    return {
        **verdict,
        "rows": rows,
        "seconds": [traced - began, time.monotonic() - traced],
        "cpu_seconds": time.process_time() - cpu,
    }


def _lowered_training(config: Config, mesh: Mesh) -> Any:
    """The training step as `training.trainer` compiles it."""
    training = config.training
    program = make_program(config.model.network, training, mesh)
    by_row = sharding.batch_sharding(mesh)
    batch = {
        name: jax.ShapeDtypeStruct((training.batch_size, length), jnp.int32, sharding=by_row)
        for name, length in _features(config)
    }
    with jax.set_mesh(mesh):
        return program.step.trace(program.state, batch).lower(lowering_platforms=("tpu",))


def _features(config: Config) -> Iterator[tuple[str, int]]:
    """The features of a batch of the training step, and their lengths."""
    training = config.training
    lengths = {"encoder": training.input_length, "decoder": training.target_length}
    if config.model.is_decoder:
        for name in DECODER_FEATURES:
            yield name, sum(lengths.values())
        return
    yield "encoder_input_tokens", lengths["encoder"]
    for name in ("input_tokens", "target_tokens", "loss_weights"):
        yield f"decoder_{name}", lengths["decoder"]
    if training.packing:
        for side, length in lengths.items():
            for name in ("segment_ids", "positions"):
                yield f"{side}_{name}", length


def _lowered_scoring(network: Network, mesh: Mesh, shape: tuple[int, int, int]) -> Any:
    """The scorer's program for one shape of row, with the parameters split as in training."""
    network = dataclasses.replace(network, dtype="float32", dropout_rate=0.0, remat_policy="none")
    by_row = sharding.batch_sharding(mesh)
    rows, inputs, targets = shape
    batch = [
        jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=by_row)
        for length in (inputs, targets, targets)
    ]
    params = sharding.sharded_params(network, mesh)
    with jax.set_mesh(mesh):
        traced = answers.make_program(network, mesh).trace(params, *batch)
        return traced.lower(lowering_platforms=("tpu",))


def _verdict(lowered: Any, chips: int, folder: Path, chosen: float) -> dict[str, Any]:
    """What the compiler decided, read as soon as it has written it; see `plan.dump`.

    Args:
        lowered: the program.
        chips: of the slice.
        folder: as for `compiled`.
        chosen: as for `hlo.Program`.

    Raises:
        UserError: the compiler failed for another reason than memory.
    """
    compiling: Future[Any] = ThreadPoolExecutor(1).submit(
        lowered.compile, compiler_options={"xla_dump_to": str(folder)}
    )
    while not (dump.is_complete(folder) or wait([compiling], _POLL).done):
        pass
    if dump.is_complete(folder):
        program = Program(dump.optimised_program(folder), chosen)
        return _measured(dump.memory(folder), program, chips)
    try:
        executable = compiling.result()
    except jax.errors.JaxRuntimeError as error:
        return {"needs": _needed(str(error))}
    # This compiler writes no such files: the whole compilation gives the same answer, later.
    sizes = executable.memory_analysis()
    memory = {
        "arguments": sizes.argument_size_in_bytes,
        "temporaries": sizes.temp_size_in_bytes,
        "output": sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
    }
    return _measured(memory, Program(executable.as_text(), chosen), chips)


def _measured(memory: dict[str, int], program: Program, chips: int) -> dict[str, Any]:
    return {
        "memory": memory,
        "collectives": [dataclasses.asdict(entry) for entry in program.collectives(chips)],
        "matmul_flops": program.matmul_flops(),
        "unknown_loops": program.unknown_loops,
    }


def _needed(message: str) -> float:
    """The bytes of a chip that a program wants, arguments included, from the compiler's message.

    Raises:
        UserError: the compiler failed for another reason.
    """
    size = re.search(r"\(([\d.]+)([KMG])\) exceeds available HBM", message) or re.search(
        r"Used ([\d.]+)([KMG]) of [\d.]+[KMG] hbm", message
    )
    if size is None:
        raise UserError(f"the TPU compiler failed: {' '.join(message.split())[:400]}")
    return float(size[1]) * {"K": 2**10, "M": 2**20, "G": 2**30}[size[2]]


if __name__ == "__main__":
    main()
