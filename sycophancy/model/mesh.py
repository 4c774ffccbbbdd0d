"""The shape of a device mesh, data x fsdp x model. Imports no JAX, so that `plan` can use it."""

from __future__ import annotations

import math

from sycophancy.config.schema import AUTO_MESH, MESH_AXES
from sycophancy.errors import UserError

Shape = tuple[int, int, int]


def filled(shape: Shape, devices: int) -> Shape:
    """Replaces a -1 in a mesh's shape, so that the mesh has all devices.

    >>> filled((-1, 1, 2), 8)
    (4, 1, 2)

    Raises:
      UserError: no mesh of this shape has exactly these devices.
    """
    known = math.prod(size for size in shape if size != -1)
    rest = devices // known if known > 0 else 0
    data, fsdp, model = (rest if size == -1 else size for size in shape)
    if shape.count(-1) > 1 or min(data, fsdp, model) < 1 or data * fsdp * model != devices:
        raise UserError(
            f"MESH {tuple(shape)} ({' x '.join(MESH_AXES)}) does not fit {devices} "
            f"device{'s' * (devices != 1)}; the product must be their number, and at most one size "
            "may be -1"
        )
    return data, fsdp, model


def auto_mesh(shape: Shape, state_bytes: int, memory: int | None) -> Shape:
    """Chooses the shape for AUTO_MESH by the model's size; returns any other shape unchanged.

    If parameters, gradients and moments fit into half of a device's memory, the devices split only
    the rows of a batch. Otherwise all devices split rows and parameters (fsdp). Splitting the
    parameters over only some of the devices would be slower: summing gradients over few devices
    costs more than gathering parameters from all (docs/scaling.md has the compiled figures).

    Args:
      shape: data, fsdp, model.
      state_bytes: bytes of parameters, gradients and the optimizer's moments.
      memory: bytes of memory of a device; None if unknown.
    """
    if shape != AUTO_MESH:
        return shape
    return (-1, 1, 1) if memory is None or state_bytes <= memory / 2 else (1, -1, 1)


def check_batch(batch_size: int, microbatches: int, shape: Shape) -> None:
    """Refuses a batch whose rows cannot be split evenly over devices and microbatches.

    Raises:
      UserError: the message names BATCH_SIZE, MICROBATCHES and the mesh.
    """
    parts = microbatches * shape[0] * shape[1]
    if batch_size < 1 or microbatches < 1 or batch_size % parts:
        raise UserError(
            f"BATCH_SIZE {batch_size} does not divide by {parts}: the mesh is "
            f"{shape[0]} data x {shape[1]} fsdp x {shape[2]} model, MICROBATCHES {microbatches}; "
            f"choose a multiple of {parts}, or give devices to model (--mesh fsdp=N,model=M)"
        )
