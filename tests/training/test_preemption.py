"""SIGTERM inside and outside of `watch_sigterm`."""

import os
import signal
import threading

from sycophancy.training.preemption import Preempted, watch_sigterm


def test_sigterm_sets_the_event_and_the_previous_handler_is_restored():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("outer"))
    try:
        with watch_sigterm() as told:
            assert not told.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            assert told.wait(5)
            assert heard == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == ["outer"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_no_handler_is_installed():
    found = []

    def watch():
        with watch_sigterm() as told:
            found.append((told.is_set(), signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def test_the_message_says_that_the_same_command_continues():
    error = Preempted(40, 1000)
    assert "step 40 of 1000" in str(error) and "continues" in str(error)
