"""The command `launch`: shows or submits runs as jobs."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sycophancy.launch.job import Run, Script

app = typer.Typer(
    help="Run elsewhere: a TPU slice, SLURM, SkyPilot, or several processes here.",
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
)

Arguments = Annotated[
    list[str],
    typer.Argument(metavar="-- COMMAND ...", help="The command to run: -- run --model ..."),
]
Name = Annotated[str, typer.Option(metavar="NAME", help="Name of the job.")]
Sweep = Annotated[
    list[str] | None,
    typer.Option(metavar="MACRO=V,V", help="One run for each value; may be repeated."),
]
File = Annotated[str | None, typer.Option(metavar="FILE", help="Write the script to this file.")]
Go = Annotated[bool, typer.Option("--go", help="Submit the job; without this, print its script.")]
Source = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="The checkout that the machines install [this one]."),
]
Restarts = Annotated[
    int,
    typer.Option(
        min=0, max=10_000, metavar="N", help="Continue an interrupted run at most this often."
    ),
]


@app.callback()
def _main(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def tpu(
    context: typer.Context,
    arguments: Arguments,
    name: Name,
    accelerator: Annotated[str, typer.Option(metavar="TYPE", help="Such as v4-32.")],
    zone: Annotated[str, typer.Option(metavar="ZONE", help="Such as us-central2-b.")],
    project: Annotated[
        str | None, typer.Option(metavar="ID", help="Google Cloud project [gcloud's default].")
    ] = None,
    runtime_version: Annotated[
        str | None, typer.Option(metavar="NAME", help="Software version [by the TPU's kind].")
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(metavar="gs://NAME", help="Bucket that keeps the runs."),
    ] = None,
    setup: Annotated[
        str,
        typer.Option(
            metavar="COMMAND", help="Shell command that every host runs before it installs."
        ),
    ] = "",
    spot: Annotated[bool, typer.Option("--spot", help="Cheaper, and may be preempted.")] = False,
    queued: Annotated[bool, typer.Option("--queued", help="Wait in Google's queue.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Do not delete the TPU afterwards.")] = False,
    restarts: Restarts = 20,
    source: Source = None,
    sweep: Sweep = None,
    write: File = None,
    go: Go = False,
) -> None:
    """Create a Cloud TPU, run on all of its hosts, fetch the results, delete the TPU."""
    from sycophancy.launch import job
    from sycophancy.launch import tpu as cloud

    wanted = cloud.Slice(
        accelerator=accelerator,
        zone=zone,
        project=project,
        runtime=runtime_version,
        bucket=bucket,
        setup=setup,
        spot=spot,
        queued=queued,
        keep=keep,
        restarts=restarts,
    )
    runs = _runs(context, name, arguments, sweep)
    _write_or_submit(cloud.render(name, runs, wanted, job.source_folder(source)), name, write, go)


@app.command()
def slurm(
    context: typer.Context,
    arguments: Arguments,
    name: Name,
    nodes: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="Machines.")] = 1,
    gpus: Annotated[
        int, typer.Option(min=0, max=64, metavar="N", help="GPUs of each machine.")
    ] = 0,
    tasks: Annotated[
        str, typer.Option(metavar="node|gpu", help="One process for each node, or for each GPU.")
    ] = "node",
    time: Annotated[
        str | None, typer.Option(metavar="LIMIT", help="Time limit, as sbatch writes it: 24:00:00.")
    ] = None,
    notice: Annotated[
        int,
        typer.Option(
            min=1,
            max=65_535,
            metavar="SECONDS",
            help="Seconds before the limit in which the run saves.",
        ),
    ] = 60,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Any option of sbatch; may be repeated."),
    ] = None,
    restarts: Restarts = 20,
    sweep: Sweep = None,
    write: File = None,
    go: Go = False,
) -> None:
    """Queue a run under SLURM; a sweep is an array with one job for each run."""
    from sycophancy.launch.slurm import Cluster, render

    cluster = Cluster(
        nodes=nodes,
        gpus=gpus,
        tasks=tasks,
        time=time,
        notice=notice,
        restarts=restarts,
        options=tuple(sbatch or ()),
    )
    runs = _runs(context, name, arguments, sweep, array=True)
    _write_or_submit(render(name, runs, cluster), name, write, go)


@app.command()
def sky(
    context: typer.Context,
    arguments: Arguments,
    name: Name,
    accelerators: Annotated[
        str, typer.Option(metavar="NAME:N", help="As SkyPilot names them: H100:8, tpu-v4-32.")
    ],
    bucket: Annotated[
        str,
        typer.Option(metavar="gs://NAME|s3://NAME", help="Bucket that keeps the runs; must exist."),
    ],
    nodes: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="Machines.")] = 1,
    infra: Annotated[
        str | None, typer.Option(metavar="CLOUD[/REGION]", help="Cloud or region [the cheapest].")
    ] = None,
    spot: Annotated[
        bool, typer.Option("--spot/--no-spot", help="Machines that may be preempted.")
    ] = True,
    runtime_version: Annotated[
        str | None, typer.Option(metavar="NAME", help="A TPU's software version.")
    ] = None,
    disk: Annotated[
        int, typer.Option(min=50, max=100_000, metavar="GB", help="Disk of each machine.")
    ] = 256,
    restarts: Restarts = 3,
    source: Source = None,
    sweep: Sweep = None,
    write: File = None,
    go: Go = False,
) -> None:
    """Let SkyPilot find machines, and continue on others when they are preempted."""
    from sycophancy.launch import job
    from sycophancy.launch.sky import Machines, render

    machines = Machines(
        accelerators=accelerators,
        bucket=bucket,
        nodes=nodes,
        infra=infra,
        spot=spot,
        restarts=restarts,
        runtime=runtime_version,
        disk=disk,
    )
    runs = _runs(context, name, arguments, sweep)
    _write_or_submit(render(name, runs, machines, job.source_folder(source)), name, write, go)


@app.command()
def local(
    context: typer.Context,
    arguments: Arguments,
    name: Name = "local",
    processes: Annotated[
        int,
        typer.Option(min=1, max=256, metavar="N", help="Number of processes that share the run."),
    ] = 1,
    sweep: Sweep = None,
    write: File = None,
    go: Go = False,
) -> None:
    """Run on this machine, one run after the other; --processes share a run."""
    from sycophancy.launch.local import render

    runs = _runs(context, name, arguments, sweep)
    _write_or_submit(render(runs, processes=processes), name, write, go)


def _runs(
    context: typer.Context,
    name: str,
    arguments: Sequence[str],
    sweep: Sequence[str] | None,
    *,
    array: bool = False,
) -> Sequence[Run]:
    """The runs of a job; with `array`, every cell of a grid is a run of its own."""
    from sycophancy.cli.options import RunOptions
    from sycophancy.launch import job

    job.check_name(name)
    runs = job.plan_runs(name, arguments, sweep or ())
    commands: Any = context.find_root().command
    options = {field.name for field in dataclasses.fields(RunOptions)}
    for run in runs:  # a misspelt option is found here, before a pod is paid for
        word, *rest = run.arguments
        given = commands.get_command(context, word).make_context(word, rest).params
        RunOptions(**{field: given[field] for field in options & given.keys()}).check()
        cells = _count(word, given) if word in job.GRIDS else 0
        if array and cells and given["cell"] is None:
            return job.each_cell(run, cells)
    return runs


def _count(grid: str, given: Mapping[str, Any]) -> int:
    """The number of cells of a grid."""
    from sycophancy.cli import reproduce, sweep

    if grid == "sweep":
        return sweep.count(given["models"], given["recipes"], given["seeds"])
    return reproduce.count(given["family"], given["seeds"])


def _write_or_submit(script: Script, name: str, file: str | None, go: bool) -> None:
    from sycophancy.launch import job

    if go:
        path = job.write(script, Path(file or f"runs/launch/{name}{script.suffix}"))
        if status := job.submit(script, path):
            raise typer.Exit(status)
        return
    file_name = "FILE"
    if file is None:
        print(script.text, end="", flush=True)
    else:
        file_name = str(job.write(script, Path(file)))
        print(file_name)
    for command in script.commands:
        words = shlex.join([file_name if word == "{}" else word for word in command])
        print(f"launch: --go runs: {words}", file=sys.stderr)
