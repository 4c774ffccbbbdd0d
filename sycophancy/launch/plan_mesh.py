"""The mesh that is planned for: the rules of `training.sharding`, without JAX and its devices."""

from __future__ import annotations

import math

from sycophancy.config import Config
from sycophancy.errors import UserError
from sycophancy.launch import plan_work as work
from sycophancy.launch.plan_chips import Mesh, Slice


def chosen(config: Config, place: Slice) -> Mesh:
    """The configuration's mesh; (-1, -1, 1) as `training.sharding.resolve` reads it."""
    mesh = config.training.mesh
    if mesh != (-1, -1, 1):
        return mesh
    needed, count = 2 * work.state_bytes(config.model.network), place.chips
    sizes = [size for size in range(1, count + 1) if count % size == 0]
    fits = (size for size in sizes if needed / size <= place.chip.hbm_bytes / 2)
    return -1, next(fits, count), 1


def resolved(mesh: Mesh, chips: int) -> Mesh:
    """The mesh with its -1, if it has one, filled in.

    Raises:
      UserError: it does not use up the chips.
    """
    known = math.prod(size for size in mesh if size != -1)
    data, fsdp, model = (chips // known if size == -1 else size for size in mesh)
    if data * fsdp * model != chips:
        raise UserError(
            f"MESH {mesh} (data, fsdp, model) does not fit {chips} chips; "
            "the product must be their number, as in --mesh fsdp=-1"
        )
    return data, fsdp, model


def check_batch(config: Config, mesh: Mesh) -> None:
    """Refuses a batch whose rows cannot be dealt out evenly.

    Raises:
      UserError: naming BATCH_SIZE, MICROBATCHES and the mesh.
    """
    training, ways = config.training, mesh[0] * mesh[1]
    if training.batch_size % (training.microbatches * ways):
        raise UserError(
            f"BATCH_SIZE {training.batch_size} does not divide by "
            f"{training.microbatches * ways}: MICROBATCHES {training.microbatches} times "
            f"{ways} chips that share the rows; give the others to model (--mesh fsdp=N,model=M), "
            "or raise BATCH_SIZE"
        )
