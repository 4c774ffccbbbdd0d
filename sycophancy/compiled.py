"""Where compiled programs are kept, so that a run that continues need not compile again.

JAX does it; this says where, by environment, which reaches every process of a run. Imports no JAX.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import MutableMapping
from pathlib import Path

FOLDER = "JAX_COMPILATION_CACHE_DIR"
_MOST_BYTES = 4 * 2**30  # the least recently used goes first


def keep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Tells JAX, which must not be imported yet, to keep what it compiles.

    What the user has set stays; an empty JAX_COMPILATION_CACHE_DIR keeps nothing.

    Args:
      environment: gets JAX's own variables.
    """
    home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    environment.setdefault(FOLDER, str(home / "sycophancy" / "compiled" / _processor()))
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    environment.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_MOST_BYTES))


def _processor() -> str:
    """Names this kind of processor: code for one may use what another, of the same home, lacks."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = [platform.processor()]
    told = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    digest = hashlib.blake2b("\n".join(told or lines[:1]).encode(), digest_size=4).hexdigest()
    return f"{platform.machine()}-{digest}"
