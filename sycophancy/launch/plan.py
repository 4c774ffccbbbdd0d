"""`sycophancy plan`: what a run needs on a slice, from the real compiler, without the slice."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from sycophancy.config import Config
from sycophancy.launch import plan_work as work
from sycophancy.launch.plan_chips import Slice
from sycophancy.launch.plan_hlo import Collective
from sycophancy.launch.plan_mesh import Mesh, check_batch, chosen, resolved
from sycophancy.launch.plan_request import answer_of


@dataclasses.dataclass(frozen=True)
class Times:
    """Least seconds of a step by what bounds it, each at its peak.

    Attributes:
      compute: matrix products.
      memory: bytes to and from the chip's memory.
      interconnect: collectives as rings.
    """

    compute: float
    memory: float
    interconnect: float

    @property
    def best(self) -> float:
        """All three at the same time."""
        return max(self.compute, self.memory, self.interconnect)

    @property
    def serial(self) -> float:
        """One after the other."""
        return self.compute + self.memory + self.interconnect

    @property
    def bound(self) -> str:
        return max(
            ("compute", "memory", "interconnect"), key=lambda name: float(getattr(self, name))
        )


@dataclasses.dataclass(frozen=True)
class Program:
    """What one compiled program asks of each chip.

    Attributes:
      name: `train`, `score` or `score_sharded`.
      fits: whether it compiled; for GPUs whether the estimate is below the capacity.
      needs: bytes of memory a chip; of a program that does not fit, what the compiler says it
        would take, which for training leaves out the arguments where it says so.
      parts: `needs` by what it is for; empty where it does not fit.
      available: bytes of memory that the compiler has to give.
      rows: of a batch, on the whole slice.
      times: of a batch; None where it does not fit, and for GPUs.
      collectives: of a batch.
      matmul_flops: of a batch on the whole slice, from the program; 0 if it was not compiled.
      seconds: to trace and compile; cpu_seconds: of processor time.
    """

    name: str
    fits: bool
    needs: float
    parts: Mapping[str, float]
    available: float
    rows: int
    times: Times | None
    collectives: Sequence[Collective] = ()
    matmul_flops: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run on a slice.

    Attributes:
      mesh: data, fsdp, model.
      model_flops: what a step needs of the whole slice; done_flops adds rematerialisation.
      programs: by name.
    """

    config: Config
    place: Slice
    mesh: Mesh
    model_flops: float
    done_flops: float
    programs: Mapping[str, Program]

    @property
    def has_scoring(self) -> bool:
        return "score" in self.programs

    @property
    def scoring(self) -> Program:
        """The scoring that fits, or else the one that the stages do."""
        return min(
            (p for name, p in self.programs.items() if name != "train"), key=lambda p: not p.fits
        )

    def hours(self, name: str) -> float | None:
        """Hours of all training steps, filtration or one evaluation, at best."""
        if name == "train":
            times = self.programs["train"].times
            return self.config.training.finetune_steps * times.best / 3600 if times else None
        score = self.scoring
        claims, held_out = work.prompts(self.config)
        count, shape = (
            (claims, work.CLAIM_SHAPE) if name == "filter" else (held_out, work.EVALUATION_SHAPE)
        )
        if score.times is None:
            return None
        longer = _scored(self.config, 1, shape) / _scored(self.config, 1, work.CLAIM_SHAPE)
        return math.ceil(count / score.rows) * longer * score.times.best / 3600

    @property
    def utilisation(self) -> float | None:
        """Needed operations over what the chips could have done in the best time (MFU)."""
        times = self.programs["train"].times
        peak = self.place.chips * self.place.chip.peak_flops
        return self.model_flops / peak / times.best if times else None


def make_plan(
    config: Config, place: Slice, *, scoring: bool = True, only_cached: bool = False
) -> Plan:
    """Compiles a run's programs for a slice, or reads what an earlier call kept.

    Args:
      config: the run; its MESH is the one planned for.
      place: the slice. GPUs are not compiled for: memory is estimated.
      scoring: whether to plan filtration and evaluation too.
      only_cached: raise where something would have to be compiled.

    Raises:
      UserError: a mesh or batch that does not fit the slice; libtpu is missing; the compiler
        failed for another reason than memory.
    """
    mesh = resolved(chosen(config, place), place.chips)
    check_batch(config, mesh)
    needed, done = work.step_flops(config.model.network, config.training)
    names = ["train", "score"] if scoring else ["train"]
    programs = {name: _program(config, place, mesh, name, done, only_cached) for name in names}
    if scoring and not programs["score"].fits and place.is_tpu:
        programs["score_sharded"] = _program(
            config, place, mesh, "score_sharded", done, only_cached
        )
    return Plan(config, place, mesh, needed, done, programs)


def _estimated(config: Config, place: Slice, mesh: Mesh, name: str) -> Program:
    """Memory arithmetic, for what there is no compiler of here."""
    network, training = config.model.network, config.training
    state, shared = work.state_bytes(network), mesh[1] * mesh[2]
    if name == "train":
        rows = training.batch_size
        held = rows // (mesh[0] * mesh[1] * training.microbatches)
        parts = {
            "parameters": state / shared,
            "gradients": state / shared,
            "gathered": (2 if network.dtype == "bfloat16" else 4)
            * work.parameters(network)
            / mesh[2],
            "activations": work.saved_activation_bytes(
                network, held, training.input_length, training.target_length
            )
            / mesh[2],
        }
    else:
        plain = dataclasses.replace(network, dtype="float32", remat_policy="full")
        rows = place.chips * (2**14 // work.CLAIM_SHAPE[0])
        one_layer = dataclasses.replace(plain, num_encoder_layers=1, num_decoder_layers=1)
        held = rows // place.chips
        parts = {
            "parameters": float(state),
            "activations": work.saved_activation_bytes(
                dataclasses.replace(one_layer, remat_policy="none"), held, *work.CLAIM_SHAPE
            ),
        }
    needs = sum(parts.values())
    available = 0.92 * place.chip.hbm_bytes  # the rest is the runtime's and fragmentation's
    return Program(name, needs <= available, needs, parts, available, rows, None)


def _program(
    config: Config, place: Slice, mesh: Mesh, name: str, done: float, only_cached: bool
) -> Program:
    if not place.is_tpu:
        return _estimated(config, place, mesh, name)
    found = answer_of(config, place, mesh, name, only_cached)
    seconds = {"seconds": sum(found["seconds"]), "cpu_seconds": found["cpu_seconds"]}
    rows = found["rows"]
    if "needs" in found:
        return Program(name, False, found["needs"], {}, found["available"], rows, None, **seconds)
    collectives = tuple(Collective(**fields) for fields in found["collectives"])
    parts = {
        "arguments": found["arguments"],
        "temporaries": found["temporaries"],
        "output": found["output"] - found["aliased"],
        "code": found["code"],
    }
    return Program(
        name=name,
        fits=True,
        needs=sum(parts.values()),
        parts=parts,
        available=place.chip.hbm_bytes,
        rows=rows,
        times=_times(config, place, mesh, name, done, rows, collectives),
        collectives=collectives,
        matmul_flops=found["matmul_flops"] * place.chips,
        **seconds,
    )


def _times(
    config: Config,
    place: Slice,
    mesh: Mesh,
    name: str,
    done: float,
    rows: int,
    collectives: Sequence[Collective],
) -> Times:
    chip, shared = place.chip, mesh[1] * mesh[2]
    if name == "train":
        flops, moved = done, work.step_bytes(config, mesh[0] * mesh[1], shared)
    else:
        flops = work.FLOAT32_PASSES * _scored(config, rows, work.CLAIM_SHAPE)
        moved = work.state_bytes(config.model.network)
    return Times(
        compute=flops / place.chips / chip.peak_flops,
        memory=moved / chip.hbm_bandwidth,
        interconnect=sum(c.sent / place.ring_bandwidth(c.group) for c in collectives),
    )


def _scored(config: Config, rows: int, shape: tuple[int, int]) -> float:
    return work.forward_flops(config.model.network, rows, *shape).total
