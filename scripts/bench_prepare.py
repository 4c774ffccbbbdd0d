"""Measures how fast intervention rows are made once texts are loaded, and in how much memory.

    python scripts/bench_prepare.py --rows 100000 --pool 1700000

The texts are generated: as many as the paper's 17 data sets have together, of 20 words a field.
Prints seconds, rows a second and the peak of resident memory beyond what the texts take.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sycophancy.data import draws, intervention
from sycophancy.data.catalog import SOURCES
from sycophancy.data.sources import Texts

WORDS = np.array([f"w{number:04d}" for number in range(5_000)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pool", type=int, default=1_700_000, help="texts in all data sets")
    parser.add_argument("--words", type=int, default=20, help="words in a text field")
    parser.add_argument("--mode", choices=("paper", "balanced"), default="paper")
    parser.add_argument("--sampling", choices=("uniform", "balanced"), default="uniform")
    options = parser.parse_args()
    pa.set_cpu_count(1)

    start = time.perf_counter()
    texts = [generate(name, options.pool // len(SOURCES), options.words) for name in SOURCES]
    print(f"{sum(map(len, texts)):,} texts generated in {time.perf_counter() - start:.1f} s")
    before = peak_megabytes()

    start = time.perf_counter()
    chosen = intervention.sample([t.hashes for t in texts], options.rows, options.sampling, 0)
    print(f"{len(chosen[0]):,} rows sampled in {time.perf_counter() - start:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        with pq.ParquetWriter(path, intervention.SCHEMA) as writer:
            for batch in intervention.claimed_batches(texts, chosen, 0, options.mode):
                writer.write_table(intervention.build_rows(batch, 0))
        size = path.stat().st_size / 1e6
    seconds = time.perf_counter() - start
    print(
        f"{seconds:.2f} s in all, {len(chosen[0]) / seconds:,.0f} rows/s, {size:.0f} MB of parquet"
    )
    print(
        f"peak memory {peak_megabytes():,.0f} MB, {peak_megabytes() - before:,.0f} MB beyond texts"
    )


def generate(name: str, rows: int, words: int) -> Texts:
    """A data set of random words in the shape of the given one."""
    source = SOURCES[name]
    rng = np.random.default_rng(len(name))
    columns = []
    for _ in source.texts:
        picked = pa.array(WORDS).take(pa.array(rng.integers(len(WORDS), size=rows * words)))
        offsets = pa.array(np.arange(0, rows * words + 1, words, dtype=np.int32))
        columns.append(pc.binary_join(pa.ListArray.from_arrays(offsets, picked), " "))
    return Texts(
        source=source,
        columns=tuple(columns),
        labels=rng.integers(len(source.labels), size=rows),
        hashes=draws.content_hashes(f"{name} {row}" for row in range(rows)),
        counts={"read": rows, "kept": rows},
    )


def peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
