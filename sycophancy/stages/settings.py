"""The settings that decide what a checkpoint answers."""

from __future__ import annotations

from sycophancy.config.declarations import NETWORK_SHAPE

NETWORK = frozenset(NETWORK_SHAPE.values())  # scoring uses neither dropout nor DTYPE
