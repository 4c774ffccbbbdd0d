"""The processes that share a run: how they find each other and agree on what to do.

Every process computes on its own devices, from the same batches, and calls the same stages. Losses
differ from those of one process in the eighth digit, because devices add in another order.

Process 0 leads: it alone decides which stages are stale, writes the run folder and prints; the
others follow its decisions. All processes must see the run folder at the same path, or share a
bucket and have a working copy each (`sycophancy.storage`).
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sycophancy.engine import supervision
from sycophancy.errors import UserError

T = TypeVar("T")

COORDINATOR, COUNT, INDEX = (
    f"SYCOPHANCY_{name}" for name in ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID")
)
START_SECONDS = 600  # for all processes to meet; hosts of a cluster start minutes apart
# JAX gives up a process that has sent no heartbeat for this long because it is paused or swapped
# out. The end of a process is noticed at once, unless its supervisor has no connection.
HEARTBEAT_SECONDS = 60
# The variables that decide which devices JAX finds.
_DEVICE_SETTINGS = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES")
_XLA_LOG = re.compile(r"^[EF]\d{4} \S+ +\d+ \S+\] (.*)", re.MULTILINE)  # what C++ logs as error
_DAY_MILLISECONDS = 24 * 3600 * 1000  # the others wait while the leader prepares data


class UnreachableError(UserError):
    """Another process does not answer, perhaps because it has ended."""


class Processes:
    """The processes of a run; this class stands for a single one."""

    leader = True
    index = 0
    size = 1

    def broadcast(self, decide: Callable[[], T]) -> T:
        """Calls `decide` in the leader; every process returns its result or raises its UserError.

        Args:
          decide: its result must be JSON.
        """
        return decide()

    def printing(self) -> contextlib.AbstractContextManager[object]:
        """Silences standard output in every process but the leader."""
        if self.leader:
            return contextlib.nullcontext()
        return contextlib.redirect_stdout(io.StringIO())

    def workplace(self, shared: Any, *, together: bool) -> Any:
        """The folder that a stage writes to.

        Args:
          shared: the run's folder for it.
          together: True if all processes write to it; else the others get a temporary folder.
        """
        return shared


class _Many(Processes):
    def __init__(self, index: int, size: int, client: Any) -> None:
        self.leader, self.index, self.size = index == 0, index, size
        self._client, self._decisions = client, 0
        self._scratch = tempfile.TemporaryDirectory(prefix="sycophancy-")
        self.scratch = self._scratch.name

    def broadcast(self, decide: Callable[[], T]) -> T:
        self._decisions += 1
        key = f"sycophancy/{self._decisions}"
        if self.leader:
            try:
                result = decide()
            except UserError as error:
                self._client.key_value_set(key, json.dumps({"error": str(error)}))
                raise
            self._client.key_value_set(key, json.dumps({"result": result}))
            return result
        try:
            answer = json.loads(self._client.blocking_key_value_get(key, _DAY_MILLISECONDS))
        except Exception as error:  # jaxlib's own, where the leader is gone
            reason = str(error).splitlines()[0]
            raise UnreachableError(
                f"process 0, which leads this run, does not answer: {reason}"
            ) from None
        if "error" in answer:
            raise UserError(answer["error"])
        return answer["result"]

    def workplace(self, shared: Any, *, together: bool) -> Any:
        if self.leader or together:
            return shared
        return Path(tempfile.mkdtemp(dir=self.scratch))


def assemble(environment: Mapping[str, str] = os.environ) -> Processes:
    """Connects to the other processes of this run, if the environment names any.

    The variables SYCOPHANCY_COORDINATOR (host:port), SYCOPHANCY_NUM_PROCESSES and
    SYCOPHANCY_PROCESS_ID work everywhere. SLURM with several tasks, TPU pods and Open MPI set
    variables of their own, which `jax.distributed` reads. SYCOPHANCY_COORDINATOR=auto leaves
    everything to `jax.distributed`, for hosts of a TPU pod that must ask Google's metadata server.
    Call it before JAX is used.

    Raises:
      UserError: the variables contradict each other, or the processes do not meet.
    """
    arguments = _arguments(environment)
    if arguments is None:
        return Processes()
    import jax
    from jax._src import distributed  # its key-value store has no public name

    # gRPC between the processes must not use a proxy that is meant for the hub. An empty
    # grpc_proxy overrides http_proxy and https_proxy for gRPC only.
    os.environ["grpc_proxy"] = ""  # noqa: SIM112  # gRPC reads the small letters
    jax.config.update("jax_check_proxy_envs", False)
    if supervision.link:
        supervision.link.send(
            meeting=f" within {START_SECONDS} s: check {COORDINATOR}, and that every process was "
            "started"
        )
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the processes of this run did not meet: {reason}; check {COORDINATOR} and that "
            "every process was started"
        ) from None
    state = distributed.global_state
    processes = _Many(state.process_id, state.num_processes, state.client)
    if supervision.link:
        supervision.link.met(
            state.process_id,
            state.num_processes,
            state.coordinator_address or "",
            state.client,
            processes.scratch,
        )
    check_platform()  # all processes must start JAX's devices at the same time
    return processes


def is_shared(environment: Mapping[str, str] = os.environ) -> bool:
    """True if the environment says that this process is one of several."""
    with contextlib.suppress(UserError):  # `assemble` raises it
        return _arguments(environment) is not None
    return False


def check_platform(environment: Mapping[str, str] = os.environ) -> None:
    """Starts JAX on the devices that the environment names; repeated calls are cheap.

    Raises:
      UserError: JAX does not start: its plugin or driver is missing, or a variable is misspelt.
    """
    settings = [name for name in _DEVICE_SETTINGS if environment.get(name)]
    shown = ", ".join(f"{name}={environment[name]}" for name in settings)
    _check_xla_flags(environment.get("XLA_FLAGS", "").strip())
    try:
        import jax
    except ValueError as error:  # JAX reads its variables when it is imported
        raise UserError(f"JAX does not start: {first_line(error)}; mend or unset it") from None
    try:
        jax.devices()
    except Exception as error:  # plugins raise any class of error
        reason = first_line(error) if str(error) else "the plugin of that platform is not installed"
        reason = reason.split(" (set JAX_PLATFORMS=")[0].split(" (you may need to ")[0].rstrip(".")
        raise UserError(
            f"JAX finds no devices{' with ' if shown else ''}{shown}: {reason}; "
            f"{'change or unset that' if shown else 'mend the driver'}, set JAX_PLATFORMS=cpu, or "
            "install what drives the devices (in the checkout: pip install -e '.[gpu]' or '.[tpu]')"
        ) from None


@functools.cache  # every cell of a sweep calls it, and each call starts a process
def _check_xla_flags(flags: str) -> None:
    """Reads XLA_FLAGS in another process, because XLA ends the process if they are wrong."""
    if not flags:
        return
    done = subprocess.run(
        [sys.executable, "-c", "from jaxlib import _jax; _jax.CompileOptions()"],
        env={**os.environ, "XLA_FLAGS": flags, "TF_CPP_MIN_LOG_LEVEL": "0"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode and (refusal := _XLA_LOG.search(done.stderr)):
        raise UserError(
            f"XLA refuses XLA_FLAGS={flags}: {refusal[1].rstrip('.')}; mend or unset it"
        )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class if it has no message."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _arguments(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of `jax.distributed.initialize`; None if there is one process."""
    if environment.get(COORDINATOR) == "auto":
        return {}
    given = [name for name in (COORDINATOR, COUNT, INDEX) if environment.get(name)]
    if given:
        if len(given) < 3:
            raise UserError(f"set all of {COORDINATOR}, {COUNT} and {INDEX}, or none of them")
        try:
            count, index = int(environment[COUNT]), int(environment[INDEX])
        except ValueError:
            raise UserError(f"{COUNT} and {INDEX} must be whole numbers") from None
        if not 0 <= index < count:
            raise UserError(f"{INDEX} is {index}, expected 0 to {count - 1} ({COUNT} is {count})")
        address = environment[COORDINATOR]
        return {"coordinator_address": address, "num_processes": count, "process_id": index}
    slurm = environment.get("SLURM_JOB_ID") and environment.get("SLURM_STEP_NUM_TASKS", "1") != "1"
    pod = "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    mpi = environment.get("OMPI_COMM_WORLD_SIZE", "1") != "1"
    return {} if slurm or pod or mpi else None
