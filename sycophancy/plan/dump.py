"""What the TPU compiler writes to files long before it is done; without JAX.

With the option `xla_dump_to`, XLA writes all buffers and the optimised program as text, once it has
placed the buffers and scheduled the program. It then makes machine code, which takes most of its
time and changes neither. docs/lab_notes.md has what reading these files saves.
"""

from __future__ import annotations

import re
from pathlib import Path

_DONE = "*.after_optimizations_after_buffer_assignment.txt"  # written after the other two
_BUFFERS = "*.after_optimizations-buffer-assignment.txt"
_PROGRAM = "*.after_optimizations.txt"
# For memory other than HBM (registers and caches on the chip) the line names a color.
_BUFFER = re.compile(r"^allocation \d+: size (\d+), page \d+, (.*)$", re.MULTILINE)


def is_complete(folder: Path) -> bool:
    """True if the program fits and the compiler has written both files that are read here."""
    return any(folder.glob(_DONE))


def optimised_program(folder: Path) -> str:
    """The program as text, as `plan.hlo.Program` reads it."""
    return next(folder.glob(_PROGRAM)).read_text()


def memory(folder: Path) -> dict[str, int]:
    """Bytes of HBM on one chip, by purpose; their sum is what the compiler reports.

    Returns:
        `arguments`, `temporaries` and `output` (what is not written over the arguments).
    """
    sizes = {"arguments": 0, "temporaries": 0, "output": 0}
    for size, description in _BUFFER.findall(next(folder.glob(_BUFFERS)).read_text()):
        if description.startswith("parameter "):
            purpose = "arguments"
        elif "maybe-live-out" in description:
            purpose = "output"
        else:
            purpose = "temporaries"
        sizes[purpose] += int(size)
    return sizes
