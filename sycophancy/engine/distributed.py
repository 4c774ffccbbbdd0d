"""Several processes, one run: JAX between them, and one that keeps the run folder.

Every process computes on its own devices, from the same batches, and calls the same stages. Losses
differ from those of one process in the eighth digit: devices add up in another order.

Process 0 leads: it alone decides what is stale, writes stages and prints; the others do what it
says. They see one file system, or the run folder would not be one.
"""

from __future__ import annotations

import contextlib
import functools
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
from sycophancy.system import paths

T = TypeVar("T")

COORDINATOR, COUNT, INDEX = (
    f"SYCOPHANCY_{name}" for name in ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID")
)
START_SECONDS = 600  # until all processes have met; hosts of a cluster start minutes apart
# JAX gives up a process that has sent nothing for so long, because it is paused or swapped out. One
# that ends is noticed at once, unless the parents of `supervision` could not be connected.
HEARTBEAT_SECONDS = 60
# What decides which devices JAX finds.
_DEVICE_SETTINGS = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES")
_XLA_LOG = re.compile(r"^[EF]\d{4} \S+ +\d+ \S+\] (.*)", re.MULTILINE)  # what C++ logs as error
_DAY_MILLISECONDS = 24 * 3600 * 1000  # the others wait as long as the leader prepares data


class UnreachableError(UserError):
    """Another process does not answer, perhaps because it has ended."""


class Processes:
    """The processes of a run; here, one alone."""

    leader = True
    size = 1

    def broadcast(self, decide: Callable[[], T]) -> T:
        """What the leader's `decide` returns, or the UserError that it raises, in every process.

        Args:
          decide: called by the leader alone; returns what json can hold.
        """
        return decide()

    def workplace(self, shared: str, *, together: bool) -> Any:
        """Where a stage writes: the leader's folder, for the others one that is thrown away.

        Args:
          shared: the leader's folder.
          together: whether all processes write into it.
        """
        return paths.open_path(shared)


class _Many(Processes):
    def __init__(self, index: int, size: int, client: Any) -> None:
        self.leader, self.size = index == 0, size
        self._client, self._said = client, 0
        self._scratch = tempfile.TemporaryDirectory(prefix="sycophancy-")
        self.scratch = self._scratch.name

    def broadcast(self, decide: Callable[[], T]) -> T:
        self._said += 1
        key = f"sycophancy/{self._said}"
        if self.leader:
            try:
                result = decide()
            except UserError as error:
                self._client.key_value_set(key, json.dumps({"error": str(error)}))
                raise
            self._client.key_value_set(key, json.dumps({"result": result}))
            return result
        try:
            said = json.loads(self._client.blocking_key_value_get(key, _DAY_MILLISECONDS))
        except Exception as error:  # jaxlib's own, where the leader is gone
            reason = str(error).splitlines()[0]
            raise UnreachableError(
                f"process 0, which leads this run, does not answer: {reason}"
            ) from None
        if "error" in said:
            raise UserError(said["error"])
        return said["result"]

    def workplace(self, shared: str, *, together: bool) -> Any:
        if self.leader or together:
            return paths.open_path(shared)
        return Path(tempfile.mkdtemp(dir=self.scratch))


def assemble(environment: Mapping[str, str] = os.environ) -> Processes:
    """Meets the other processes of this run, if the environment says that there are any.

    SYCOPHANCY_COORDINATOR (host:port), SYCOPHANCY_NUM_PROCESSES and SYCOPHANCY_PROCESS_ID say it
    everywhere; SLURM with several tasks, a TPU pod and Open MPI say it in their own words, which
    `jax.distributed` knows. SYCOPHANCY_COORDINATOR=auto leaves it to `jax.distributed` also where
    the environment shows nothing, as on the hosts of a TPU pod, which ask Google's metadata server.
    Must come before JAX is used.

    Raises:
      UserError: the variables do not fit each other, or the processes do not meet.
    """
    arguments = _said(environment)
    if arguments is None:
        return Processes()
    import jax
    from jax._src import distributed  # its key-value store has no public name

    # Between processes gRPC is not to ask a proxy, which the hub may need. Empty, this is for gRPC
    # alone and comes before http_proxy and https_proxy.
    os.environ["grpc_proxy"] = ""  # noqa: SIM112  # gRPC reads the small letters
    jax.config.update("jax_check_proxy_envs", False)
    if supervision.link:
        supervision.link.say(
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
    check_platform()  # here, as all processes must start JAX's devices together
    return processes


def is_shared(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says that this process is one of several."""
    with contextlib.suppress(UserError):  # `assemble` raises it
        return _said(environment) is not None
    return False


def check_platform(environment: Mapping[str, str] = os.environ) -> None:
    """Starts JAX on the devices that the environment asks for; cheap once that is done.

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
    except Exception as error:  # plugins raise what they like; an absent one is an AssertionError
        reason = first_line(error) if str(error) else "the plugin of that platform is not installed"
        reason = reason.split(" (set JAX_PLATFORMS=")[0].split(" (you may need to ")[0].rstrip(".")
        raise UserError(
            f"JAX finds no devices{' with ' if shown else ''}{shown}: {reason}; "
            f"{'change or unset that' if shown else 'mend the driver'}, set JAX_PLATFORMS=cpu, or "
            "install what drives the devices (in the checkout: pip install -e '.[gpu]' or '.[tpu]')"
        ) from None


@functools.cache  # the cells of a sweep ask again, and each answer takes a process
def _check_xla_flags(flags: str) -> None:
    """Reads XLA_FLAGS in a process of its own, as XLA ends the process where they are wrong."""
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
    if done.returncode and (said := _XLA_LOG.search(done.stderr)):
        raise UserError(f"XLA refuses XLA_FLAGS={flags}: {said[1].rstrip('.')}; mend or unset it")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _said(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Arguments for `jax.distributed.initialize`; None where there is one process."""
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
