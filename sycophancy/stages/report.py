"""The stage `report`: one html page about the run."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from sycophancy.engine.stage import Counts, Inputs, Stage
from sycophancy.report import PAGE

if typing.TYPE_CHECKING:
    from etils import epath

    from sycophancy.config.schema import Config
    from sycophancy.engine.progress import Meter
    from sycophancy.engine.run_folder import RunFolder


class Report(Stage):
    """Write one html page about the run."""

    name = command = "report"
    depends_on = ("evaluate_before", "evaluate_after")
    unit = "pages"
    on_devices = False
    top_level = (PAGE,)
    code_patterns = ("sycophancy/report/**/*.j2", "sycophancy/report/**/*.css")
    keeps_other_code = False  # a page is written in a second

    def __init__(self, reported: tuple[str, ...]) -> None:
        self.reported = reported  # the names of all other stages of a run

    def inputs(self, config: Config, run: RunFolder) -> Inputs:
        """The manifests of the other stages, the configuration and the metrics.

        Evaluations of further checkpoints count, too.
        """
        names = [*(f"{name}/manifest.json" for name in self.reported), "config.gin", "metrics.json"]
        paths = {name: run.path / name for name in names}
        paths |= {
            f"{path.parent.name}/{path.name}": path
            for path in sorted(run.path.glob("evaluate_*/manifest.json"))
        }
        return {name: path for name, path in paths.items() if path.exists()}

    def work(self, config: Config, run: RunFolder, out: Any, meter: Meter) -> Counts:
        from sycophancy.report.run import page
        from sycophancy.report.run.family import explanation
        from sycophancy.report.run.headline import headline
        from sycophancy.report.run.record import read_run

        plain = str.maketrans({"“": '"', "”": '"'})
        record = read_run(run.path, self.reported)
        page.write(record)
        lines = [f"{headline(record).translate(plain)}.", explanation(record.changes)]
        return {"summary": [line for line in lines if line]}

    def result(self, run: RunFolder) -> Path | epath.Path:
        return run.path / PAGE

    def summary(self, run: RunFolder) -> list[str]:
        """The sentences at the top of the report, and the tests that they follow from."""
        lines: list[str] = (run.manifest(self.name) or {})["counts"]["summary"]
        return lines
