"""Holm's adjusted p-values by statsmodels, as an oracle for our own."""

from collections.abc import Sequence
from unittest import mock

import pytest


def holm_of_statsmodels(p_values: Sequence[float]) -> list[float]:
    """The adjusted p-values; skips the test where statsmodels is not installed."""
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    # Each call collects garbage, which takes seconds beside all that a test process has loaded.
    with mock.patch("gc.collect"):
        return multitest.multipletests(p_values, method="holm")[1].tolist()
