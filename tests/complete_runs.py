"""Runs that look complete: fabricated answers, a finetuned checkpoint, and the page."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from sycophancy.config.load import load_config
from sycophancy.engine import manifests
from sycophancy.report.run.page import write_report

SHIPPED = Path(__file__).resolve().parents[1] / "sycophancy" / "models" / "mini_small"


def of_mini_small(fabricated: Callable[..., Path], folder: Path) -> Path:
    """A complete run in `folder`, whose finetuned checkpoint is the smallest shipped model.

    Args:
      fabricated: the fixture of this name.
    """
    config = load_config("mini_small", "quick").operative
    run = fabricated(folder, number=20, config=config)
    shutil.copytree(SHIPPED, run / "finetune" / "checkpoints" / "6")
    return completed(run)


def completed(run: Path) -> Path:
    """The run, with its checkpoint declared finished and its page written."""
    manifest = {
        "stage": "finetune",
        "fingerprint": "",
        "ingredients": {"settings": {}, "files": {}, "code": {}},
        "outputs": {},
        "counts": {"checkpoint": "checkpoints/6"},
        "seconds": 1.0,
        "versions": {"jax": "0.10.2"},
        "finished": "2026-01-01T00:00:00+00:00",
    }
    manifests.write(run / "finetune" / "manifest.json", manifest)
    write_report(run)
    return run
