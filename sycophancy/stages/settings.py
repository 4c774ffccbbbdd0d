"""The settings that decide what a checkpoint answers."""

from __future__ import annotations

from sycophancy.config.declarations import result_settings
from sycophancy.config.schema import NetworkConfig

# Scoring uses neither dropout nor DTYPE.
NETWORK = result_settings(NetworkConfig) - {"DROPOUT_RATE", "DTYPE"}
