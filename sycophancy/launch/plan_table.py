"""`sycophancy plan --all`: sizes by slices, as the table of docs/scaling.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sycophancy.config import Config, load_config
from sycophancy.errors import UserError
from sycophancy.launch import plan_work as work
from sycophancy.launch.plan import Plan, make_plan
from sycophancy.launch.plan_chips import GIB, Slice, parse_slice

SIZES = ("flan_t5_small", "flan_t5_base", "flan_t5_large", "flan_t5_xl", "flan_t5_xxl")
SLICES = (
    *("v4-8", "v4-16", "v4-32", "v4-64", "v4-128"),
    *("v5e-16", "v5e-64", "v5e-256"),
    *("v5p-8", "v5p-32", "v5p-128"),
    *("v6e-16", "v6e-64", "v6e-256"),
)
_HEAD = (
    "| model | slice | chips | data x fsdp x model | rematerialised | microbatches | memory a chip "
    "| step at best | bound by | MFU at most | if nothing overlaps | all steps | compiled in |"
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

    A cell is compiled with the lightest settings of `_settings` that fit. One that fails says why
    and does not stop the others; compiled programs are kept, so the same command continues.

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
                yield _line(*_lightest(name, recipe, bindings, place, only_cached))
            except UserError as error:
                if not only_cached:
                    yield f"| {name} | {place.name} | {place.chips} | {error} |" + " |" * 9


def _lightest(
    model: str, recipe: str, bindings: Sequence[str], place: Slice, only_cached: bool
) -> tuple[Config, Plan]:
    """The plan of the first settings that fit, or else of the last."""
    tried = None
    for settings in _settings(load_config(model, recipe, bindings), place):
        config = load_config(model, recipe, [*bindings, *settings])
        tried = config, make_plan(config, place, scoring=False, only_cached=only_cached)
        if tried[1].programs["train"].fits:
            break
    if tried is None:
        raise UserError(f"BATCH_SIZE does not divide among {place.chips} chips in any way")
    return tried


def _settings(config: Config, place: Slice) -> Iterator[list[str]]:
    """Meshes and memory savings to try, the fastest first.

    Rows are shared by as many chips as the batch divides among; the others split the matrices.
    Parameters are split (fsdp) where a copy of them and of the gradients would take a quarter of a
    chip. Rematerialisation is tried first where the closed form says that nothing else will fit.
    """
    training, network = config.training, config.model.network
    ways = next(
        (n for n in range(place.chips, 0, -1) if not (place.chips % n or training.batch_size % n)),
        1,
    )
    split = 2 * work.state_bytes(network) > place.chip.hbm_bytes / 4
    mesh = (1, ways, place.chips // ways) if split else (ways, 1, place.chips // ways)
    kept = work.saved_activation_bytes(
        network, training.batch_size // ways, training.input_length, training.target_length
    )
    rows = training.batch_size // ways
    if kept / mesh[2] < 0.7 * place.chip.hbm_bytes:
        yield [f"MESH={mesh}"]
    yield [f"MESH={mesh}", "REMAT_POLICY='full'"]
    if rows > 1:
        yield [f"MESH={mesh}", "REMAT_POLICY='full'", f"MICROBATCHES={rows}"]


def _line(config: Config, plan: Plan) -> str:
    train, network = plan.programs["train"], config.model.network
    cells = [
        config.model.name,
        plan.place.name,
        str(plan.place.chips),
        " x ".join(map(str, plan.mesh)),
        {"none": "no", "full": "layers", "dots": "attention"}[network.remat_policy],
        str(config.training.microbatches),
    ]
    if train.times is None or plan.utilisation is None:
        cells += [f"**does not fit**: {train.needs / GIB:.1f} GiB", *"-----"]
    else:
        best, serial = train.times.best, train.times.serial
        cells += [
            f"{train.needs / GIB:.1f} GiB ({train.needs / plan.place.chip.hbm_bytes:.0%})",
            f"{best * 1e3:.1f} ms",
            train.times.bound,
            f"{plan.utilisation:.0%}",
            f"{plan.utilisation * best / serial:.0%}",
            f"{best * config.training.finetune_steps / 60:.1f} min",
        ]
    return f"| {' | '.join(cells)} | {train.seconds:.0f} s ({train.cpu_seconds:.0f} s CPU) |"
