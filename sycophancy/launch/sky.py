"""SkyPilot: one YAML file, and one managed job for each run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from sycophancy.errors import UserError
from sycophancy.launch.job import (
    Run,
    Script,
    check_plain,
    check_words,
    choose,
    fill,
    in_bucket,
    settings,
    template_text,
    trains_with_t5x,
)
from sycophancy.system.paths import is_address


@dataclasses.dataclass(frozen=True)
class Machines:
    """The machines to ask SkyPilot for.

    Attributes:
        accelerators: as SkyPilot names them: `H100:8`, `tpu-v4-32`.
        bucket: address of the bucket, or of a folder in it, that keeps the runs: `gs://`, or one
            that SkyPilot mounts, `s3://` among them. It mounts `gs://` for a sweep or reproduction.
        nodes: how many machines; 1 for a TPU slice, however many hosts it has.
        infra: a cloud, region, zone, Kubernetes context or SLURM cluster; None: the cheapest.
        spot: True if machines may be preempted; the job then continues on others.
        restarts: how often a run that failed is started again.
        runtime: a TPU's software version.
        disk: GB on each machine.
    """

    accelerators: str
    bucket: str
    nodes: int = 1
    infra: str | None = None
    spot: bool = True
    restarts: int = 3
    runtime: str | None = None
    disk: int = 256


def render(name: str, runs: Sequence[Run], machines: Machines, source: Path) -> Script:
    """The YAML file, and one command for each run that submits it.

    Raises:
        UserError: SkyPilot would refuse a value, or a run's results would be lost.
    """
    if not is_address(machines.bucket):
        raise UserError(f"--bucket {machines.bucket}: expected gs://NAME, s3://NAME or the like")
    check_plain("--bucket", machines.bucket)
    check_words([str(source)])
    check_plain("--accelerators", machines.accelerators)
    for run in runs:
        if run.folder != f"runs/{run.name}":
            raise UserError("--out: only runs/NAME is kept in the bucket; give --name instead")
    tpu = machines.accelerators.startswith("tpu")
    if tpu and machines.nodes > 1:
        raise UserError("--nodes: a TPU slice is one node to SkyPilot, however many hosts it has")
    if machines.bucket.startswith("gs://"):
        runs = in_bucket(runs, machines.bucket)
    mounted = [run for run in runs if run.folder.startswith("runs/")]
    extra = "tpu" if tpu else "gpu"
    extras = extra if len(mounted) == len(runs) else f"{extra},gcs"
    t5x = any(map(trains_with_t5x, runs))
    prepared = settings(extras=extras, mounted=bool(mounted), t5x=t5x)
    resources = [f"accelerators: {_scalar(machines.accelerators)}"]
    if machines.infra is not None:
        resources.append(f"infra: {_scalar(check_plain('--infra', machines.infra))}")
    if machines.runtime is not None:
        runtime = _scalar(check_plain("--runtime-version", machines.runtime))
        resources.append(f"accelerator_args: {{runtime_version: {runtime}}}")
    run_text = fill(
        "sky_run.sh",
        {
            "choose": choose(runs),
            "resumable": template_text("resumable.sh"),
            "meet": template_text("tpu_meet.sh"),
        },
    )
    text = "\n".join(
        [
            "# Runs sycophancy on machines that SkyPilot finds, by `sycophancy launch sky`.",
            f"# Run number N: sky jobs launch --env SYCOPHANCY_RUN=N FILE ({len(runs)} in all)",
            f"name: {_scalar(name)}",
            f"workdir: {_scalar(str(source))}",
            f"num_nodes: {machines.nodes}",
            "resources:",
            *(f"  {line}" for line in resources),
            f"  use_spot: {json.dumps(machines.spot)}",
            f"  disk_size: {machines.disk}",
            "  # A preempted job starts again on other machines. Exit code 75: the run was stopped",
            "  # and saved; any other code: it failed.",
            "  job_recovery:",
            f"    max_restarts_on_errors: {machines.restarts}",
            "    recover_on_exit_codes: [75]",
            "envs:",
            '  SYCOPHANCY_RUN: "0"',
            *(_mount(machines.bucket) if mounted else []),
            "setup: |",
            *_indented(f"{prepared}\n{template_text('sky_setup.sh')}"),
            "run: |",
            *_indented(f"{settings(extra=extra)}\n{run_text}"),
            "",
        ]
    )
    start = ("sky", "jobs", "launch", "--yes", "--detach-run")
    submissions = tuple(
        (*start, "--name", _job(name, number, len(runs)), "--env", f"SYCOPHANCY_RUN={number}", "{}")
        for number in range(len(runs))
    )
    return Script(
        text,
        ".yaml",
        submissions,
        watch=("jobs: sky jobs queue", "log: sky jobs logs ID", "end it: sky jobs cancel ID"),
        missing="install SkyPilot (skypilot[gcp], [aws], ...), then: sky check",
    )


def _mount(bucket: str) -> list[str]:
    source = f"    source: {_scalar(bucket)}"
    return ["file_mounts:", "  /sycophancy-runs:", source, "    mode: MOUNT"]


def _job(name: str, number: int, count: int) -> str:
    return name if count == 1 else f"{name}-{number}"


def _scalar(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # a JSON string is a YAML one


def _indented(text: str) -> list[str]:
    return [f"  {line}" if line else "" for line in text.splitlines()]
