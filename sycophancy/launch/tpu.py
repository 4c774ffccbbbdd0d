"""Cloud TPU: a script that creates a slice, runs on all of its hosts, and deletes it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from sycophancy.errors import UserError
from sycophancy.launch.job import Run, Script, check_plain, choose, fill, settings, template_text

# The kind's software version, and how many of the number in its name are one host's.
_KINDS = {
    "v2": ("tpu-ubuntu2204-base", 8),
    "v3": ("tpu-ubuntu2204-base", 8),
    "v4": ("tpu-ubuntu2204-base", 8),
    "v5p": ("v2-alpha-tpuv5", 8),
    "v5litepod": ("v2-alpha-tpuv5-lite", 4),
    "v6e": ("v2-alpha-tpuv6e", 4),
}
_WHOLE_HOST = 8  # chips; v5litepod and v6e up to here have one host


@dataclasses.dataclass(frozen=True)
class Slice:
    """What to ask Google Cloud for.

    Attributes:
      accelerator: `v4-32`.
      zone: as `us-central2-b`.
      project: None for gcloud's own.
      runtime: the software version; None for the kind's.
      bucket: `gs://NAME` or `gs://NAME/FOLDER`, mounted as `runs/` on every host.
      setup: a shell command for every host before anything is installed.
      spot: whether it may be taken away; it is then created again, and the run continues.
      queued: whether to wait in Google's queue for it.
      keep: whether it stays afterwards.
      restarts: how often a run that was interrupted is continued.
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
        UserError: it is no accelerator type that is known here.
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
    """The script.

    Raises:
      UserError: a value that gcloud would not take, or a run that could not work or would be lost.
    """
    count = hosts(wanted.accelerator)
    elsewhere = bool(wanted.setup) or all(Path(run.folder).is_absolute() for run in runs)
    if wanted.bucket is None and not elsewhere and (count > 1 or wanted.spot):
        why = (
            f"{wanted.accelerator} has {count} hosts, which must all see the run"
            if count > 1
            else "a TPU that is taken away loses its disk"
        )
        raise UserError(
            f"{why}: keep it in a bucket with --bucket gs://NAME, or mount a shared folder with "
            "--setup COMMAND and name it with --out after --"
        )
    bucket, prefix = _bucket(wanted.bucket)
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
            "this stays until the run is done and the TPU deleted: start it in tmux",
            "Ctrl-C saves nothing more and deletes the TPU; started again, the run continues",
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
