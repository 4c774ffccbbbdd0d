"""The page of a comparison: one html file that loads nothing else."""

from __future__ import annotations

from sycophancy.report import pages
from sycophancy.report.compare.comparison import Comparison


def render(comparison: Comparison) -> str:
    """The page as text."""
    return pages.render("compare.html.j2", {"comparison": comparison})
