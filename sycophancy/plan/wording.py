"""A plan in words."""

from __future__ import annotations

from collections.abc import Iterator

from sycophancy.plan import work as work
from sycophancy.plan.chips import GIB
from sycophancy.plan.requirements import Plan, Program

_WHAT = {"train": "training step", "score": "scoring, parameters split as in training"}


def lines(plan: Plan) -> Iterator[str]:
    """What `sycophancy plan` prints."""
    place, config = plan.place, plan.config
    data, fsdp, model = plan.mesh
    parameters = work.parameters(config.model.network)
    yield (
        f"{config.model.name} ({parameters / 1e6:,.0f} M parameters) on {place.name}: "
        f"{place.chips} chips of {place.chip.hbm_bytes / GIB:.2f} GiB ({place.topology}), "
        f"mesh {data} data x {fsdp} fsdp x {model} model, recipe {config.recipe}"
    )
    if not place.is_tpu:
        yield "an estimate: there is no compiler for this chip here, memory is arithmetic only"
    for program in plan.programs:
        yield ""
        yield from _program_lines(plan, program)
    yield ""
    yield from _hours(plan)
    yield _verdict(plan)


def _program_lines(plan: Plan, program: Program) -> Iterator[str]:
    yield _WHAT[program.name] + (f": {program.rows} rows" if program.rows else "")
    if program.cpu_seconds:
        yield (
            f"  compiler    asked for {program.seconds:.0f} s ({program.cpu_seconds:.0f} s of "
            "processor time); the answer is kept"
        )
    if not program.fits:
        whose = "for the parameters alone" if list(program.parts) == ["parameters"] else "needed"
        yield (
            f"  memory      does NOT fit: {_gib(program.needs)} {whose}, "
            f"{_gib(plan.place.chip.hbm_bytes)} a chip available"
        )
        return
    parts = ", ".join(f"{name} {_gib(size)}" for name, size in program.parts.items())
    share = program.needs / plan.place.chip.hbm_bytes
    yield f"  memory      {_gib(program.needs)} a chip ({share:.0%}): {parts}"
    if program.name == "train":
        yield (
            f"  operations  {plan.model_flops:.3g} a step, {plan.done_flops:.3g} with "
            "rematerialisation" + _checked(program, plan.done_flops)
        )
    elif program.times:
        flops = work.forward_flops(plan.config.model.network, program.rows, *work.CLAIM_SHAPE).total
        yield (
            f"  operations  {flops:.3g} a batch, each in {work.FLOAT32_PASSES} passes for float32"
            + _checked(program, flops)
        )
    for found in program.collectives:
        yield (
            f"  {found.kind:<18} {found.count:5d} times among {found.group} chips, "
            f"{found.bytes / 2**20:,.0f} MiB, {found.sent / 2**20:,.0f} MiB sent"
        )
    if program.unknown_loops:
        yield f"  counted once, their length is unknown: loops {', '.join(program.unknown_loops)}"
    if times := program.times:
        yield (
            f"  time        {times.best * 1e3:.3g} ms at best, bound by {times.bound}: compute "
            f"{times.compute * 1e3:.3g}, memory {times.memory * 1e3:.3g}, interconnect "
            f"{times.interconnect * 1e3:.3g}; {times.serial * 1e3:.3g} if nothing overlaps"
        )
        if program.name == "score":
            yield f"  prompts     {program.rows / times.best:,.0f} a second at most"
    if program.name == "train" and plan.utilisation is not None and times:
        yield (
            f"  MFU         {plan.utilisation:.0%} at most, "
            f"{plan.utilisation * times.best / times.serial:.0%} if nothing overlaps"
        )


def _checked(program: Program, flops: float) -> str:
    if not program.matmul_flops:
        return ""
    return f" (the compiled program: {program.matmul_flops / flops:.1%} of that)"


def _hours(plan: Plan) -> Iterator[str]:
    claims, held_out = work.prompts(plan.config)
    steps = plan.config.training.finetune_steps
    both = plan.hours("evaluate")
    wanted = {
        f"filtration of {claims:,} claims": plan.hours("filter"),
        f"{steps:,} steps": plan.hours("finetune"),
        f"two evaluations of {held_out:,} prompts": None if both is None else 2 * both,
    }
    for words, hours in wanted.items():
        if hours is not None:
            yield f"{words + ':':<42} {duration(hours)} at best"


def _verdict(plan: Plan) -> str:
    bad = [program.name for program in plan.programs if not program.fits]
    if not bad:
        return "fits: yes"
    whose = "scoring does not; " if bad == ["score"] else ""
    return f"fits: NO; {whose}" + "; ".join(advice_of(plan))


def advice_of(plan: Plan) -> list[str]:
    """What to change, the most telling first, when something does not fit."""
    training, network = plan.config.training, plan.config.model.network
    data, fsdp, model = plan.mesh
    state = work.state_bytes(network) / (fsdp * model)
    advice = []
    more = next(
        (
            ways
            for ways in range(plan.place.chips, fsdp, -1)
            if plan.place.chips % (ways * model) == 0
            and network.emb_dim % ways == 0
            and training.batch_size % (ways * training.microbatches) == 0
        ),
        None,
    )
    if more:
        advice.append(f"more fsdp: --mesh data=-1,fsdp={more},model={model}")
    if plan.train.fits:  # what follows is for training only
        return advice or ["a larger slice, or more model in --mesh"]
    if network.remat_policy != "full":
        advice.append("rematerialise: --set \"REMAT_POLICY='full'\"")
    parts = training.microbatches * 2
    if training.batch_size % (parts * data * fsdp) == 0:
        advice.append(f"smaller parts of a batch: --set MICROBATCHES={parts}")
    if not advice or state > 0.5 * plan.place.chip.hbm_bytes:
        advice.append("a larger slice, or more model in --mesh")
    return advice


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"


def duration(hours: float) -> str:
    """In the unit that suits it: hours, minutes or seconds."""
    if hours >= 1:
        return f"{hours:.1f} h"
    seconds = 3600 * hours
    if seconds >= 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
