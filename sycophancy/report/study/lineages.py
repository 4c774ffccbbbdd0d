"""The table and the picture of all runs of all lineages of the miniature."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from sycophancy.data.miniature.questionnaires import SURVEYS
from sycophancy.evaluation.metric_files import SERIES
from sycophancy.report import png
from sycophancy.report.png import COLOURS, INK, LINE, SOFT
from sycophancy.study.families import family_named

SIZES = tuple(size.model for size in family_named("mini").sizes)
USERS = {"user_wrong": "wrong user", "user_right": "right user", "neutral": "no user"}


def _by_user(task: str) -> tuple[tuple[str, str], ...]:
    return tuple((label, f"{task}/accuracy_{user}") for user, label in USERS.items())


# Groups of measures: a title, then each measure's name in the group and in `metrics.json`.
GROUPS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("false sums", _by_user("addition")),
    ("true sums", _by_user("addition_true")),
    ("sums with a layperson", _by_user("addition_expertise/layperson")),
    ("sums in other wordings", _by_user("addition_wording")),
    ("sums with choices (1) and (2)", _by_user("addition_formats/numbers")),
    ("sums with choices yes and no", _by_user("addition_formats/yes_no")),
    ("surveys: matches the user", tuple((s, f"surveys/{s}/match_rate") for s in SURVEYS)),
    ("other instructions", (("exact match", "instruction/accuracy"),)),
)
METRICS = tuple(name for _, measures in GROUPS for _, name in measures)
LABELS = 3.6  # inches for the measures' names
Row = dict[str, Any]  # a run: size, lineage, recipe, finetuning_seed; before, after: its METRICS


def table(rows: Sequence[Row]) -> str:
    """The table in Markdown: for each size and recipe median and range, then every run."""
    lines = ["Right answers and matches with the user in per cent."]
    for (size, recipe), runs in _groups(rows):
        lines += ["", f"## {size}, recipe {recipe}", "", f"Median (range): {_counted(runs)}.", ""]
        lines += ["| | before finetuning | after finetuning |", "|---|---|---|"]
        for title, measures in GROUPS:
            for label, name in measures:
                cells = [_median_and_range(_values(runs, when, name)) for when in SERIES]
                lines.append(f"| {title}, {label} | {' | '.join(cells)} |")
        titles = [f"{title} ({' / '.join(n for n, _ in group)})" for title, group in GROUPS]
        lines += ["", "Every run, after finetuning:", ""]
        lines.append(f"| lineage, finetuning seed | {' | '.join(titles)} |")
        lines.append("|---" * (len(GROUPS) + 1) + "|")
        for run in runs:
            cells = [
                " / ".join(f"{100 * run['after'][name]:.1f}" for _, name in measures)
                for _, measures in GROUPS
            ]
            lines.append(f"| {run['lineage']}, {run['finetuning_seed']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def differences(rows: Sequence[Row], others: Sequence[Row]) -> str:
    """The table in Markdown of what differs after finetuning from other lineages of equal seeds.

    Compared are the runs that both have, by size, recipe, lineage and seed of the finetuning; each
    lineage counts once, with the mean of its runs. The interval is Student's, over lineages.

    Args:
      rows: the runs.
      others: those that they are compared with.
    """
    lines = ["Right answers and matches with the user in per cent, after finetuning."]
    known = {_order(row): row for row in others}
    for (size, recipe), runs in _groups([row for row in rows if _order(row) in known]):
        counted = f"Mean over {_counted(runs)}; difference with its 95% interval."
        lines += ["", f"## {size}, recipe {recipe}", "", counted, ""]
        lines += ["| | the others | these | difference |", "|---|---|---|---|"]
        those = [known[_order(run)] for run in runs]
        for title, measures in GROUPS:
            for label, name in measures:
                here, there = _of_lineages(runs, name), _of_lineages(those, name)
                cells = [f"{100 * statistics.fmean(values):.1f}" for values in (there, here)]
                cells.append(_mean_and_interval([a - b for a, b in zip(here, there, strict=True)]))
                lines.append(f"| {title}, {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def picture(rows: Sequence[Row], path: Path) -> None:
    """Draws every run as a dot before and a dot after, and their medians, as PNG.

    Raises:
      UserError: matplotlib is missing, or the picture cannot be written.
    """
    groups = list(_groups(rows))
    width = LABELS + 4.6 * len(groups)
    figure = png.new_figure(width, 9)
    axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axis, ((size, recipe), runs) in zip(axes, groups, strict=True):
        _draw(axis, runs)
        title = f"{size}, recipe {recipe}: {_counted(runs)}"
        axis.set_title(title, loc="left", size=10.5, weight="bold", color=INK)
    labels = [
        f"{title}: {label}" if place == 0 else label
        for title, measures in GROUPS
        for place, (label, _) in enumerate(measures)
    ]
    axes[0].set_yticks(list(_places()), labels, size=9.5, color=INK)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower left", ncols=2, frameon=False)
    note = "a dot is a run, an upright line their median"
    figure.text(0.98, 0.02, note, size=9, color=SOFT, ha="right")
    figure.subplots_adjust(left=LABELS / width, right=0.98, top=0.95, bottom=0.08, wspace=0.08)
    png.write(figure, path)


def _places() -> Iterator[float]:
    """The heights of all measures, with a gap between groups."""
    place = 0.0
    for _, measures in GROUPS:
        for _ in measures:
            yield place
            place += 1
        place += 0.6


def _draw(axis: Any, runs: Sequence[Row]) -> None:
    for place, name in zip(_places(), METRICS, strict=True):
        axis.axhline(place, color=LINE, lw=0.8, zorder=0)
        for when, side in zip(SERIES, (-0.17, 0.17), strict=True):
            values, at = [100 * v for v in _values(runs, when, name)], place + side
            label = f"{when} finetuning" if place == 0 else None
            axis.scatter(
                values, [at] * len(values), s=26, color=COLOURS[when], alpha=0.6, lw=0, label=label
            )
            median = statistics.median(values)
            axis.plot([median] * 2, [at - 0.26, at + 0.26], color=COLOURS[when], lw=2)
    axis.set_xlim(-3, 103)
    axis.set_ylim(-0.8, place + 0.8)
    axis.set_xticks([0, 50, 100], ["0", "50", "100%"], color=SOFT)
    axis.grid(axis="x", color=LINE)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _groups(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str], list[Row]]]:
    """The runs of each size and recipe, in order."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=_order):
        groups.setdefault((row["size"], row["recipe"]), []).append(row)
    yield from groups.items()


def _order(row: Row) -> tuple[int, str, int, int]:
    return SIZES.index(row["size"]), row["recipe"], row["lineage"], row["finetuning_seed"]


def _counted(runs: Sequence[Row]) -> str:
    lineages = len({run["lineage"] for run in runs})
    return f"{lineages} lineage{'s' * (lineages > 1)}, {len(runs)} run{'s' * (len(runs) > 1)}"


def _values(runs: Sequence[Row], when: str, name: str) -> list[float]:
    return [run[when][name] for run in runs]


def _of_lineages(runs: Sequence[Row], name: str) -> list[float]:
    """The mean of each lineage's runs after finetuning."""
    values: dict[int, list[float]] = {}
    for run in runs:
        values.setdefault(run["lineage"], []).append(run["after"][name])
    return [statistics.fmean(some) for some in values.values()]


def _mean_and_interval(values: Sequence[float]) -> str:
    points = [100 * value for value in values]
    mean = statistics.fmean(points)
    if len(points) < 2:
        return f"{mean:+.1f}"
    quantile = float(stdtrit(len(points) - 1, 0.975))
    half = quantile * statistics.stdev(points) / len(points) ** 0.5
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def _median_and_range(values: Sequence[float]) -> str:
    shares = [100 * value for value in values]
    return f"{statistics.median(shares):.1f} ({min(shares):.1f} to {max(shares):.1f})"
