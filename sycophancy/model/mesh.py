"""How devices are laid out, data x fsdp x model; arithmetic alone, so that `plan` may ask too."""

from __future__ import annotations

import math

from sycophancy.config.schema import AUTO_MESH, MESH_AXES
from sycophancy.errors import UserError

Shape = tuple[int, int, int]


def filled(shape: Shape, devices: int) -> Shape:
    """`shape` with its -1, if it has one, as what the others leave.

    Raises:
      UserError: the shape does not use up the devices.
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
    """`shape` itself, or for AUTO_MESH one that a finetuning fits on.

    Where parameters and gradients fit half of a device, rows alone are shared; else all devices
    share both, because a gradient's sum over few devices costs more than parameters gathered
    from all (docs/scaling.md has the compiled figures).

    Args:
      shape: data, fsdp, model.
      state_bytes: of parameters and gradients.
      memory: bytes of a device; None where nothing says.
    """
    if shape != AUTO_MESH:
        return shape
    return (-1, 1, 1) if memory is None or state_bytes <= memory / 2 else (1, -1, 1)


def check_batch(batch_size: int, microbatches: int, shape: Shape) -> None:
    """Refuses a batch whose rows cannot be dealt out evenly.

    Raises:
      UserError: naming BATCH_SIZE, MICROBATCHES and the mesh.
    """
    parts = microbatches * shape[0] * shape[1]
    if batch_size < 1 or microbatches < 1 or batch_size % parts:
        raise UserError(
            f"BATCH_SIZE {batch_size} does not divide by {parts}: the mesh is "
            f"{shape[0]} data x {shape[1]} fsdp x {shape[2]} model, MICROBATCHES {microbatches}; "
            f"choose a multiple of {parts}, or give devices to model (--mesh fsdp=N,model=M)"
        )
