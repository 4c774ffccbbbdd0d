"""The processes of a shared run end together, with one message that says which ended first.

JAX itself ends the others from C++, after up to its heartbeat, with a stack trace and without a
name. So each process of a shared run works in a child that its parent supervises (`supervisor`).
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

from sycophancy.engine.supervisor import GRACE_SECONDS, Supervisor

MEET_SECONDS = 60  # until supervisors are connected, once their processes have met
_KEY = "sycophancy/hub"  # in JAX's key-value store


class Link:
    """The connection of a supervised process to its supervisor."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with self._connection.makefile("rb") as lines:
            for line in lines:
                self._answers.put(line)
        os._exit(1)  # the parent is gone

    def send(self, **message: Any) -> None:
        """Sends the supervisor a message."""
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def met(self, index: int, size: int, coordinator: str, store: Any, scratch: str) -> None:
        """Connects the supervisors, once JAX has connected the processes.

        Args:
          index: the number of this process.
          size: the number of processes.
          coordinator: host:port of process 0.
          store: JAX's key-value store.
          scratch: a folder that the supervisor removes at the end.
        """
        host = coordinator.rpartition(":")[0].strip("[]")
        self.send(met={"index": index, "size": size, "coordinator": host, "scratch": scratch})
        if index == 0:
            store.key_value_set(_KEY, self._answers.get(timeout=MEET_SECONDS).decode())
        else:
            hub = json.loads(store.blocking_key_value_get(_KEY, MEET_SECONDS * 1000))
            self.send(connect=[host, hub["port"], hub["token"]])

    def fail(self, kind: str, words: str, shown: str, code: int) -> NoReturn:
        """Reports a failure to the supervisor, which prints a message and ends this process.

        JAX keeps running until then: when its coordinator in process 0 ends, so do the others.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            self.send(failed={"kind": kind, "words": words, "shown": shown, "code": code})
            time.sleep(10 * GRACE_SECONDS)
        finally:
            os._exit(code)


link: Link | None = None  # in a supervised process


def watch() -> None:
    """Forks: returns in the child; the parent supervises it and exits with the run's exit code."""
    global link
    ours, theirs = socket.socketpair()
    errors_out, errors_in = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        theirs.close()
        os.close(errors_in)
        Supervisor(child, ours, errors_out).run()
    ours.close()
    os.close(errors_out)
    os.setpgid(0, 0)  # Ctrl-C reaches the parent, which forwards it
    # What Python writes goes to standard error as before; what C++ writes goes to the parent.
    kept, before = os.dup(2), sys.stderr
    os.dup2(errors_in, 2)
    os.close(errors_in)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=before.encoding, errors=before.errors)
    link = Link(theirs)


def fail_with(error: BaseException) -> NoReturn:
    """Ends a supervised process after an exception that is no UserError."""
    assert link is not None
    words = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    link.fail("error", f"failed: {words}", "".join(traceback.format_exception(error)), 1)
