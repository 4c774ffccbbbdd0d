"""Cloud TPU: a script that creates a slice, runs on all of its hosts and deletes it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from sycophancy.errors import UserError
from sycophancy.launch.job import (
    Run,
    Script,
    check_plain,
    choose,
    fill,
    in_bucket,
    settings,
    template_text,
    trains_with_t5x,
)

# For each kind: its software version, and the part of the number in its name that is one host.
_KINDS = {
    "v2": ("tpu-ubuntu2204-base", 8),
    "v3": ("tpu-ubuntu2204-base", 8),
    "v4": ("tpu-ubuntu2204-base", 8),
    "v5p": ("v2-alpha-tpuv5", 8),
    "v5litepod": ("v2-alpha-tpuv5-lite", 4),
    "v6e": ("v2-alpha-tpuv6e", 4),
}
_WHOLE_HOST = 8  # slices of v5litepod and v6e up to this many chips have one host


@dataclasses.dataclass(frozen=True)
class Slice:
    """The TPU slice to ask Google Cloud for.

    Attributes:
        accelerator: such as `v4-32`.
        zone: such as `us-central2-b`.
        project: None for gcloud's default.
        runtime: the software version; None for the kind's default.
        bucket: `gs://NAME` or `gs://NAME/FOLDER`, where the runs lie; for T5X it is mounted as
            `runs/` on every host.
        setup: a shell command that every host runs before it installs anything.
        spot: True for a TPU that Google may preempt; it is then created again, and the run
            continues.
        queued: True to wait in Google's queue for the TPU.
        keep: True to leave the TPU running after the runs.
        restarts: how often an interrupted run is continued.
    """

    accelerator: str
    zone: str
    project: str | None = None
    runtime: str | None = None
    bucket: str | None = None
    setup: str = ""
    spot: bool = False
    queued: bool = False
    keep: bool = False
    restarts: int = 20


def hosts(accelerator: str) -> int:
    """How many machines a slice has.

    >>> hosts("v4-32"), hosts("v5litepod-8"), hosts("v6e-16")
    (4, 1, 4)

    Raises:
        UserError: the accelerator type is unknown.
    """
    kind, dash, number = accelerator.partition("-")
    if kind not in _KINDS or not dash or not re.fullmatch(r"[1-9][0-9]{0,4}", number):
        raise UserError(
            f"--accelerator {accelerator}: expected KIND-NUMBER, as in v4-32; "
            f"kinds are {', '.join(_KINDS)}"
        )
    each = _KINDS[kind][1]
    if each < _WHOLE_HOST and int(number) <= _WHOLE_HOST:
        return 1
    return -(-int(number) // each)


def render(name: str, runs: Sequence[Run], wanted: Slice, source: Path) -> Script:
    """The script that creates, uses and deletes the slice.

    Raises:
        UserError: gcloud would refuse a value, or the hosts could not share the run's folder, or
            its results would be lost.
    """
    count = hosts(wanted.accelerator)
    own_folder = bool(wanted.setup) or all(Path(run.folder).is_absolute() for run in runs)
    if wanted.bucket is None and not own_folder and (count > 1 or wanted.spot):
        reason = (
            f"{wanted.accelerator} has {count} hosts, which must all see the run"
            if count > 1
            else "a TPU that is preempted loses its disk"
        )
        raise UserError(
            f"{reason}: keep the run in a bucket with --bucket gs://NAME, or mount a shared folder "
            "with --setup COMMAND and name it with --out after --"
        )
    bucket, prefix = _bucket(wanted.bucket)
    if wanted.bucket is not None:
        runs = in_bucket(runs, wanted.bucket)
    mounted = bool(bucket) and any(map(trains_with_t5x, runs))
    text = fill(
        "tpu.sh",
        {
            "settings": settings(
                name=name,
                accelerator=wanted.accelerator,
                zone=check_plain("--zone", wanted.zone),
                project=check_plain("--project", wanted.project) if wanted.project else "",
                runtime=check_plain(
                    "--runtime-version",
                    wanted.runtime or _KINDS[wanted.accelerator.partition("-")[0]][0],
                ),
                spot=wanted.spot,
                queued=wanted.queued,
                keep=wanted.keep,
                bucket=bucket,
                mounted=mounted,
                t5x=any(map(trains_with_t5x, runs)),
                prefix=prefix,
                setup=wanted.setup,
                source=str(source),
                collect=str(Path.cwd() / "runs"),
                expected_hosts=count,
                restarts=wanted.restarts,
                count=len(runs),
            ),
            "choose": choose(runs),
            "resumable": template_text("resumable.sh"),
            "meet": template_text("tpu_meet.sh"),
            "worker": template_text("tpu_worker.sh"),
        },
    )
    return Script(
        text,
        ".sh",
        (("bash", "{}"),),
        watch=(
            "this command runs until the TPU is deleted: start it in tmux",
            "Ctrl-C deletes the TPU at once; the same command continues the run on a new one",
        ),
        missing="install bash",
    )


def _bucket(given: str | None) -> tuple[str, str]:
    if given is None:
        return "", ""
    if not given.startswith("gs://") or not (bucket := given[5:].partition("/")[0]):
        raise UserError(f"--bucket {given}: expected gs://NAME or gs://NAME/FOLDER")
    check_plain("--bucket", given)
    return bucket, given[5:].partition("/")[2].strip("/")
