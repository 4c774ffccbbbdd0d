"""What a run needs on a slice: memory, time and communication of its two compiled programs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from sycophancy.config.schema import Config, DecoderConfig, Network
from sycophancy.model.mesh import Shape, auto_mesh, check_batch, filled
from sycophancy.model.size import parameter_bytes, saved_activation_bytes, state_bytes
from sycophancy.plan import costs, prompts
from sycophancy.plan.chips import Slice
from sycophancy.plan.hlo import Collective
from sycophancy.plan.prompts import Prompts
from sycophancy.plan.request import ProgramName, answer_of
from sycophancy.scoring.batching import full_rows

# Compiled training steps need 0.86 to 1.45 times the closed form's bytes (docs/scaling.md).
_ESTIMATE_MARGIN = 0.4
_DECODER_MARGIN = 0.15  # of decoder-only models, whose closed form knows more; see there
# With a GPU's fused attention, steps of T5s needed 2 to 6% less than the sum of parameters,
# gradients, copies of the parameters and this factor of the activations' closed form; see there.
_FUSED_FACTOR, _FUSED_MARGIN = 1.75, 0.05
_SCORED_TOKENS = 2**14  # of a batch on each device, as the scorer chooses


@dataclasses.dataclass(frozen=True)
class Times:
    """Lower bounds of the seconds of a step, each at the chip's peak.

    Attributes:
        compute: matrix products.
        memory: bytes to and from the chip's memory.
        interconnect: collectives, done as rings.
    """

    compute: float
    memory: float
    interconnect: float

    @property
    def best(self) -> float:
        """Seconds if all three happen at the same time."""
        return max(self.compute, self.memory, self.interconnect)

    @property
    def serial(self) -> float:
        """Seconds if nothing overlaps."""
        return self.compute + self.memory + self.interconnect

    @property
    def bound(self) -> str:
        """Which of the three takes longest."""
        return max(
            ("compute", "memory", "interconnect"), key=lambda name: float(getattr(self, name))
        )


@dataclasses.dataclass(frozen=True)
class Program:
    """What one compiled program needs of each chip.

    Attributes:
        name: `train` or `score`.
        fits: the compiler's verdict; for GPUs, whether `needs` is at most the capacity.
        needs: bytes of memory a chip, arguments included; only those of the parameters where these
            alone are too large.
        parts: `needs` by purpose; empty where the compiler says that the program does not fit.
        rows: of a batch, on the whole slice; 0 if unknown.
        times: of a batch; None where it does not fit, and for GPUs.
        collectives: of a batch.
        matmul_flops: of a batch on the whole slice, from the program; 0 if it was not compiled.
        unknown_loops: loops whose number of iterations is unknown; they are counted once.
        seconds: to trace and compile.
        cpu_seconds: of processor time for the same.
    """

    name: ProgramName
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
        config: the run.
        place: the slice.
        mesh: data, fsdp, model.
        needed_flops: operations of a step that the model needs, on the whole slice.
        done_flops: the same with those that rematerialisation repeats.
        train: the training step.
        score: a batch of prompts, for filtration and evaluation, in float32. Whatever SCORE_DTYPE
            is, some batches are, so this decides the memory.
    """

    config: Config
    place: Slice
    mesh: Shape
    needed_flops: float
    done_flops: float
    train: Program
    score: Program

    @property
    def programs(self) -> tuple[Program, Program]:
        return self.train, self.score

    def training_hours(self) -> float | None:
        """Hours of all training steps, at best; None where a step does not fit, and for GPUs."""
        if self.train.times is None:
            return None
        return self.config.training.finetune_steps * self.train.times.best / 3600

    @property
    def scored_first(self) -> Times | None:
        """Times of a batch in the type that all items are scored in."""
        times = self.score.times
        if times is None or self.config.score_dtype == "float32":
            return times
        return Times(times.compute / costs.FLOAT32_PASSES, times.memory / 2, times.interconnect / 2)

    def scoring_hours(self, asked: Sequence[Prompts], *, exact: bool = False) -> float | None:
        """Hours to score prompts, at best; None where a batch does not fit, and for GPUs.

        A text that is written takes at least as long as one that is scored.

        Args:
            asked: the prompts of one stage.
            exact: all of them are scored in float32.
        """
        first, again = self.scored_first, self.score.times
        if first is None or again is None:
            return None
        network = self.config.model.network
        compiled = costs.forward_flops(network, 1, *prompts.CLAIM_SHAPE).total
        batches = sum(
            math.ceil(kind.count / self.score.rows)
            * costs.forward_flops(network, 1, *kind.shape).total
            / compiled
            for kind in asked
        )
        seconds = again.best
        if not exact and self.config.score_dtype != "float32":
            sampled = min(costs.SAMPLED / max(prompts.total(asked), 1), 1.0)
            seconds = first.best + min(sampled + costs.CLOSE_SHARE, 1.0) * again.best
        return batches * seconds / 3600

    @property
    def utilisation(self) -> float | None:
        """Model FLOPs utilisation (MFU) of a step in the best time."""
        peak = self.place.chips * self.place.chip.peak_flops
        return self.needed_flops / peak / self.train.times.best if self.train.times else None


def make_plan(config: Config, place: Slice) -> Plan:
    """Compiles a run's programs for a slice; for GPUs, it estimates their memory instead.

    Args:
        config: the run; its MESH is the one planned for.
        place: the slice.

    Raises:
        UserError: the mesh or batch does not fit the slice, libtpu is missing, or the compiler
            failed for another reason than memory.
    """
    training = config.training
    state = state_bytes(config.model.network, training.optimizer)
    mesh = filled(auto_mesh(training.mesh, state, place.chip.hbm_bytes), place.chips)
    check_batch(training.batch_size, training.microbatches, mesh)
    needed, done = costs.step_flops(config.model.network, training)
    program = _compiled if place.is_tpu else _estimated
    train, score = (program(config, place, mesh, name) for name in ("train", "score"))
    return Plan(config, place, mesh, needed, done, train, score)


def _estimated(config: Config, place: Slice, mesh: Shape, name: ProgramName) -> Program:
    """A program whose memory is estimated by closed forms, as there is no compiler to ask."""
    network, training = config.model.network, config.training
    state, splits = parameter_bytes(network), mesh[1] * mesh[2]
    parts = {"parameters": state / splits}
    moments, margin = 0.0, _ESTIMATE_MARGIN
    if name == "train":
        rows = training.batch_size
        rows_at_once = rows // (mesh[0] * mesh[1] * training.microbatches)
        lengths, fused = (training.input_length, training.target_length), _is_fused(network)
        saved = saved_activation_bytes(network, rows_at_once, *lengths, pairs=not fused)
        parts |= {"gradients": state / splits, "activations": saved / mesh[2]}
        if fused:
            parts["activations"] *= _FUSED_FACTOR
            parts["working copies"] = state / 2 / splits
            margin = _FUSED_MARGIN
        if isinstance(network, DecoderConfig):
            parts["working copies"] = costs.working_bytes(network, mesh)
            margin = _DECODER_MARGIN
        moments = (state_bytes(network, training.optimizer) - 2 * state) / splits
    else:
        rows_at_once = full_rows(prompts.CLAIM_SHAPE, _SCORED_TOKENS, network.vocab_size)
        rows = mesh[0] * mesh[1] * rows_at_once
        layer = _one_layer(network)
        parts["activations"] = saved_activation_bytes(layer, rows_at_once, *prompts.CLAIM_SHAPE)
    parts["else"] = margin * sum(parts.values())
    if moments:  # the update changes them in place
        parts["moments"] = moments
    needs = sum(parts.values())
    return Program(name, needs <= place.chip.hbm_bytes, needs, parts, rows)


def _is_fused(network: Network) -> bool:
    """Whether attention keeps nothing for pairs, and no activation is computed again."""
    is_t5 = not isinstance(network, DecoderConfig)
    return is_t5 and network.dtype == "bfloat16" and network.remat_policy == "none"


def _one_layer(network: Network) -> Network:
    """A layer of each stack, as the scorer computes it."""
    if isinstance(network, DecoderConfig):
        return dataclasses.replace(network, dtype="float32", remat_policy="none", num_layers=1)
    return dataclasses.replace(
        network,
        dtype="float32",
        remat_policy="none",
        num_encoder_layers=1,
        num_decoder_layers=1,
    )


def _compiled(config: Config, place: Slice, mesh: Shape, name: ProgramName) -> Program:
    """The program that the compiler makes, unless the parameters alone are larger than a chip."""
    share = parameter_bytes(config.model.network) / (mesh[1] * mesh[2])
    if share > place.chip.hbm_bytes:
        return Program(name, False, share, {"parameters": share}, 0)
    answer = answer_of(config, place, mesh, name)
    memory, flops = answer.get("memory", {}), answer.get("matmul_flops", 0.0) * place.chips
    collectives = tuple(Collective(**fields) for fields in answer.get("collectives", ()))
    return Program(
        name=name,
        fits="needs" not in answer,
        needs=answer.get("needs", sum(memory.values())),
        parts=memory,
        rows=answer["rows"],
        times=_times(config, place, mesh, name, flops, collectives) if memory else None,
        collectives=collectives,
        matmul_flops=flops,
        unknown_loops=answer.get("unknown_loops", ()),
        seconds=sum(answer["seconds"]),
        cpu_seconds=answer["cpu_seconds"],
    )


def _times(
    config: Config,
    place: Slice,
    mesh: Shape,
    name: ProgramName,
    flops: float,
    collectives: Sequence[Collective],
) -> Times:
    chip = place.chip
    if name == "train":
        moved = costs.step_bytes(config, mesh)
    else:
        moved = costs.scoring_bytes(config.model.network, mesh)
        flops *= costs.FLOAT32_PASSES
    return Times(
        compute=flops / place.chips / chip.peak_flops,
        memory=moved / chip.hbm_bandwidth,
        interconnect=sum(c.sent / place.bandwidth(c.kind, c.group) for c in collectives),
    )
