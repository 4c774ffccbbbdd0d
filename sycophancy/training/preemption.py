"""Being told to stop: SIGTERM lets the step finish, and the trainer saves. Imports no JAX."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Preempted(Exception):  # noqa: N818  # it is an outcome, not an error
    """Training was told to stop, and saved. Started again, it continues where it was.

    Attributes:
      step: finetuning steps done and saved.
      steps: what the run was asked for.
    """

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(
            f"stopped by SIGTERM after step {step} of {steps}; the checkpoint is saved, "
            "and the same command continues from it"
        )
        self.step = step
        self.steps = steps


@contextmanager
def watch_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, instead of ending the process; the old handler comes back after.

    Outside the main thread, where Python allows no handlers, the event stays unset.
    """
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
