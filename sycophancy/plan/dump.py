"""What the TPU compiler writes down on its way, long before it is done; no JAX in here.

With the option `xla_dump_to`, XLA writes every buffer and the optimised program as text as soon as
it has placed the one and scheduled the other. What is left then is machine code: nine tenths of
the compiler's time, and it changes neither.
"""

from __future__ import annotations

import re
from pathlib import Path

_DONE = "*.after_optimizations_after_buffer_assignment.txt"  # written after the two below
_BUFFERS = "*.after_optimizations-buffer-assignment.txt"
_PROGRAM = "*.after_optimizations.txt"
# Of memory spaces other than HBM (registers and caches on the chip) the line names a color.
_BUFFER = re.compile(r"^allocation \d+: size (\d+), page \d+, (.*)$", re.MULTILINE)


def is_decided(folder: Path) -> bool:
    """Whether the compiler found that the program fits, and wrote down all that is read here."""
    return any(folder.glob(_DONE))


def optimised_program(folder: Path) -> str:
    """The program as `plan_hlo.Program` reads it."""
    return next(folder.glob(_PROGRAM)).read_text()


def memory(folder: Path) -> dict[str, int]:
    """Bytes of HBM on one chip, by what they are for; the sum is what the compiler reports.

    Returns:
      `arguments`, `output` (what is not written over the arguments) and `temporaries`.
    """
    found = {"arguments": 0, "temporaries": 0, "output": 0}
    for size, what in _BUFFER.findall(next(folder.glob(_BUFFERS)).read_text()):
        kind = (
            "arguments"
            if what.startswith("parameter ")
            else "output"
            if "maybe-live-out" in what
            else "temporaries"
        )
        found[kind] += int(size)
    return found
