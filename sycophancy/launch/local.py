"""Here: one process, or several on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from sycophancy.launch.job import Run, Script, choose, fill, program, settings


def render(runs: Sequence[Run], *, processes: int = 1, port: int = 0) -> Script:
    """A script that runs one after the other here.

    Args:
      runs: what to run.
      processes: how many share each run.
      port: where they meet; 0 for a free one.
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
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
