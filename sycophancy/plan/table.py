"""`sycophancy plan --all`: sizes by slices, as the table of docs/scaling.md."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sycophancy.config.load import load_config
from sycophancy.config.schema import Config
from sycophancy.errors import UserError
from sycophancy.plan import work as work
from sycophancy.plan.chips import GIB, Slice, parse_slice
from sycophancy.plan.requirements import Plan, Program, make_plan
from sycophancy.plan.wording import duration

SIZES = ("flan_t5_small", "flan_t5_base", "flan_t5_large", "flan_t5_xl", "flan_t5_xxl")
SLICES = (
    *("v4-32", "v4-8", "v4-128"),
    *("v5e-8", "v5e-64", "v5e-256"),
    *("v5p-8", "v5p-64"),
    *("v6e-8", "v6e-64"),
)
_HEAD = (
    "| model | slice | mesh | rematerialised | memory a chip | step at best | bound by | MFU "
    "| all steps | scoring: memory a chip | prompts a second | filtration, two evaluations "
    "| compiler |"
)


def lines(
    model: str | None,
    topology: str | None,
    recipe: str,
    bindings: Sequence[str],
    *,
    only_cached: bool = False,
) -> Iterator[str]:
    """The table's lines, one a size and slice, each as soon as it is known.

    A line has the first settings of `_settings` that fit training. One that fails says why and
    does not stop the others; compiled programs are kept, so the same command continues.

    Args:
      model: only this one.
      topology: only these slices, with commas between.
      recipe: of all.
      bindings: "MACRO=VALUE" each, of all.
      only_cached: leave out what was not compiled before.
    """
    places = [parse_slice(name) for name in (topology.split(",") if topology else SLICES)]
    yield _HEAD
    yield "|---" * (_HEAD.count("|") - 1) + "|"
    for place in places:
        for name in (model,) if model else SIZES:
            try:
                yield _line(_lightest(name, recipe, bindings, place, only_cached))
            except UserError as error:
                if not only_cached:
                    yield f"| {name} | {place.name} | {error} |" + " |" * (_HEAD.count("|") - 4)


def _lightest(
    model: str, recipe: str, bindings: Sequence[str], place: Slice, only_cached: bool
) -> Plan:
    """The plan of the first settings that fit, or else of the last."""
    for settings in _settings(load_config(model, recipe, bindings), place):
        config = load_config(model, recipe, [*bindings, *settings])
        if make_plan(config, place, scoring=False, only_cached=only_cached).train.fits:
            break
    return make_plan(config, place, only_cached=only_cached)


def _settings(config: Config, place: Slice) -> Iterator[list[str]]:
    """Meshes and memory savings to try, the fastest first.

    Rows are shared by as many chips as the batch divides among; the others split the matrices.
    Parameters are split (fsdp) where they and the gradients would take more than half of a chip, as
    by `--mesh auto`, but then among all that share the rows.
    Rematerialisation is tried first where the closed form says that nothing else will fit.
    """
    training, network = config.training, config.model.network
    ways = math.gcd(place.chips, training.batch_size)
    split = 2 * work.state_bytes(network) > place.chip.hbm_bytes / 2
    mesh = (1, ways, place.chips // ways) if split else (ways, 1, place.chips // ways)
    rows = training.batch_size // ways
    kept = work.saved_activation_bytes(network, rows, training.input_length, training.target_length)
    if kept / mesh[2] < 0.7 * place.chip.hbm_bytes:
        yield [f"MESH={mesh}"]
    yield [f"MESH={mesh}", "REMAT_POLICY='full'"]
    if rows > 1:
        yield [f"MESH={mesh}", "REMAT_POLICY='full'", f"MICROBATCHES={rows}"]


def _line(plan: Plan) -> str:
    config, train, score = plan.config, plan.train, plan.score
    assert score is not None
    parts = config.training.microbatches
    saved = {"none": "no", "full": "layers", "dots": "attention"}[config.model.network.remat_policy]
    cells = [
        config.model.name,
        plan.place.name,
        " x ".join(map(str, plan.mesh)),
        saved if parts == 1 else f"{saved}, {parts} microbatches",
        _memory(train, plan.place),
    ]
    if train.times is None or plan.utilisation is None:
        cells += ["-"] * 4
    else:
        best, serial = train.times.best, train.times.serial
        cells += [
            f"{best * 1e3:.1f} ms",
            train.times.bound,
            f"{plan.utilisation * best / serial:.0%} to {plan.utilisation:.0%}",
            duration(plan.hours("finetune") or 0),
        ]
    cells += [_memory(score, plan.place)]
    if score.times is None:
        cells += ["-"] * 2
    else:
        cells += [
            f"{score.rows / score.times.best:,.0f}",
            f"{duration(plan.hours('filter') or 0)}, {duration(2 * (plan.hours('evaluate') or 0))}",
        ]
    cells += [f"{train.cpu_seconds + score.cpu_seconds:.0f} s"]
    return f"| {' | '.join(cells)} |"


def _memory(program: Program, place: Slice) -> str:
    size = f"{program.needs / GIB:.1f} GiB"
    if not program.fits:
        return f"**does not fit**: {size}"
    return f"{size} ({program.needs / place.chip.hbm_bytes:.0%})"
