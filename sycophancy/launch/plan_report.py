"""A plan in words."""

from __future__ import annotations

from collections.abc import Iterator

from sycophancy.launch import plan_work as work
from sycophancy.launch.plan import Plan, Program
from sycophancy.launch.plan_chips import GIB

_WHAT = {
    "train": "training step",
    "score": "scoring, parameters whole on every chip",
    "score_sharded": "scoring, parameters split as in training (the stages do not do this yet)",
}


def lines(plan: Plan) -> Iterator[str]:
    """What `sycophancy plan` prints."""
    place, config = plan.place, plan.config
    data, fsdp, model = plan.mesh
    parameters = work.parameters(config.model.network)
    yield (
        f"{config.model.name} ({parameters / 1e6:,.0f} M parameters) on {place.name}: "
        f"{place.chips} chips of {place.chip.hbm_bytes / GIB:.0f} GiB ({place.topology}), "
        f"mesh {data} data x {fsdp} fsdp x {model} model, recipe {config.recipe}"
    )
    if not place.is_tpu:
        yield "an estimate: there is no compiler for this chip here, memory is arithmetic only"
    for program in plan.programs.values():
        yield ""
        yield from _program_lines(plan, program)
    yield ""
    yield from _hours(plan)
    yield _verdict(plan)


def _program_lines(plan: Plan, program: Program) -> Iterator[str]:
    yield f"{_WHAT[program.name]}: {program.rows} rows"
    if program.cpu_seconds:
        yield (
            f"  compiled    in {program.seconds:.0f} s ({program.cpu_seconds:.0f} s of processor "
            "time); the answer is kept"
        )
    if not program.fits:
        yield (
            f"  memory      does NOT fit: {_gib(program.needs)} needed, "
            f"{_gib(program.available)} a chip available"
        )
        return
    parts = ", ".join(f"{name} {_gib(size)}" for name, size in program.parts.items())
    share = program.needs / plan.place.chip.hbm_bytes
    yield f"  memory      {_gib(program.needs)} a chip ({share:.0%}): {parts}"
    if program.name == "train":
        yield (
            f"  operations  {plan.model_flops:.3g} a step, {plan.done_flops:.3g} with "
            "rematerialisation" + _checked(plan, program)
        )
    for found in program.collectives:
        yield (
            f"  {found.kind:<18} {found.count:5d} times among {found.group} chips, "
            f"{found.bytes / 2**20:,.0f} MiB, {found.sent / 2**20:,.0f} MiB sent"
        )
    if times := program.times:
        yield (
            f"  time        {times.best * 1e3:.3g} ms at best, bound by {times.bound}: compute "
            f"{times.compute * 1e3:.3g}, memory {times.memory * 1e3:.3g}, interconnect "
            f"{times.interconnect * 1e3:.3g}; {times.serial * 1e3:.3g} if nothing overlaps"
        )
    if program.name == "train" and plan.utilisation is not None and times:
        yield (
            f"  MFU         {plan.utilisation:.0%} at most, "
            f"{plan.utilisation * times.best / times.serial:.0%} if nothing overlaps"
        )


def _checked(plan: Plan, program: Program) -> str:
    if not program.matmul_flops:
        return ""
    return f" (the compiled program: {program.matmul_flops / plan.done_flops:.1%} of that)"


def _hours(plan: Plan) -> Iterator[str]:
    claims, held_out = work.prompts(plan.config)
    steps = plan.config.training.finetune_steps
    wanted = {
        "filter": (f"filtration of {claims:,} claims", 1),
        "train": (f"{steps:,} steps", 1),
        "evaluate": (f"two evaluations of {held_out:,} prompts", 2),
    }
    for name, (words, times) in wanted.items():
        hours = plan.hours(name) if name == "train" or plan.has_scoring else None
        if hours is not None:
            yield f"{words + ':':<42} {_duration(hours * times)} at best"


def _verdict(plan: Plan) -> str:
    bad = [program for program in plan.programs.values() if not program.fits]
    if not bad:
        return "fits: yes"
    advice = advice_of(plan) if not plan.programs["train"].fits else []
    if any(program.name == "score" for program in bad):
        rescued = plan.programs.get("score_sharded")
        advice.append(
            "scoring needs chips with more memory, or parameters split as in training"
            + (" (which fits)" if rescued and rescued.fits else "")
        )
    return "fits: NO; " + "; ".join(advice)


def advice_of(plan: Plan) -> list[str]:
    """What to change, the most telling first, when the training step does not fit."""
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


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
