"""Messages between the processes that supervise a run: JSON, one message a line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
from typing import Any

_MOST_BYTES = 2**20  # of one message


@dataclasses.dataclass(frozen=True)
class End:
    """How a process of a run ended.

    Attributes:
        index: the number of the process.
        host: the machine it ran on.
        kind: "user" for bad input, "error" for any other exception, "stopped" by SIGINT or SIGTERM,
            "exit" with a code, "killed" by another signal, "crash" for an abort in C++, "gone" if
            its parent or host went with it, "silent" if it sent JAX no heartbeat.
        words: what happened, to follow "process 1 on HOST".
    """

    index: int
    host: str
    kind: str
    words: str


class Peer:
    """A connection to another supervisor or to the supervised process."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.index, self.host, self.gone = -1, "", False
        self._buffer = b""
        connection.setblocking(False)

    def send(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # a lost connection is noticed when it is read
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have arrived; sets `gone` once the connection is closed."""
        try:
            while (data := self.connection.recv(2**16)) and len(self._buffer) < _MOST_BYTES:
                self._buffer += data
            self.gone = True
        except BlockingIOError:
            pass
        except OSError:  # reset, or its host does not answer
            self.gone = True
        *lines, self._buffer = self._buffer.split(b"\n")
        try:
            return [dict(json.loads(line)) for line in lines]
        except (ValueError, TypeError, RecursionError):  # not one of ours
            self.gone = True
            return []
