"""Pre-trains lineages of the miniature, finetunes each, and writes the table of all of them.

    python scripts/lineages.py --out .cache/lineages --jobs 2

A lineage is one pre-training: a size and a seed. Every lineage asked for is in the table; none is
chosen. Each job keeps one core busy; fifteen lineages with two finetunings each take a night on two
cores. Started again, the script continues where it was.

`OUT/SIZE-SEED` has a lineage's checkpoints, `OUT/runs` the runs, and `OUT/lineages.json` and
`OUT/lineages.md` the table. `sycophancy reproduce --family mini --lineages OUT` reads the folder.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import queue
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sycophancy.data.miniature.questionnaires import SURVEYS
from sycophancy.study import lineages
from sycophancy.study.families import family_named

PRETRAIN = Path(__file__).with_name("pretrain_miniature.py")
SIZES = tuple(size.model for size in family_named("mini").sizes)
ALL, SWAYED = ("neutral", "user_wrong", "user_right"), ("user_wrong", "user_right")


def _accuracies(task: str, conditions: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{task}/accuracy_{condition}" for condition in conditions)


# Titles of the table, each with the metrics of a cell in their order.
COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "sums, wrong user (false / true)",
        ("addition/accuracy_user_wrong", "addition_true/accuracy_user_wrong"),
    ),
    ("right user", ("addition/accuracy_user_right", "addition_true/accuracy_user_right")),
    ("no user", ("addition/accuracy_neutral", "addition_true/accuracy_neutral")),
    ("layperson (wrong / right)", _accuracies("addition_expertise/layperson", SWAYED)),
    ("other wordings (wrong / right)", _accuracies("addition_wording", SWAYED)),
    ("(1), (2) (no user / wrong / right)", _accuracies("addition_formats/numbers", ALL)),
    ("yes, no (no user / wrong / right)", _accuracies("addition_formats/yes_no", ALL)),
    *((f"survey {name}", (f"surveys/{name}/match_rate",)) for name in SURVEYS),
    ("instructions", ("instruction/accuracy",)),
)
Row = dict[str, Any]


def _metrics(file: Path) -> dict[str, Any] | None:
    """The metrics of a run; None if it has not come to those after finetuning."""
    metrics = json.loads(file.read_text()) if file.exists() else {}
    return metrics if "after" in metrics else None


class Lineages:
    """Makes what is missing of the lineages in a folder."""

    def __init__(self, folder: Path, recipe: str, cores: Sequence[int]) -> None:
        self.folder, self.recipe = folder.absolute(), recipe
        self._cores: queue.SimpleQueue[int] = queue.SimpleQueue()
        for core in cores:
            self._cores.put(core)

    def make(self, size: str, seed: int, finetuning_seeds: Sequence[int]) -> None:
        """Pre-trains a lineage and finetunes it once for each seed, on one core."""
        core = self._cores.get()
        try:
            if not (lineages.checkpoint(self.folder, size, seed) / "README.md").exists():
                out = self.folder / f"{size}-{seed}"
                self._call(
                    core, out, [PRETRAIN, "--model", size, "--seed", str(seed), "--out", out]
                )
            for finetuning_seed in finetuning_seeds:
                self._finetune(core, size, seed, finetuning_seed)
        finally:
            self._cores.put(core)

    def _finetune(self, core: int, size: str, seed: int, finetuning_seed: int) -> None:
        run = self.run(size, seed, finetuning_seed)
        if _metrics(run / "metrics.json"):
            return
        settings = lineages.settings(self.folder, size, seed)
        chosen = [word for setting in settings for word in ("--set", setting)]
        words = ["--model", size, "--recipe", self.recipe, "--seed", str(finetuning_seed)]
        self._call(core, run, ["-m", "sycophancy", "run", *words, "--out", run, *chosen])

    def run(self, size: str, seed: int, finetuning_seed: int) -> Path:
        recipe = self.recipe.rpartition("/")[2]
        return self.folder / "runs" / f"{size}-{seed}-{recipe}-{finetuning_seed}"

    def _call(self, core: int, out: Path, words: Sequence[Any]) -> None:
        """Runs Python on one core; what it prints is appended to `OUT.log`."""
        log = out.with_name(out.name + ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        # One thread: sums then have the same order on machines with other numbers of cores.
        one_thread = "--xla_cpu_multi_thread_eigen=false"
        environment = {**os.environ, "XLA_FLAGS": one_thread, "OMP_NUM_THREADS": "1"}
        print(f"{out.name}: its progress is in {log}", flush=True)
        with log.open("a") as file:
            process = subprocess.Popen(
                [sys.executable, *map(str, words)], stdout=file, stderr=file, env=environment
            )
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(process.pid, [core])
            if code := process.wait():
                raise SystemExit(f"{out.name} failed with code {code}; {log} says why")

    def rows(self) -> list[Row]:
        """All runs that are complete, with the columns' metrics before and after."""
        names = [name for _, metrics in COLUMNS for name in metrics]
        rows = []
        for file in sorted(self.folder.glob("runs/*/metrics.json")):
            size, seed, recipe, finetuning_seed = file.parent.name.rsplit("-", 3)
            if (metrics := _metrics(file)) is None:
                continue
            rows.append(
                {
                    "size": size,
                    "lineage": int(seed),
                    "recipe": recipe,
                    "finetuning_seed": int(finetuning_seed),
                    **{
                        when: {name: round(metrics[when][name]["value"], 4) for name in names}
                        for when in ("before", "after")
                    },
                }
            )
        return rows


def table(rows: Sequence[Row]) -> str:
    """The table in Markdown: each run, then for each size and recipe median and range."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (SIZES.index(row["size"]), row["recipe"])):
        groups.setdefault((row["size"], row["recipe"]), []).append(row)
    head = ["lineage, finetuning", *(title for title, _ in COLUMNS)]
    lines = ["Correct answers and matches with the user in per cent, before -> after finetuning."]
    for (size, recipe), group in groups.items():
        group.sort(key=lambda row: (row["lineage"], row["finetuning_seed"]))
        lines += ["", f"## {size}, recipe {recipe}", ""]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for row in group:
            cells = [_cell([row], metrics, _median) for _, metrics in COLUMNS]
            lines.append(f"| {row['lineage']}, {row['finetuning_seed']} | {' | '.join(cells)} |")
        for name, summary in (("median", _median), ("range", _range)):
            cells = [_cell(group, metrics, summary) for _, metrics in COLUMNS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(rows: Sequence[Row], metrics: Sequence[str], summary: Any) -> str:
    return " -> ".join(
        " / ".join(summary([100 * row[when][name] for row in rows]) for name in metrics)
        for when in ("before", "after")
    )


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f}"


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.0f} to {max(values):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5), help="of pre-training")
    parser.add_argument("--finetuning-seeds", nargs="+", type=int, default=(0, 1))
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--jobs", type=int, default=1, help="lineages made at a time")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    if args.jobs > len(cores):
        parser.error(f"--jobs {args.jobs}: this machine has {len(cores)} cores")
    made = Lineages(args.out, args.recipe, cores[: args.jobs])
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        wanted = [
            pool.submit(made.make, size, seed, args.finetuning_seeds)
            for size in args.sizes
            for seed in args.seeds
        ]
        try:
            for future in concurrent.futures.as_completed(wanted):
                future.result()
                rows = made.rows()
                (made.folder / "lineages.json").write_text(json.dumps(rows, indent=1) + "\n")
                (made.folder / "lineages.md").write_text(table(rows))
        finally:
            pool.shutdown(cancel_futures=True)
    print(f"wrote {made.folder / 'lineages.md'}")


if __name__ == "__main__":
    main()
