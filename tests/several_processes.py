"""Several processes that run one command together, each with devices of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import compiled_programs

from sycophancy.system.ports import free_port

SECONDS = 400  # on a busy machine


# A program in which only process 1 makes a mistake, in the middle of a run.
MAIN = """
import os
from sycophancy.cli.main import main
from sycophancy.engine.distributed import _Many
from sycophancy.errors import UserError
broadcast = _Many.broadcast
def broadcast_or_fail(self, decide):
    if not self.leader:
        MISTAKE
    return broadcast(self, decide)
_Many.broadcast = broadcast_or_fail
main()
"""


@dataclasses.dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class Processes:
    """Processes that run one command together, each with its own devices."""

    def __init__(self, program: str, words: list[str], processes: int, devices: int) -> None:
        port = free_port()
        self.processes = []
        for index in range(processes):
            environment = {
                **os.environ,
                "XLA_FLAGS": f"{compiled_programs.WITHOUT_OPTIMISATION} "
                f"--xla_force_host_platform_device_count={devices}",
                "JAX_PLATFORMS": "cpu",
                # Processes meet without a proxy, whatever the hub needs; nothing listens there.
                "http_proxy": "http://127.0.0.1:9",
                "https_proxy": "http://127.0.0.1:9",
            }
            if processes > 1:
                environment |= {
                    "SYCOPHANCY_COORDINATOR": f"127.0.0.1:{port}",
                    "SYCOPHANCY_NUM_PROCESSES": str(processes),
                    "SYCOPHANCY_PROCESS_ID": str(index),
                }
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", program, *words],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def ended(self, seconds: float = SECONDS) -> list[Ended]:
        found = []
        for process in self.processes:
            out, err = process.communicate(timeout=seconds)
            found.append(Ended(process.returncode, out, err))
        return found


Start = Callable[..., Processes]


@contextlib.contextmanager
def starting(program: str = MAIN) -> Iterator[Start]:
    """Starts processes of the command, or of another program; kills those that are left."""
    started: list[Processes] = []

    def start(*words: object, processes: int, devices: int, mistake: str = "") -> Processes:
        text = program.replace("MISTAKE", mistake or "pass")
        started.append(Processes(text, [str(word) for word in words], processes, devices))
        return started[-1]

    try:
        yield start
    finally:
        for processes in started:
            processes.kill()
