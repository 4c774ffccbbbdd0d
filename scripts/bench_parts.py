"""Measures the parts of a finetuning: reading batches, compiling, a training step, a validation.

  python scripts/bench_parts.py --model mini_base --recipe demo --data-dir runs/demo

Reports seconds of wall-clock time and of processor time, because wall-clock time means little on a
machine that runs other programs too.
"""

import argparse
import contextlib
import itertools
import time
from collections.abc import Iterator

import jax

from sycophancy.config.load import load_config
from sycophancy.model import sharding
from sycophancy.model.checkpoints.formats import load_checkpoint
from sycophancy.training.feed import Feed, open_dataset
from sycophancy.training.held_out import read_held_out
from sycophancy.training.step import make_program
from sycophancy.training.validation import Validator


@contextlib.contextmanager
def measured(part: str, times: int = 1) -> Iterator[None]:
    """Prints the cost of its block, divided by `times`."""
    clock, processor = time.perf_counter(), time.process_time()
    yield
    clock = (time.perf_counter() - clock) / times
    processor = (time.process_time() - processor) / times
    print(f"{part:24} {clock:8.4f} s clock  {processor:8.4f} s processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini_base")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--data-dir", required=True, help="a run folder, prepared and filtered")
    parser.add_argument("--set", action="append", default=[], help="MACRO=VALUE")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()

    config = load_config(arguments.model, arguments.recipe, arguments.set)
    training, steps = config.training, arguments.steps
    with measured("open the data set"):
        dataset, _ = open_dataset(training, arguments.data_dir, config.model)
        batches = dataset.as_numpy_iterator()
    with measured("first batch"):
        next(batches)
    with measured("batch", steps):
        seen = list(itertools.islice(batches, steps))
    positions = sum(batch["encoder_input_tokens"].size for batch in seen) / steps
    real = sum((batch["encoder_input_tokens"] > 0).sum() for batch in seen) / steps
    examples = sum((batch["decoder_target_tokens"] == 1).sum() for batch in seen) / steps
    print(f"{positions:.0f} prompt positions, {real:.0f} tokens, {examples:.0f} examples a batch")

    with measured("read held-out rows"):
        held_out, _ = read_held_out(training, arguments.data_dir, config.model)

    mesh = sharding.make_mesh(sharding.resolve(training.mesh, config.model.network))
    program = make_program(config.model.network, training, mesh)
    placement = sharding.shardings_of(program.state.params)
    params = sharding.put(load_checkpoint(config.model), placement)
    with measured("first state"):
        state = jax.block_until_ready(program.start(params))
    with jax.set_mesh(mesh):
        with measured("trace the step"):
            lowered = program.step.lower(state, sharding.put_batch(seen[0], mesh))
        with measured("compile the step"):
            lowered.compile()
        state, loss = program.step(state, sharding.put_batch(seen[0], mesh))
        loss.block_until_ready()
        with measured("step alone", steps):
            for batch in seen:
                state, loss = program.step(state, sharding.put_batch(batch, mesh))
                loss.block_until_ready()
        dataset, reading = open_dataset(training, arguments.data_dir, config.model)
        with Feed(dataset, reading) as feed:
            next(feed)
            with measured("step with its feed", steps):
                for batch in itertools.islice(feed, steps):
                    state, loss = program.step(state, sharding.put_batch(batch, mesh))
                    loss.block_until_ready()
        validator = Validator(held_out, program.add_sums, mesh)
        with measured("first validation"):
            validator.measure(state.params)
        with measured("validation", times=3):
            for _ in range(3):
                validator.measure(state.params)
        batches = sum(len(part.batches) for part in held_out)
        print(f"{batches} batches a validation, {training.save_period} steps between validations")


if __name__ == "__main__":
    main()
