"""Stops a training at SIGTERM: the trainer finishes its step and saves. Imports no JAX."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_MAY_HANDLE_SIGNALS = ContextVar("_MAY_HANDLE_SIGNALS", default=True)


class Preempted(Exception):  # noqa: N818  # it is an outcome, not an error
    """Training was stopped by SIGTERM after it saved; the next start continues from there.

    Attributes:
      step: the number of finetuning steps done and saved.
      steps: FINETUNE_STEPS.
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
    """Inside the block, training handles no signals, because a library must not change them."""
    token = _MAY_HANDLE_SIGNALS.set(False)
    try:
        yield
    finally:
        _MAY_HANDLE_SIGNALS.reset(token)


@contextmanager
def watch_sigterm() -> Iterator[threading.Event]:
    """Yields an event that SIGTERM sets, instead of ending the process.

    Leaving the block restores the previous handler. Outside the main thread, where Python does not
    allow signal handlers, and inside `signals_left_alone`, SIGTERM keeps its effect and the event
    is never set.
    """
    stop = threading.Event()
    is_main = threading.current_thread() is threading.main_thread()
    if not (is_main and _MAY_HANDLE_SIGNALS.get()):
        yield stop
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, previous)
