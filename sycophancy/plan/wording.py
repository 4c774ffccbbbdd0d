"""A plan as the lines that `sycophancy plan` prints."""

from __future__ import annotations

from collections.abc import Iterator

from sycophancy.model.size import parameter_bytes, parameter_count
from sycophancy.plan import costs, prompts
from sycophancy.plan.chips import GIB
from sycophancy.plan.requirements import Plan, Program

_TITLES = {"train": "training step", "score": "scoring, parameters split as in training"}


def lines(plan: Plan) -> Iterator[str]:
    """The lines for both programs, the hours of each stage, and whether the run fits."""
    place, config = plan.place, plan.config
    data, fsdp, model = plan.mesh
    parameters = parameter_count(config.model.network)
    yield (
        f"{config.model.name} ({parameters / 1e6:,.0f} M parameters) on {place.name}: "
        f"{place.chips} chips of {place.chip.hbm_bytes / GIB:.2f} GiB ({place.topology}), "
        f"mesh {data} data x {fsdp} fsdp x {model} model, recipe {config.recipe}"
    )
    if not place.is_tpu:
        yield "an estimate by closed forms, as there is no compiler for this chip"
    for program in plan.programs:
        yield ""
        yield from _program_lines(plan, program)
    yield ""
    yield from _hours(plan)
    yield _verdict(plan)


def _program_lines(plan: Plan, program: Program) -> Iterator[str]:
    yield _TITLES[program.name] + (f": {program.rows} rows" if program.rows else "")
    if program.cpu_seconds:
        yield (
            f"  compiler    answered in {program.seconds:.0f} s ({program.cpu_seconds:.0f} s of "
            "processor time)"
        )
    if not program.fits:
        purpose = "for the parameters alone" if list(program.parts) == ["parameters"] else "needed"
        yield (
            f"  memory      does NOT fit: {_gib(program.needs)} {purpose}, "
            f"{_gib(plan.place.chip.hbm_bytes)} a chip available"
        )
        return
    parts = ", ".join(f"{name} {_gib(size)}" for name, size in program.parts.items())
    share = program.needs / plan.place.chip.hbm_bytes
    yield f"  memory      {_gib(program.needs)} a chip ({share:.0%}): {parts}"
    if program.name == "train":
        yield (
            f"  operations  {plan.needed_flops:.3g} a step, {plan.done_flops:.3g} with "
            "rematerialisation" + _compared(program, plan.done_flops)
        )
    elif program.times:
        flops = costs.forward_flops(
            plan.config.model.network, program.rows, *prompts.CLAIM_SHAPE
        ).total
        yield (
            f"  operations  {flops:.3g} a batch, each in {costs.FLOAT32_PASSES} passes for float32"
            + _compared(program, flops)
        )
    for collective in program.collectives:
        yield (
            f"  {collective.kind:<18} {collective.count:5d} times among {collective.group} chips, "
            f"{collective.bytes / 2**20:,.0f} MiB, {collective.sent / 2**20:,.0f} MiB sent"
        )
    if program.unknown_loops:
        yield (
            "  counted once, as their iterations are unknown: loops "
            + ", ".join(program.unknown_loops)
        )
    if times := program.times:
        yield (
            f"  time        {times.best * 1e3:.3g} ms at best, bound by {times.bound}: compute "
            f"{times.compute * 1e3:.3g}, memory {times.memory * 1e3:.3g}, interconnect "
            f"{times.interconnect * 1e3:.3g}; {times.serial * 1e3:.3g} if nothing overlaps"
        )
        if program.name == "score":
            yield f"  prompts     {program.rows / times.best:,.0f} a second at most"
            first = plan.scored_first
            if first is not None and first != times:
                yield (
                    f"  bfloat16    {program.rows / first.best:,.0f} prompts a second at most; "
                    "close decisions are repeated in float32"
                )
    if program.name == "train" and plan.utilisation is not None and times:
        yield (
            f"  MFU         {plan.utilisation:.0%} at most, "
            f"{plan.utilisation * times.best / times.serial:.0%} if nothing overlaps"
        )


def _compared(program: Program, flops: float) -> str:
    """How the compiled program's matrix products compare with the closed form."""
    if not program.matmul_flops:
        return ""
    return f" (the compiled program: {program.matmul_flops / flops:.1%} of that)"


def _hours(plan: Plan) -> Iterator[str]:
    config = plan.config
    once, held_out = prompts.filtration(config), prompts.evaluation(config)
    tried, abilities = prompts.baselines(config), prompts.retention(config)
    wanted = {
        f"filtration of {prompts.total(once):,} claims": plan.scoring_hours(once),
        f"{config.training.finetune_steps:,} steps": plan.training_hours(),
        f"two evaluations of {prompts.total(held_out):,} prompts": plan.scoring_hours(
            [*held_out, *held_out]
        ),
    }
    if config.baselines:
        wanted[f"baselines, {prompts.total(tried):,} prompts"] = plan.scoring_hours(tried)
    if config.retention:
        words = f"other abilities, twice {prompts.total(abilities):,} prompts"
        wanted[words] = plan.scoring_hours([*abilities, *abilities], exact=True)
    for words, hours in wanted.items():
        if hours is not None:
            yield f"{words + ':':<42} {duration(hours)} at best"


def _verdict(plan: Plan) -> str:
    if all(program.fits for program in plan.programs):
        return "fits: yes"
    subject = "scoring does not; " if plan.train.fits else ""
    return f"fits: NO; {subject}" + "; ".join(advice_of(plan))


def advice_of(plan: Plan) -> list[str]:
    """What to change if a program does not fit, the most effective change first."""
    training, network = plan.config.training, plan.config.model.network
    data, fsdp, model = plan.mesh
    share = parameter_bytes(network) / (fsdp * model)
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
    if plan.train.fits:  # the rest is for training only
        return advice or ["a larger slice, or more model in --mesh"]
    if network.remat_policy != "full":
        advice.append("rematerialise: --set \"REMAT_POLICY='full'\"")
    parts = training.microbatches * 2
    if training.batch_size % (parts * data * fsdp) == 0:
        advice.append(f"smaller parts of a batch: --set MICROBATCHES={parts}")
    if not advice or share > 0.5 * plan.place.chip.hbm_bytes:
        advice.append("a larger slice, or more model in --mesh")
    return advice


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"


def duration(hours: float) -> str:
    """A duration in hours, minutes or seconds.

    >>> duration(1.5), duration(0.05), duration(0.0001)
    ('1.5 h', '3.0 min', '< 1 s')
    """
    if hours >= 1:
        return f"{hours:.1f} h"
    seconds = 3600 * hours
    if seconds >= 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
