"""Groups of macros that several stages depend on."""

from __future__ import annotations

from sycophancy.config import macros


def macros_of(owner: str, *without: str) -> frozenset[str]:
    """The macros that fill the fields of a configuration's dataclass, but for some."""
    return frozenset(
        field.macro for field in macros.bindings() if field.owner == owner
    ) - frozenset(without)


# What decides the answers of a checkpoint. Scoring uses neither dropout nor DTYPE.
NETWORK = macros_of("NetworkConfig", "DROPOUT_RATE", "DTYPE", "REMAT_POLICY")

# What decides how training proceeds, and not its result.
OPERATIONAL = (
    *("MESH", "LOG_PERIOD", "SAVE_PERIOD", "SAVE_MINUTES", "KEEP_CHECKPOINTS", "KEEP_PERIOD"),
)
