"""Several processes, one run: JAX between them, and one that keeps the run folder.

Every process computes on its own devices, from the same batches, and calls the same stages.
Process 0 leads: it alone decides what is stale, writes stages and prints; the others do what it
says. They see one file system, or the run folder would not be one.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sycophancy import paths
from sycophancy.errors import UserError

T = TypeVar("T")

COORDINATOR, COUNT, INDEX = (
    f"SYCOPHANCY_{name}" for name in ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID")
)
START_SECONDS = 600  # until all processes have met; hosts of a cluster start minutes apart
HEARTBEAT_SECONDS = 30  # after which a process that is gone ends the others
_DAY_MILLISECONDS = 24 * 3600 * 1000  # the others wait as long as the leader prepares data


class Crew:
    """The processes of a run; here, one alone."""

    leader = True
    size = 1

    def agree(self, decide: Callable[[], T]) -> T:
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


class _Many(Crew):
    def __init__(self, index: int, size: int, client: Any) -> None:
        self.leader, self.size = index == 0, size
        self._client, self._said = client, 0
        self._scratch = tempfile.TemporaryDirectory(prefix="sycophancy-")

    def agree(self, decide: Callable[[], T]) -> T:
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
            raise UserError(f"process 0, which leads this run, does not answer: {reason}") from None
        if "error" in said:
            raise UserError(said["error"])
        return said["result"]

    def workplace(self, shared: str, *, together: bool) -> Any:
        if self.leader or together:
            return paths.open_path(shared)
        return Path(tempfile.mkdtemp(dir=self._scratch.name))


def assemble(environment: Mapping[str, str] = os.environ) -> Crew:
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
        return Crew()
    import jax
    from jax._src import distributed  # its key-value store has no public name

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
    return _Many(jax.process_index(), jax.process_count(), distributed.global_state.client)


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
