"""The settings that decide what a checkpoint answers."""

from __future__ import annotations

from sycophancy.config.declarations import NETWORK_SHAPE

# Scoring uses neither dropout nor DTYPE. CHAT and the architecture concern decoder-only models.
NETWORK = frozenset(NETWORK_SHAPE.values()) | {"ARCHITECTURE", "CHAT"}
