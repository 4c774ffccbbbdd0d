"""What stops a run for certain, found before hours of preparing and filtering.

Every check here is made again where its fact is used; here it only comes early.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from sycophancy.config.schema import Config
from sycophancy.errors import UserError
from sycophancy.model.mesh import check_batch, chosen, filled
from sycophancy.plan import work as work

_WAYS_OUT = "lower BATCH_SIZE, raise MICROBATCHES, set REMAT_POLICY to 'full', or use more devices"


def check(config: Config, stages: Collection[str]) -> None:
    """Refuses settings that a later stage would refuse on these devices.

    Imports JAX, whose start takes a second or more; on several processes call it after they have
    met, so that all of their devices count.

    Args:
        config: the run.
        stages: the stages that will be done; what only finetuning needs is checked if it is one.

    Raises:
        UserError: MESH does not fit the devices, BATCH_SIZE does not fit MESH or the memory, or
            texts cannot fit TASK_FEATURE_LENGTHS.
    """
    training, network = config.training, config.model.network
    finetunes = "finetune" in stages
    if finetunes:
        _check_lengths(config)
        if config.trainer == "t5x":
            from sycophancy.training.t5x.recipe import is_t5x_checkpoint

            is_t5x_checkpoint(config.model)  # refuses one of another step than PRETRAINED_STEP
    import jax

    count, memory = jax.device_count(), _device_memory(jax.local_devices()[0])
    mesh = filled(chosen(training.mesh, 2 * work.state_bytes(network), memory), count)
    if not finetunes:
        return
    check_batch(training.batch_size, training.microbatches, mesh)
    available = memory or _host_memory() / jax.local_device_count()
    rows = training.batch_size // (mesh[0] * mesh[1] * training.microbatches)
    kept = work.saved_activation_bytes(network, rows, training.input_length, training.target_length)
    # Half of what the formulas say: the compiler was seen to need 0.9 to 28 times as much.
    least = (2 * work.state_bytes(network) / (mesh[1] * mesh[2]) + kept / mesh[2]) / 2
    if least > available:
        raise UserError(
            f"a step of BATCH_SIZE {training.batch_size} needs more than {least / 1e9:,.1f} GB on "
            f"each device, which has {available / 1e9:,.1f} GB: {_WAYS_OUT}"
        )


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Turns a device's or the host's lack of memory into a UserError with the ways out."""
    try:
        yield
    except Exception as error:  # jaxlib's own class, which says it in words alone
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            reason = " ".join(str(error).split())[:200] or "the host's memory is full"
            raise UserError(f"out of memory ({reason}): {_WAYS_OUT}") from error
        raise


def _check_lengths(config: Config) -> None:
    """Refuses lengths that not even a prompt around an empty claim fits."""
    from sycophancy.data import prompts
    from sycophancy.model.vocabulary import Vocabulary

    training = config.training
    if training.mixture_or_task_name == "instruction_tuning" or training.mixture_ratio[0] == 0:
        return
    vocabulary = Vocabulary(config.model.vocabulary)
    prompt = prompts.INTERVENTION_WITHOUT_OPINION.format(claim="", tail=prompts.TAIL)
    for part, text, length in (
        ("inputs", prompt, training.input_length),
        ("targets", prompts.LETTERS[0], training.target_length),
    ):
        if (least := len(vocabulary.encode(text)) + 1) > length:  # with the end of sequence
            raise UserError(
                f"TASK_FEATURE_LENGTHS: {part} {length} is too short: the shortest training row "
                f"has {least} tokens"
            )


def _device_memory(device: object) -> int | None:
    """Bytes of an accelerator's memory; None on CPU."""
    found: int | None = (device.memory_stats() or {}).get("bytes_limit")  # type: ignore[attr-defined]
    return found


def _host_memory() -> float:
    """Bytes of memory that this process may use: the machine's, or its container's."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            limits.append(float(Path(file).read_text()))
    return min(limits)
