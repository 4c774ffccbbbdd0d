"""Pictures as PNG files, drawn by matplotlib without a screen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sycophancy.errors import UserError

COLOURS = {"before": "#e8963e", "after": "#2a6ab5"}
INK, SOFT, LINE = "#1b1d21", "#5b6068", "#e3e0da"


def new_figure(width: float, height: float) -> Any:
    """An empty `matplotlib` figure of a size in inches, 150 pixels an inch.

    Raises:
      UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("the picture needs matplotlib; install it beside this package") from None
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def write(figure: Any, path: Path) -> Path:
    """Writes a figure whole or not at all, and returns its path.

    Raises:
      UserError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(unfinished, format="png")
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return path
