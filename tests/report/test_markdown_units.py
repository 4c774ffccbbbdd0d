"""Tables for a README: each measure in its own unit."""

import dataclasses

import pytest

from sycophancy.evaluation import naming
from sycophancy.evaluation.metrics import Metric
from sycophancy.report import markdown

CELLS = {
    "log_odds_shift": ((1.5, 0.25), "1.50 nats → 0.25 nats (0.24 to 0.26)"),
    "over_correction": ((0.4, 0.05), "+40.0 points → +5.0 points (+4.0 to +6.0)"),
    "accuracy": ((0.4, 0.05), "40.0% → 5.0% (4.0 to 6.0)"),
}


@dataclasses.dataclass
class Record:
    """The part of a run's record that the tables read."""

    metrics: dict[str, dict[str, Metric]]

    @property
    def names(self) -> list[str]:
        return list(self.metrics["before"])

    def metric(self, series: str, name: str) -> Metric | None:
        return self.metrics[series].get(name)


@pytest.mark.parametrize("measure", CELLS)
def test_a_measure_has_its_unit(measure, monkeypatch):
    monkeypatch.setattr(naming, "WITHOUT_AIM", ())  # the tables leave these measures out
    values, cell = CELLS[measure]
    record = Record({
        side: {f"new_task/{measure}": Metric(value, value - 0.01, value + 0.01, 500)}
        for side, value in zip(("before", "after"), values, strict=True)
    })  # fmt: skip
    assert markdown.tables(record)[-1].split(" | ")[-1] == f"{cell} |"
