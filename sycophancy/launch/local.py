"""Runs on this machine, in one process or in several that meet on the loopback interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sycophancy.launch.job import Run, Script, choose, fill, program, settings
from sycophancy.system.ports import free_port


def render(runs: Sequence[Run], *, processes: int = 1, port: int = 0) -> Script:
    """A script that runs one run after the other on this machine.

    Args:
        runs: the runs.
        processes: how many processes share each run.
        port: the port at which they meet; 0 for a free one.
    """
    text = fill(
        "local.sh",
        {
            "settings": settings(
                folder_here=str(Path.cwd()),
                program=program(),
                processes=processes,
                port=port or free_port() if processes > 1 else 0,
                count=len(runs),
            ),
            "choose": choose(runs),
        },
    )
    return Script(text, ".sh", (("bash", "{}"),), missing="install bash")
