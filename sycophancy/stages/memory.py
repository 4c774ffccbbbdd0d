"""The memory of devices and host: how much there is, and what to do when it runs out."""

from __future__ import annotations

import contextlib
import os
import typing
from collections.abc import Iterator
from pathlib import Path

from sycophancy.errors import UserError

if typing.TYPE_CHECKING:
    import jax

WAYS_OUT = "lower BATCH_SIZE, raise MICROBATCHES, set REMAT_POLICY to 'full', or use more devices"


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Raises UserError with the ways out where the block runs out of device or host memory."""
    try:
        yield
    except Exception as error:  # jaxlib's own class, which names the cause only in its message
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            reason = " ".join(str(error).split())[:200] or "the host's memory is full"
            raise UserError(f"out of memory ({reason}): {WAYS_OUT}") from error
        raise


def device_memory(device: jax.Device) -> int | None:
    """Bytes of an accelerator's memory; None on CPU."""
    limit: int | None = (device.memory_stats() or {}).get("bytes_limit")
    return limit


def host_memory() -> float:
    """Bytes of memory that this process may use: the machine's, or its container's."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # absent, or "max"
            limits.append(float(Path(file).read_text()))
    return min(limits)
