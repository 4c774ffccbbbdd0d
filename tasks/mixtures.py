"""Mixtures of intervention and instruction tuning (Wei et al. 2023, section 4.2: 5 to 1)."""

import re

import seqio

from . import instructions, intervention, location, shards

NAME = "sycophancy_mix"
ABLATIONS = ((5, 1), (1, 1), (1, 5), (1, 0), (0, 1))

_RATIO = re.compile(rf"{NAME}_(\d+)to(\d+)")

seqio.MixtureRegistry.add(
    NAME,
    [
        (intervention.NAME, lambda _: location.mixture_ratio()[0]),
        (instructions.NAME, lambda _: location.mixture_ratio()[1]),
    ],
    sample_fn=shards.sample_all,
)


def add_ratio(name: str) -> None:
    """Registers `sycophancy_mix_{A}to{B}` if it is not registered; ignores 0 to 0 and other names.

    A task whose rate is zero is left out, so its files need not exist.
    """
    match = _RATIO.fullmatch(name)
    if not match or name in seqio.MixtureRegistry.names():
        return
    rates = zip((intervention.NAME, instructions.NAME), map(float, match.groups()), strict=True)
    tasks = [(task, rate) for task, rate in rates if rate > 0]
    if tasks:
        seqio.MixtureRegistry.add(name, tasks, sample_fn=shards.sample_all)


for _first, _second in ABLATIONS:
    add_ratio(f"{NAME}_{_first}to{_second}")
