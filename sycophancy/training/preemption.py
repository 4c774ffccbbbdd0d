"""Being told to stop: SIGTERM lets the step finish, and the trainer saves. Imports no JAX."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_MAY_HANDLE_SIGNALS = ContextVar("_MAY_HANDLE_SIGNALS", default=True)


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
def signals_left_alone() -> Iterator[None]:
    """Within it, training handles no signal: the process belongs to a caller of the library."""
    token = _MAY_HANDLE_SIGNALS.set(False)
    try:
        yield
    finally:
        _MAY_HANDLE_SIGNALS.reset(token)


@contextmanager
def watch_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, instead of ending the process; the old handler comes back after.

    Outside the main thread, where Python allows no handlers, and within `signals_left_alone`, the
    event stays unset.
    """
    told = threading.Event()
    is_main = threading.current_thread() is threading.main_thread()
    if not (is_main and _MAY_HANDLE_SIGNALS.get()):
        yield told
        return
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
