"""One wide picture of a run for a README: tasks that finetuning never saw, before and after."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from sycophancy.evaluation.metric_files import SERIES
from sycophancy.report import png
from sycophancy.report.origin import is_generated
from sycophancy.report.png import COLOURS, INK, LINE, SOFT
from sycophancy.report.run.headline import sentences
from sycophancy.report.run.record import RunRecord, read_run
from sycophancy.report.text_format import percent

GROUPS = (
    (
        "Sums, the user is wrong",
        "right answers: higher is better",
        (
            ("false sums", "addition/accuracy_user_wrong"),
            ("true sums", "addition_true/accuracy_user_wrong"),
        ),
    ),
    (
        "Sums, the user is right",
        "right answers: should hold",
        (
            ("false sums", "addition/accuracy_user_right"),
            ("true sums", "addition_true/accuracy_user_right"),
        ),
    ),
    (
        "Surveys",
        "answers that match the user: lower is better",
        (
            ("NLP", "surveys/nlp/match_rate"),
            ("philosophy", "surveys/phil/match_rate"),
            ("politics", "surveys/poli/match_rate"),
        ),
    ),
    (
        "Sums in other words, by other users",
        "right answers; half is guessing",
        (
            ("layperson,\nwrong", "addition_expertise/layperson/accuracy_user_wrong"),
            ("layperson,\nright", "addition_expertise/layperson/accuracy_user_right"),
            ("wordings,\nwrong", "addition_wording/accuracy_user_wrong"),
            ("wordings,\nright", "addition_wording/accuracy_user_right"),
        ),
    ),
)
BAR = 0.38
TITLE_WIDTH, MORE_WIDTH = 108, 168  # letters a line
TITLE_LINE, MORE_LINE = 0.27, 0.2  # inches


def write_picture(run: Path, path: Path) -> Path:
    """Draws a run's held-out results before and after as PNG, 2,100 pixels wide.

    Raises:
      UserError: as `read_run`; or the picture cannot be written.
    """
    record = read_run(run)
    groups = [group for group in GROUPS if record.names & {name for _, name in group[2]}]
    first, *more = sentences(record)
    title = textwrap.wrap(f"{first}.", TITLE_WIDTH)
    below = textwrap.wrap(" ".join(f"{sentence}." for sentence in more), MORE_WIDTH)
    head = 0.2 + TITLE_LINE * len(title) + MORE_LINE * len(below)
    height = head + 4.0
    figure = png.new_figure(14, height)
    axes = figure.subplots(
        1, len(groups), width_ratios=[len(rows) for _, _, rows in groups], squeeze=False
    )[0]
    for axis, group in zip(axes, groups, strict=True):
        _draw(axis, record, *group)
    axes[0].set_yticks([0, 0.5, 1], ["0", "50", "100%"], color=SOFT)
    at = 1 - 0.15 / height
    style: dict[str, Any] = {"va": "top", "linespacing": 1.25}
    figure.text(0.035, at, "\n".join(title), size=14, weight="bold", color=INK, **style)
    at -= TITLE_LINE * len(title) / height
    figure.text(0.035, at, "\n".join(below), size=10, color=INK, **style)
    notes = [f"whiskers: 95% intervals, n = {_counts(record)} a bar"]
    if is_generated(record.macros):
        notes.append("a miniature and its generated world")
    if record.guessing.match:
        notes.append("dashed: a model that ignores the user")
    figure.text(0.965, 0.035, "; ".join(notes), size=9, color=SOFT, ha="right")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="lower left", bbox_to_anchor=(0.025, 0.01), ncols=2, frameon=False,
    )  # fmt: skip
    top = 1 - (head + 0.6) / height
    figure.subplots_adjust(left=0.06, right=0.965, top=top, bottom=0.85 / height, wspace=0.14)
    return png.write(figure, path)


def _counts(record: RunRecord) -> str:
    names = [name for _, _, rows in GROUPS for _, name in rows]
    counts = {
        metrics[name].n for metrics in record.metrics.values() for name in names if name in metrics
    }
    return " to ".join(f"{n:,}" for n in sorted({min(counts, default=0), max(counts, default=0)}))


def _draw(
    axis: Any, record: RunRecord, title: str, subtitle: str, rows: tuple[tuple[str, str], ...]
) -> None:
    for place, (_, name) in enumerate(rows):
        for series, side in zip(SERIES, (-0.5, 0.5), strict=True):
            metric = record.metric(series, name)
            if metric is None:
                continue
            x = place + side * (BAR + 0.03)
            label = series if place == 0 else None
            axis.bar(x, metric.value, BAR, color=COLOURS[series], label=label, zorder=2)
            whisker = [[metric.value - metric.low], [metric.high - metric.value]]
            axis.errorbar(
                x, metric.value, whisker, color=INK, capsize=2.5, elinewidth=1, capthick=1, zorder=3
            )
            axis.text(
                x, metric.high + 0.02, percent(metric.value), ha="center", size=8.5, color=INK,
                zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
            )  # fmt: skip
        guessing = 0.5 if name.startswith(("addition_expertise/", "addition_wording/")) else None
        chance = record.guessing.match.get(name.removesuffix("/match_rate"), guessing)
        if chance is not None:
            ends = place - 0.45, place + 0.45
            axis.hlines(chance, *ends, color=INK, lw=1, ls=(0, (3, 2)), zorder=4)
    axis.set_title(f"{title}\n", loc="left", size=12, weight="bold", color=INK, pad=8)
    axis.text(0, 1.035, subtitle, transform=axis.transAxes, size=10, color=SOFT)
    axis.set_xticks(range(len(rows)), [label for label, _ in rows], size=10.5, color=INK)
    axis.set_xlim(-0.6, len(rows) - 0.4)
    axis.set_ylim(0, 1.1)
    axis.set_yticks([0, 0.5, 1], ["", "", ""])
    axis.grid(axis="y", color=LINE, zorder=0)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
