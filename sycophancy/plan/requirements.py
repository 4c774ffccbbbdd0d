"""`sycophancy plan`: what a run needs on a slice, from the real compiler, without the slice."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from sycophancy.config.schema import Config
from sycophancy.model.mesh import auto_mesh, check_batch, filled
from sycophancy.plan import work as work
from sycophancy.plan.chips import Mesh, Slice
from sycophancy.plan.hlo import Collective
from sycophancy.plan.request import answer_of

Name = Literal["train", "score"]


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
      name: `train` or `score`.
      fits: the compiler's verdict; without a compiler, whether `needs` is below the capacity.
      needs: bytes of memory a chip, arguments included; where the parameters alone are too large,
        only theirs.
      parts: `needs` by what it is for; empty where the compiler says that it does not fit.
      rows: of a batch, on the whole slice; 0 if that is not known.
      times: of a batch; None where it does not fit, and for GPUs.
      collectives: of a batch.
      matmul_flops: of a batch on the whole slice, from the program; 0 if it was not compiled.
      unknown_loops: loops that were counted once, because how often they run could not be read.
      seconds: to trace and compile; cpu_seconds: of processor time.
    """

    name: Name
    fits: bool
    needs: float
    parts: Mapping[str, float]
    rows: int
    times: Times | None = None
    collectives: Sequence[Collective] = ()
    matmul_flops: float = 0.0
    unknown_loops: Sequence[str] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run on a slice.

    Attributes:
      mesh: data, fsdp, model.
      model_flops: what a step needs of the whole slice; done_flops adds rematerialisation.
      train: the training step.
      score: a batch of prompts, for filtration and evaluation; None if it was not asked for.
    """

    config: Config
    place: Slice
    mesh: Mesh
    model_flops: float
    done_flops: float
    train: Program
    score: Program | None = None

    @property
    def programs(self) -> tuple[Program, ...]:
        return (self.train, self.score) if self.score else (self.train,)

    def hours(self, stage: Literal["filter", "finetune", "evaluate"]) -> float | None:
        """Hours of filtration, all training steps or one evaluation, at best."""
        program = self.train if stage == "finetune" else self.score
        if program is None or program.times is None:
            return None
        if stage == "finetune":
            return self.config.training.finetune_steps * program.times.best / 3600
        claims, held_out = work.prompts(self.config)
        network, one = self.config.model.network, work.CLAIM_SHAPE
        count, shape = (claims, one) if stage == "filter" else (held_out, work.EVALUATION_SHAPE)
        longer = (
            work.forward_flops(network, 1, *shape).total
            / work.forward_flops(network, 1, *one).total
        )
        return math.ceil(count / program.rows) * longer * program.times.best / 3600

    @property
    def utilisation(self) -> float | None:
        """Needed operations over what the chips could have done in the best time (MFU)."""
        peak = self.place.chips * self.place.chip.peak_flops
        return self.model_flops / peak / self.train.times.best if self.train.times else None


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
    training, state = config.training, 2 * work.state_bytes(config.model.network)
    mesh = filled(auto_mesh(training.mesh, state, place.chip.hbm_bytes), place.chips)
    check_batch(training.batch_size, training.microbatches, mesh)
    needed, done = work.step_flops(config.model.network, config.training)

    def program(name: Name) -> Program:
        if not place.is_tpu:
            return _estimated(config, place, mesh, name)
        return _compiled(config, place, mesh, name, only_cached)

    train = program("train")
    return Plan(config, place, mesh, needed, done, train, program("score") if scoring else None)


def _estimated(config: Config, place: Slice, mesh: Mesh, name: Name) -> Program:
    """Memory arithmetic, for what there is no compiler of here.

    The TPU compiler wants 1.0 to 1.45 times what is counted here, see docs/scaling.md.
    """
    network, training = config.model.network, config.training
    state, shared = work.state_bytes(network), mesh[1] * mesh[2]
    if name == "train":
        rows = training.batch_size
        held = rows // (mesh[0] * mesh[1] * training.microbatches)
        parts = {
            "parameters": state / shared,
            "gradients": state / shared,
            "activations": work.saved_activation_bytes(
                network, held, training.input_length, training.target_length
            )
            / mesh[2],
        }
    else:
        held = 2**14 // work.CLAIM_SHAPE[0]
        rows = mesh[0] * mesh[1] * held
        one_layer = dataclasses.replace(
            network,
            dtype="float32",
            remat_policy="none",
            num_encoder_layers=1,
            num_decoder_layers=1,
        )
        parts = {
            "parameters": state / shared,
            "activations": work.saved_activation_bytes(one_layer, held, *work.CLAIM_SHAPE),
        }
    parts["else"] = 0.4 * sum(parts.values())
    needs = sum(parts.values())
    return Program(name, needs <= place.chip.hbm_bytes, needs, parts, rows)


def _compiled(config: Config, place: Slice, mesh: Mesh, name: Name, only_cached: bool) -> Program:
    """What the compiler says, unless the parameters alone are more than a chip holds."""
    least = work.state_bytes(config.model.network) / (mesh[1] * mesh[2])
    if least > place.chip.hbm_bytes:
        return Program(name, False, least, {"parameters": least}, 0)
    found = answer_of(config, place, mesh, name, only_cached)
    memory, flops = found.get("memory", {}), found.get("matmul_flops", 0.0) * place.chips
    collectives = tuple(Collective(**fields) for fields in found.get("collectives", ()))
    return Program(
        name=name,
        fits="needs" not in found,
        needs=found.get("needs", sum(memory.values())),
        parts=memory,
        rows=found["rows"],
        times=_times(config, place, mesh, name, flops, collectives) if memory else None,
        collectives=collectives,
        matmul_flops=flops,
        unknown_loops=found.get("unknown_loops", ()),
        seconds=sum(found["seconds"]),
        cpu_seconds=found["cpu_seconds"],
    )


def _times(
    config: Config,
    place: Slice,
    mesh: Mesh,
    name: Name,
    flops: float,
    collectives: Sequence[Collective],
) -> Times:
    chip = place.chip
    if name == "train":
        moved = work.step_bytes(config, mesh)
    else:
        moved = work.scoring_bytes(config.model.network, mesh)
        flops *= work.FLOAT32_PASSES
    return Times(
        compute=flops / place.chips / chip.peak_flops,
        memory=moved / chip.hbm_bandwidth,
        interconnect=sum(c.sent / place.bandwidth(c.kind, c.group) for c in collectives),
    )
