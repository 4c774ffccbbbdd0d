"""Pre-trains lineages of the miniature, finetunes each, and writes a table of all of them.

    python scripts/lineages.py --out .cache/lineages --jobs 2

A lineage is one pre-training: a size and a seed. Every lineage asked for is in the table; none is
chosen. Each job keeps one core busy; fifteen lineages with two finetunings each take a night on two
cores. Started again, the script continues where it was.

    python scripts/lineages.py --out .cache/own --seeds 0 1 2 --against docs/results/lineages

also writes `OUT/differences.md`: what differs from the runs of another table.

`OUT/SIZE-SEED` has a lineage's checkpoints, `OUT/runs` the runs, `OUT/lineages.json` and
`OUT/lineages.md` the table, and `OUT/lineages.png` shows it. `sycophancy reproduce --family mini
--lineages OUT` reads the folder.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import queue
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sycophancy.errors import UserError
from sycophancy.report import png
from sycophancy.report.study.lineages import METRICS, SIZES, Row, differences, picture, table
from sycophancy.study import lineages

PRETRAIN = Path(__file__).with_name("pretrain_miniature.py")


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
        """All runs that are complete."""
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
                        when: {name: round(metrics[when][name]["value"], 4) for name in METRICS}
                        for when in ("before", "after")
                    },
                }
            )
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5), help="of pre-training")
    parser.add_argument("--finetuning-seeds", nargs="+", type=int, default=(0, 1))
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--jobs", type=int, default=1, help="lineages made at a time")
    parser.add_argument(
        "--against", type=Path, help="a folder whose lineages.json has runs to compare with"
    )
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    if args.jobs > len(cores):
        parser.error(f"--jobs {args.jobs}: this machine has {len(cores)} cores")
    others = []
    if args.against and (file := args.against / "lineages.json").exists():
        others = json.loads(file.read_text())
    elif args.against:
        parser.error(f"{args.against} has no lineages.json")
    try:
        png.new_figure(1, 1)
    except UserError as error:  # now, not after the first lineage
        parser.error(str(error))
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
                picture(rows, made.folder / "lineages.png")
                if args.against:
                    (made.folder / "differences.md").write_text(differences(rows, others))
        finally:
            pool.shutdown(cancel_futures=True)
    print(f"wrote {made.folder / 'lineages.md'}")


if __name__ == "__main__":
    main()
