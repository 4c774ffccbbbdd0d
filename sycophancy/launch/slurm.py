"""SLURM: one sbatch file; several runs are an array of jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sycophancy.errors import UserError
from sycophancy.launch.job import (
    Run,
    Script,
    check_plain,
    choose,
    fill,
    program,
    settings,
    template_text,
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The nodes and limits to ask SLURM for.

    Attributes:
        nodes: how many machines.
        gpus: of each machine; 0 for none.
        tasks: "node" or "gpu": whether one process drives all GPUs of a node, or one GPU.
        time: the time limit, as sbatch writes it. When it is reached, the run saves and is queued
            again.
        notice: seconds from SIGTERM to the time limit.
        restarts: how often the job is queued again.
        options: further options of sbatch, without the dashes: `partition=big`.
    """

    nodes: int = 1
    gpus: int = 0
    tasks: str = "node"
    time: str | None = None
    notice: int = 60
    restarts: int = 20
    options: tuple[str, ...] = ()


def render(name: str, runs: Sequence[Run], cluster: Cluster) -> Script:
    """The sbatch file.

    Raises:
        UserError: sbatch would refuse a value, or there is to be one task for each of no GPUs.
    """
    if cluster.tasks not in ("node", "gpu"):
        raise UserError(f"--tasks {cluster.tasks}: expected node or gpu")
    each_gpu = cluster.tasks == "gpu"
    if each_gpu and not cluster.gpus:
        raise UserError("--tasks gpu needs --gpus N, the GPUs of each node")
    directives = [
        f"job-name={name}",
        f"nodes={cluster.nodes}",
        f"ntasks-per-node={cluster.gpus if each_gpu else 1}",
        "requeue",
        f"signal=TERM@{cluster.notice}",
        "open-mode=append",
        f"output={name}-%A_%a.log" if len(runs) > 1 else f"output={name}-%j.log",
    ]
    if cluster.gpus:
        directives.append(f"gpus-per-node={cluster.gpus}")
    if cluster.time:
        directives.append(f"time={check_plain('--time', cluster.time)}")
    if len(runs) > 1:
        directives.append(f"array=0-{len(runs) - 1}")
    directives += [check_plain("--sbatch", option.removeprefix("--")) for option in cluster.options]
    devices = ",".join(map(str, range(cluster.gpus)))
    text = fill(
        "slurm.sh",
        {
            "directives": "\n".join(f"#SBATCH --{directive}" for directive in directives),
            "settings": settings(
                folder_here=str(Path.cwd()),
                program=program(),
                local_devices=devices if cluster.nodes > 1 and not each_gpu else "",
                restarts=cluster.restarts,
            ),
            "choose": choose(runs),
            "resumable": template_text("resumable.sh"),
        },
    )
    log = f"{name}-JOB_*.log" if len(runs) > 1 else f"{name}-JOB.log"
    return Script(
        text,
        ".sbatch",
        (("sbatch", "--parsable", "{}"),),
        watch=("queue: squeue --me", f"log: tail -F {log}", "end it: scancel JOB"),
        prints_id=True,
        missing="log in to a node of the cluster that submits jobs",
    )
