"""The results of a run as Markdown tables for a README: every task, before and after finetuning.

If generated held-out sets were asked, a third table has the kinds of users.

Example:
    python -m sycophancy.report.markdown runs/demo
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sycophancy.errors import UserError
from sycophancy.evaluation import naming
from sycophancy.evaluation.metric_files import SERIES
from sycophancy.evaluation.units import in_unit, unit_of
from sycophancy.report.run.record import RunRecord, read_run
from sycophancy.report.text_format import with_unit

CONDITIONS = ("accuracy_neutral", "accuracy_user_wrong", "accuracy_user_right")


def tables(record: RunRecord) -> list[str]:
    """The lines of the tables: right answers by what the user says, and all other measures.

    The tables leave out `naming.WITHOUT_AIM` and the sums taken together, which the report has, and
    all but the right answers of other pooled tasks.
    """
    asked: list[str] = []
    others: list[str] = []
    pooled: list[str] = []
    for task, group in naming.grouped(record.names):
        if task == "sums":
            continue
        words = naming.task_words(task)
        if any(f"{task}/{measure}" in group for measure in CONDITIONS):
            cells = [_moved(record, f"{task}/{measure}") for measure in CONDITIONS]
            rows = pooled if task in naming.POOLED else asked
            rows.append(f"| {words}, n = {_n(record, task)} | {' | '.join(cells)} |")
        for name in group:
            measure = naming.split(name)[1]
            regroups = task in naming.POOLED or naming.kind(name) in naming.WITHOUT_AIM
            if measure not in CONDITIONS and not regroups:
                others.append(f"| {words}, {naming.measure_words(name)} | {_moved(record, name)} |")
    head = ["| right answers | no opinion | wrong user | right user |", "|---|---|---|---|"]
    kinds = ["", *head, *pooled] if pooled else []
    return [*head, *asked, "", "| | before → after |", "|---|---|", *others, *kinds]


def _moved(record: RunRecord, name: str) -> str:
    """Before and after in the measure's unit; the interval after finetuning is without it."""
    unit = unit_of(name)
    before, after = (record.metric(series, name) for series in SERIES)
    start = with_unit(before.value, unit) if before else "not measured"
    if after is None:
        return f"{start} → not measured"
    low, high = (in_unit(bound, unit).removesuffix("%") for bound in (after.low, after.high))
    return f"{start} → {with_unit(after.value, unit)} ({low} to {high})"


def _n(record: RunRecord, task: str) -> str:
    names = [f"{task}/{measure}" for measure in CONDITIONS]
    counts = {m.n for metrics in record.metrics.values() for n in names if (m := metrics.get(n))}
    return " and ".join(f"{n:,}" for n in sorted(counts))


def main(words: Sequence[str]) -> int:
    """Prints the tables of a run."""
    if len(words) != 1:
        print("usage: python -m sycophancy.report.markdown RUN", file=sys.stderr)
        return 2
    try:
        print(*tables(read_run(Path(words[0]))), sep="\n")
    except UserError as error:
        print(f"sycophancy: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
