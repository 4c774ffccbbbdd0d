"""Runs on this machine, in one process or in several that meet on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from sycophancy.launch.job import Run, Script, choose, fill, program, settings


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
                port=port or _free_port() if processes > 1 else 0,
                count=len(runs),
            ),
            "choose": choose(runs),
        },
    )
    return Script(text, ".sh", (("bash", "{}"),), missing="install bash")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
