"""Measures the memory and the time that conversions between checkpoint formats take.

    python scripts/bench_convert.py --model flan_t5_large --folder /tmp/convert

Weights are drawn, not fetched. Each conversion runs in a process of its own; memory is measured
against the model's size, beyond what the process held when the checkpoint was open. What has been
converted is deleted, so the disk must hold the model twice, or once with a single target.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from sycophancy.config.load import load_config
from sycophancy.model.checkpoints import convert
from sycophancy.model.checkpoints.checkpoint import Checkpoint
from sycophancy.model.checkpoints.formats import open_checkpoint
from sycophancy.model.checkpoints.lazy_array import LazyArray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="flan_t5_large", help="whose shape")
    parser.add_argument("--folder", type=Path, required=True, help="scratch; is deleted")
    parser.add_argument("--targets", default="hf,t5x,orbax,hf", help="formats, one after another")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.model, *options.one)))
        return
    shutil.rmtree(options.folder, ignore_errors=True)
    source = ""
    for number, target in enumerate(options.targets.split(",")):
        place = str(options.folder / f"{number}-{target}")
        command = [sys.executable, __file__, "--model", options.model, "--folder", "."]
        done = subprocess.run(
            [*command, "--one", source, place, target],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{found['format']:>5} -> {target:<5} {found['size'] / 1e9:6.2f} GB in "
            f"{found['seconds']:6.1f} s, peak memory {found['peak'] / 1e9:5.2f} GB, beyond start "
            f"{(found['peak'] - found['start']) / found['size']:.3f} of the model",
            flush=True,
        )
        if source:
            shutil.rmtree(source)
        source = place
    shutil.rmtree(options.folder)


def one(model: str, source: str, destination: str, to: str) -> dict[str, float | str]:
    """One conversion; without a source, of drawn weights."""
    network = load_config(model, "paper").model.network
    contents = open_checkpoint(source) if source else drawn(network)
    start, began = peak_bytes(), time.perf_counter()
    convert.write(contents, destination, to, network=network)
    return {
        "format": contents.format if source else "drawn",
        "size": sum(leaf.nbytes for leaf in contents.params.values()),
        "seconds": time.perf_counter() - began,
        "start": start,
        "peak": peak_bytes(),
    }


def drawn(network) -> Checkpoint:
    """Weights that are drawn when they are read, the same every time."""
    from flax import linen as nn

    from sycophancy.model.checkpoints import layout
    from sycophancy.model.sharding import abstract_params

    def leaf(shape: tuple[int, ...]) -> LazyArray:
        return LazyArray(shape, lambda: np.random.default_rng(0).standard_normal(shape, np.float32))

    shapes = layout.flatten(nn.unbox(abstract_params(network)))
    stacked = layout.unflatten({path: LazyArray(s.shape, None) for path, s in shapes.items()})
    unstacked = layout.flatten(layout.unstack(stacked))
    return Checkpoint(
        "drawn", "hf", {path: leaf(s.shape) for path, s in unstacked.items()}, network
    )


def peak_bytes() -> int:
    """Most resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
