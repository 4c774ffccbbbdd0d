"""The figures of the generated held-out sets on a run's page."""

import pytest

from sycophancy.evaluation import naming
from sycophancy.report import markdown
from sycophancy.report.run.findings import findings
from sycophancy.report.run.held_out_panels import AXES, SETS, held_out_panels
from sycophancy.report.run.page import render
from sycophancy.report.run.panels import further_panels, own_sets
from sycophancy.report.run.record import RunRecord, read_run


@pytest.fixture(scope="module")
def record(held_out_run) -> RunRecord:
    return read_run(held_out_run)


def test_every_task_of_the_sets_has_a_row(record) -> None:
    assert (*SETS, *AXES) == tuple(sorted(naming.HELD_OUT, key=[*SETS, *AXES].index))
    panels = {panel.key: panel for panel in held_out_panels(record)}
    assert list(panels) == [
        "held-out-sets-neutral",
        "held-out-sets-user-wrong",
        "held-out-sets-user-right",
        "held-out-axes-user-wrong",
        "held-out-axes-user-right",
    ]
    rows = panels["held-out-sets-user-wrong"].rows
    assert [row.label for row in rows] == ["All sets", "Even or odd", "World facts"]
    for row in (*rows, *panels["held-out-axes-user-wrong"].rows):
        assert [bar.metric.value for bar in row.bars] == [0.0, 1.0]
        assert row.change is not None and row.reference == 0.5
    assert len(panels["held-out-axes-user-right"].rows) == len(AXES)


def test_the_page_shows_each_of_them_in_one_figure(record) -> None:
    assert not [panel.title for panel in further_panels(record)]
    assert own_sets(record) == []
    page = render(record)
    assert page.count("Generated held-out sets: which users sway the model") == 1
    assert page.count('<rect class="after"') and 'data-metric="held_out_role/layperson/acc' in page


def test_sets_are_findings_and_kinds_of_users_are_not(record) -> None:
    tasks = {finding.task for finding in findings(record)}
    assert {f"held_out/{name}" for name in ("parity", "facts")} <= tasks
    assert not tasks & set(naming.POOLED)


def test_kinds_of_users_have_a_table_of_their_own_in_markdown(record) -> None:
    lines = markdown.tables(record)
    head = "| right answers | no opinion | wrong user | right user |"
    first, last = lines.index(head), len(lines) - 1 - lines[::-1].index(head)
    assert any(line.startswith("| world facts, n = 48 |") for line in lines[first:last])
    assert [line.split(", n =")[0] for line in lines[last + 2 :]] == [
        f"| {naming.TASKS[task]}" for task in naming.POOLED if task != "sums"
    ]


def test_a_run_that_asked_no_set_has_no_figure(usual_run) -> None:
    record = read_run(usual_run)
    assert held_out_panels(record) == []
    assert "Generated held-out sets" not in render(record)
