"""The accelerators, what each has, and the slices they come in; without JAX."""

from __future__ import annotations

import dataclasses
import math
import re

from sycophancy.config.bounds import shortened
from sycophancy.errors import UserError

GIB = 2**30
MOST_CHIPS = 16_384  # the largest slice that is sold, of v5p, has 8,960


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip, at its peak rates.

    Attributes:
        peak_flops: dense bfloat16 operations a second.
        hbm_bytes: memory that one program may use. For a TPU this is the TPU compiler's number
            (libtpu 0.0.52, "exceeds available HBM"); for a GPU, its capacity less 8% for the
            runtime.
        hbm_bandwidth: bytes a second.
        link_bandwidth: bytes a second and direction of one interconnect link; two links of a chip
            make one axis of the torus. For a GPU: NVLink in one direction, as one axis.
        torus: number of axes of the interconnect.
        cores_per_name: cores of a chip, where cloud names count cores (`v4-32` has 16 chips), or 1.
        megacore: True if two cores of a chip run as one device; the compiler must be told so.
    """

    peak_flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    torus: int
    cores_per_name: int = 1
    megacore: bool = False


# TPUs: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e} gives the peaks of matrix units and memory, and
# 5e10 (v5e) and 1e11 (v5p, v6e) bytes a second for a link and direction. The table has a tenth less
# for links, as "How to Scale Your Model" does (jax-ml.github.io/scaling-book/tpus).
# GPUs: NVIDIA's data sheets for SXM boards, without sparsity; half of NVLink for one direction.
CHIPS = {
    "v4": Chip(275e12, int(30.75 * GIB), 1.2e12, 4.5e10, 3, cores_per_name=2, megacore=True),
    "v5e": Chip(197e12, int(15.75 * GIB), 8.19e11, 4.5e10, 2),
    "v5p": Chip(459e12, int(95.73 * GIB), 2.765e12, 9e10, 3, cores_per_name=2, megacore=True),
    "v6e": Chip(918e12, int(31.24 * GIB), 1.638e12, 9e10, 2),
    "a100": Chip(312e12, int(0.92 * 80 * GIB), 2.039e12, 1.5e11, 1),
    "h100": Chip(989e12, int(0.92 * 80 * GIB), 3.35e12, 2.25e11, 1),
    "h200": Chip(989e12, int(0.92 * 141e9), 4.8e12, 2.25e11, 1),
}
_GPUS = ("a100", "h100", "h200")
_CLOUD_SPELLINGS = {"v5litepod": "v5e"}

# Shapes of the slices with cloud names: axes of the torus -> chips -> shape.
_SHAPES = {
    2: {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"},
    3: {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8"},
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """The chips of one run.

    Attributes:
        kind: a key of `CHIPS`.
        shape: chips along each axis of the torus; one number for GPUs.
    """

    kind: str
    shape: tuple[int, ...]

    @property
    def chip(self) -> Chip:
        return CHIPS[self.kind]

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def is_tpu(self) -> bool:
        return self.kind not in _GPUS

    @property
    def topology(self) -> str:
        """The slice as JAX and `--topology` spell it, such as `v4:2x2x4`."""
        return f"{self.kind}:{'x'.join(map(str, self.shape))}"

    @property
    def name(self) -> str:
        """The slice as clouds spell it, such as `v4-32`: v4 and v5p count cores, others chips."""
        return f"{self.kind}-{self.chips * self.chip.cores_per_name}"

    def bandwidth(self, kind: str, group: int) -> float:
        """Bytes a second that leave a chip in a collective.

        Args:
            kind: one of `plan.hlo.KINDS`. A permute uses two links, as it reaches two neighbours.
            group: how many chips take part.
        """
        ring = self._ring_bandwidth(group)
        return min(ring, 2 * self.chip.link_bandwidth) if kind == "collective-permute" else ring

    def _ring_bandwidth(self, group: int) -> float:
        """Bytes a second that leave a chip in rings of `group` chips.

        A group of the whole slice uses every axis longer than 1; a smaller group is assumed to lie
        on one axis. An axis that closes to a ring is used in both directions, any other in one. In
        slices of v4 and v5p that consist of whole cubes of 4 x 4 x 4, all axes close to rings; on
        v5e and v6e, axes of 16 do.
        """
        cubes = self.chip.torus == 3 and all(size % 4 == 0 for size in self.shape)
        axes = [
            self.chip.link_bandwidth * (2 if cubes or (self.chip.torus == 2 and size == 16) else 1)
            for size in self.shape
            if size > 1
        ]
        return sum(axes) if group == self.chips else min(axes, default=self.chip.link_bandwidth)


def parse_slice(text: str) -> Slice:
    """Reads a slice from `v4:2x2x4`, `v4-32` or `h100:8`.

    Raises:
        UserError: an unknown chip, or a shape in which its slices do not come.

    Example:
        >>> parse_slice("v4-32").topology, parse_slice("v5e:4x4").name
        ('v4:2x2x4', 'v5e-16')
    """
    match = re.fullmatch(r"([a-z0-9]+)([:-])([0-9]{1,5}(?:x[0-9]{1,5})*)", text)
    kind = _CLOUD_SPELLINGS.get(match[1], match[1]) if match else ""
    if match is None or kind not in CHIPS:
        raise UserError(
            f"--topology {shortened(text)}: expected CHIP:SHAPE such as v4:2x2x4 or h100:8, or a "
            f"name such as v4-32; the chips are {', '.join(CHIPS)}"
        )
    chip, numbers = CHIPS[kind], tuple(map(int, match[3].split("x")))
    if match[2] == "-" and len(numbers) == 1 and kind not in _GPUS:
        shapes = {
            count * chip.cores_per_name: shape for count, shape in _SHAPES[chip.torus].items()
        }
        if numbers[0] not in shapes:
            known = ", ".join(f"{kind}-{count}" for count in shapes)
            raise UserError(f"--topology {text}: known names are {known}; or give {kind}:SHAPE")
        numbers = tuple(map(int, shapes[numbers[0]].split("x")))
    if len(numbers) != chip.torus or min(numbers) < 1:
        example = "8" if kind in _GPUS else _SHAPES[chip.torus][16]
        raise UserError(
            f"--topology {text}: {kind} comes in shapes of {chip.torus} numbers of at least 1, "
            f"as in {kind}:{example}"
        )
    if math.prod(numbers) > MOST_CHIPS:
        raise UserError(f"--topology {text}: expected at most {MOST_CHIPS:,} chips")
    return Slice(kind, numbers)
