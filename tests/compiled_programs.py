"""One folder of compiled programs for all tests and their subprocesses, kept between test runs.

Compiling takes most of a test run's time, and many tests compile the same programs. The first
process of a test run calls `share`; its workers and subprocesses inherit the environment.
"""

import atexit
import contextlib
import os
from pathlib import Path

# LLVM's optimisations would double the time of compiling, and tiny networks gain nothing by them;
# building fusions with MLIR would double it again, and so would many modules instead of one.
WITHOUT_OPTIMISATION = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)

FOLDER = Path(__file__).resolve().parents[1] / ".cache" / "compiled-for-tests"
MAX_BYTES = 2**30
MARKER = "test-run-"  # followed by the process id of a test run that has not ended


def share() -> None:
    """Makes JAX, which must not be imported yet, read and write programs in `FOLDER`.

    JAX does not write programs atomically. A test run that was killed may have left half of one, so
    the next test run starts with an empty folder; so does one that finds more than `MAX_BYTES`.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    programs = list(FOLDER.glob("*-cache"))
    size = sum(path.stat().st_size for path in programs)
    if _remove_markers_of_killed_runs() or size > MAX_BYTES:
        for path in programs:
            path.unlink(missing_ok=True)
    marker = FOLDER / f"{MARKER}{os.getpid()}"
    marker.touch()
    atexit.register(marker.unlink, missing_ok=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(FOLDER)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # The caches of XLA itself would make a program's key depend on the path of the folder.
    os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"


def apart(folder: Path) -> dict[str, str]:
    """The environment of a process that will be killed: `folder` holds its compiled programs.

    The folder begins with the shared programs, as links, so that none of them is compiled again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*-cache"):
        with contextlib.suppress(FileExistsError):
            os.link(path, folder / path.name)
    return {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder)}


def _remove_markers_of_killed_runs() -> bool:
    removed = False
    for marker in FOLDER.glob(f"{MARKER}*"):
        try:
            os.kill(int(marker.name.removeprefix(MARKER)), 0)
        except ProcessLookupError:
            marker.unlink(missing_ok=True)
            removed = True
    return removed
