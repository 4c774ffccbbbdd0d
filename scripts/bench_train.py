"""What a training step costs, apart: the feed, compiling, the step.

  python scripts/bench_train.py --model mini_base --recipe demo --data-dir runs/demo

Reports seconds on the clock and seconds of processor time, since the clock means little on a
machine that does something else too.
"""

import argparse
import contextlib
import itertools
import time

import jax

from sycophancy.config.load import load_config
from sycophancy.model import sharding
from sycophancy.model.checkpoints.formats import load_checkpoint
from sycophancy.training.feed import Feed, open_dataset
from sycophancy.training.step import make_program


@contextlib.contextmanager
def measured(what: str, times: int = 1):
    """Prints the cost of its block, a time."""
    clock, processor = time.perf_counter(), time.process_time()
    yield
    clock = (time.perf_counter() - clock) / times
    processor = (time.process_time() - processor) / times
    print(f"{what:24} {clock:8.4f} s clock  {processor:8.4f} s processor")


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
        dataset, told = open_dataset(training, arguments.data_dir, config.model.vocabulary)
        batches = dataset.as_numpy_iterator()
    with measured("first batch"):
        next(batches)
    with measured("batch", steps):
        seen = list(itertools.islice(batches, steps))
    positions = sum(batch["encoder_input_tokens"].size for batch in seen) / steps
    real = sum((batch["encoder_input_tokens"] > 0).sum() for batch in seen) / steps
    examples = sum((batch["decoder_target_tokens"] == 1).sum() for batch in seen) / steps
    print(f"{positions:.0f} prompt positions, {real:.0f} tokens, {examples:.0f} examples a batch")

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
        dataset, told = open_dataset(training, arguments.data_dir, config.model.vocabulary)
        with Feed(dataset, told) as feed:
            next(feed)
            with measured("step with its feed", steps):
                for batch in itertools.islice(feed, steps):
                    state, loss = program.step(state, sharding.put_batch(batch, mesh))
                    loss.block_until_ready()


if __name__ == "__main__":
    main()
