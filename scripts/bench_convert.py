"""Measures the time and the memory of conversions between checkpoint formats.

    python scripts/bench_convert.py --model flan_t5_large --folder /tmp/convert

The weights are random. Each conversion runs in a process of its own. Its memory is the peak minus
the memory that the process used when the checkpoint was open, relative to the model's size. A
checkpoint is deleted once it was converted, so the disk must have space for two copies of the
model, or for one copy with a single target.
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
from sycophancy.config.schema import NetworkConfig
from sycophancy.model.checkpoints import convert
from sycophancy.model.checkpoints.checkpoint import Checkpoint
from sycophancy.model.checkpoints.formats import open_checkpoint
from sycophancy.model.checkpoints.lazy_array import LazyArray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="flan_t5_large", help="the model whose shape is used")
    parser.add_argument("--folder", type=Path, required=True, help="for checkpoints; is deleted")
    parser.add_argument("--targets", default="hf,t5x,orbax,hf", help="the formats to convert to")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(convert_once(options.model, *options.one)))
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
        measured = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{measured['format']:>5} -> {target:<5} {measured['size'] / 1e9:6.2f} GB in "
            f"{measured['seconds']:6.1f} s, peak memory {measured['peak'] / 1e9:5.2f} GB, beyond "
            "the start "
            f"{(measured['peak'] - measured['start']) / measured['size']:.3f} of the model",
            flush=True,
        )
        if source:
            shutil.rmtree(source)
        source = place
    shutil.rmtree(options.folder)


def convert_once(
    model: str, source: str, destination: str, to: convert.Target
) -> dict[str, float | str]:
    """Converts a checkpoint, or random weights if `source` is empty, and measures that."""
    network = load_config(model, "paper").model.network
    checkpoint = open_checkpoint(source) if source else random_checkpoint(network)
    start, began = peak_bytes(), time.perf_counter()
    convert.write(checkpoint, destination, to, network=network)
    return {
        "format": checkpoint.format if source else "random",
        "size": sum(array.nbytes for array in checkpoint.params.values()),
        "seconds": time.perf_counter() - began,
        "start": start,
        "peak": peak_bytes(),
    }


def random_checkpoint(network: NetworkConfig) -> Checkpoint:
    """A checkpoint whose arrays are made when they are read, with equal values each time."""
    from flax import linen as nn

    from sycophancy.model.checkpoints import layout
    from sycophancy.model.sharding import abstract_params

    def random_array(shape: tuple[int, ...]) -> LazyArray:
        return LazyArray(shape, lambda: np.random.default_rng(0).standard_normal(shape, np.float32))

    shapes = layout.flatten(layout.unstack(layout.lazy(nn.unbox(abstract_params(network)))))
    params = {path: random_array(array.shape) for path, array in shapes.items()}
    return Checkpoint("random", "hf", params, network)


def peak_bytes() -> int:
    """The peak of this process's resident memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
