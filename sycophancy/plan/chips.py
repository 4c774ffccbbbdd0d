"""What an accelerator has, and which slices there are; no JAX in here."""

from __future__ import annotations

import dataclasses
import math
import re

from sycophancy.config.bounds import shortened
from sycophancy.errors import UserError

GIB = 2**30
MOST_CHIPS = 16_384  # the largest slice there is, of v5p, has 8,960
Mesh = tuple[int, int, int]  # chips along data, fsdp and model


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip.

    Attributes:
      peak_flops: dense bfloat16 operations a second.
      hbm_bytes: what one program may have of the memory. For a TPU the TPU compiler's own number
        (libtpu 0.0.52, "exceeds available HBM"), for a GPU its capacity less 8% for the runtime.
      hbm_bandwidth: bytes a second.
      link_bandwidth: bytes a second and direction of one interconnect link; two links of a chip
        make one axis of the torus. For a GPU: NVLink in one direction, as one axis.
      torus: axes of the interconnect.
      cores_per_name: what cloud names count (`v4-32` has 32 cores, 16 chips).
      megacore: the two cores of a chip run as one device, which must be asked for.
    """

    peak_flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    torus: int
    cores_per_name: int = 1
    megacore: bool = False


# TPUs: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e} for the peaks of matrix units and memory. They
# give 5e10 (v5e) and 1e11 (v5p, v6e) bytes a second, link and direction; here a tenth less, which
# is what "How to Scale Your Model" counts on (jax-ml.github.io/scaling-book/tpus).
# GPUs: NVIDIA's data sheets, SXM boards, without sparsity; NVLink halved to one direction.
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
_SPELLINGS = {"v5litepod": "v5e", "v5p": "v5p", "v6e": "v6e", "v4": "v4", "v5e": "v5e"}

# The shape a cloud name stands for, by number of chips.
_SHAPES = {
    2: {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"},
    3: {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8"},
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that one run has.

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
        """As JAX and this command's `--topology` spell it, such as `v4:2x2x4`."""
        return f"{self.kind}:{'x'.join(map(str, self.shape))}"

    @property
    def name(self) -> str:
        """As clouds spell it, such as `v4-32`; that counts cores for v4 and v5p, else chips."""
        return f"{self.kind}-{self.chips * self.chip.cores_per_name}"

    def bandwidth(self, kind: str, group: int) -> float:
        """Bytes a second that leave a chip in collectives of a kind (`plan_hlo.KINDS`) and size.

        Permutes go to two neighbours at most, so over two links.
        """
        ring = self._ring_bandwidth(group)
        return min(ring, 2 * self.chip.link_bandwidth) if kind == "collective-permute" else ring

    def _ring_bandwidth(self, group: int) -> float:
        """Bytes a second that leave a chip in rings of `group` chips.

        A group that is the whole slice uses every axis longer than one, a smaller one is taken to
        lie on one. An axis is used in both directions where it closes to a ring: all of a v4 or v5p
        slice of whole cubes of 4 x 4 x 4, one of 16 on v5e and v6e. Else in one.
        """
        cubes = self.chip.torus == 3 and all(size % 4 == 0 for size in self.shape)
        axes = [
            self.chip.link_bandwidth * (2 if cubes or (self.chip.torus == 2 and size == 16) else 1)
            for size in self.shape
            if size > 1
        ]
        return sum(axes) if group == self.chips else min(axes, default=self.chip.link_bandwidth)


def parse_slice(text: str) -> Slice:
    """A slice from `v4:2x2x4`, `v4-32` or `h100:8`.

    Raises:
      UserError: an unknown chip, or a shape that such chips do not come in.

    Example:
        >>> parse_slice("v4-32").topology, parse_slice("v5e:4x4").name
        ('v4:2x2x4', 'v5e-16')
    """
    found = re.fullmatch(r"([a-z0-9]+)([:-])([0-9]{1,5}(?:x[0-9]{1,5})*)", text)
    kind = _SPELLINGS.get(found[1], found[1]) if found else ""
    if found is None or kind not in CHIPS:
        raise UserError(
            f"--topology {shortened(text)}: expected CHIP:SHAPE such as v4:2x2x4 or h100:8, or a "
            f"name such as v4-32; the chips are {', '.join(CHIPS)}"
        )
    chip, numbers = CHIPS[kind], tuple(map(int, found[3].split("x")))
    if found[2] == "-" and len(numbers) == 1 and kind not in _GPUS:
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
