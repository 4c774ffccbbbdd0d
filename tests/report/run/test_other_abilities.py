"""The section "Other abilities" of a run's page: four variants, and the paper's ranges."""

from __future__ import annotations

import html
import re

import fabricated_sweep
import pytest

from sycophancy.evaluation.retention import VARIANTS
from sycophancy.report.run.page import write_report

NAMES = [variant.name for variant in VARIANTS]
ROWS = 4_000


def section(run) -> list[list[str]]:
    """The cells of the section's table; empty without a section."""
    page = write_report(run).read_text(encoding="utf-8")
    found = re.search(r'<section id="other-abilities">.*?</section>', page, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", found[0], re.DOTALL) if found else []
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    return [[html.unescape(cell).replace("\N{MINUS SIGN}", "-") for cell in row] for row in cells]


def test_each_change_stands_beside_the_papers_range(make_run):
    """Of 4,000 rows, 3,000 are right before; after, 12, 20 or 400 are lost, or 400 won."""
    lost = dict(zip(NAMES, (12, 20, 400, -400), strict=True))

    def right(variant, side):
        count = 3_000 - (lost[variant] if side == "after" else 0)
        return [row < count for row in range(ROWS)]

    run = make_run(number=8)
    fabricated_sweep.ask_abilities_of_run(run, right, NAMES)
    _, *rows = section(run)
    assert [row[:5] for row in rows] == [
        ["MMLU, 5 examples", "75.0%", "74.7%", "4,000", "-0.3"],
        ["MMLU, no example", "75.0%", "74.5%", "4,000", "-0.5"],
        ["BIG-Bench Hard, 3 examples", "75.0%", "65.0%", "4,000", "-10.0"],
        ["BIG-Bench Hard, 3 examples, chain of thought", "75.0%", "85.0%", "4,000", "+10.0"],
    ]
    assert [row[6:] for row in rows] == [
        ["-1.6 to +0.6", "within the range"],
        ["-1.2 to +0.1", "within the range"],
        ["-1.6 to +0.6", "below the range"],
        ["-1.5 to +3.1", "above the range"],
    ]


def test_few_rows_do_not_lie_within_the_range(make_run):
    run = make_run(number=8)
    right = {"before": [True, False] * 20, "after": [False, True] * 20}
    fabricated_sweep.ask_abilities_of_run(run, lambda variant, side: right[side], NAMES[:1])
    _, row = section(run)
    assert row[4] == "0.0"
    assert row[7] == "the interval reaches beyond the range"


@pytest.mark.parametrize("missing", ["before", "after"])
def test_a_model_that_was_asked_alone_has_no_change(make_run, missing):
    run = make_run(number=8, **{missing: None})
    fabricated_sweep.ask_abilities_of_run(run, lambda *_: [True] * 30, NAMES[:2])
    _, *rows = section(run)
    values = {"before": ["-", "100%"], "after": ["100%", "-"]}[missing]
    assert [row[1:5] for row in rows] == [[*values, "30", "-"]] * 2
    assert all(row[-1] == "" for row in rows)


def test_a_run_that_asks_none_has_no_section(make_run):
    assert section(make_run(number=8)) == []
