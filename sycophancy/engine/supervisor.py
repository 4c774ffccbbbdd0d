"""The parent of a process of a shared run: notices how processes end and says which ended first.

Each process of a run works in a child, and its parent watches it. The parents are connected to the
parent of process 0, the hub:

    parent 0 (hub) ---TCP--- parent 1 ...      which process ended first, and how
       | pipe, signals          |
    child 0 ----JAX, Gloo--- child 1 ...       the run

When a process ends, the operating system closes its connections, so the others notice at once. A
process that is paused or compiles keeps its connections; only JAX's heartbeat gives it up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import os
import platform
import re
import secrets
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from sycophancy.engine.peers import End, Peer

POLL_SECONDS = 0.1
VERDICT_SECONDS = 3.0  # to wait for reports of earlier ends
HOLD_SECONDS = 10.0  # after which an error of C++ is shown if the process continues
GRACE_SECONDS = 3.0  # for a process to end when another one has ended with an error
ENDED_WITH_ANOTHER = 3  # exit code; below 75, at which SLURM's script queues a job again
# A host that vanishes, or whose network fails, is given up after 10 + 3 * 5 s.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
_CPP_ERROR = re.compile(rb"[EF]\d{4} \d\d:\d\d:\d\d|terminate called after")
_SILENT = re.compile(rb"stopped sending heartbeats\):\s*(\d+)")
_CAUSES = ("user", "stopped", "exit", "killed", "gone")  # never the consequence of another end
_KEPT = "complete stages are kept, and the same command continues from there"


class Supervisor:
    """The parent of a process of a shared run. It imports no JAX.

    Args:
        child: the process id of the supervised process.
        connection: to the `Link` of that process.
        errors: the reading end of the pipe that receives what C++ writes to standard error.
    """

    def __init__(self, child: int, connection: socket.socket, errors: int) -> None:
        self._child, self._errors = child, errors
        self._control = Peer(connection)
        self._selector = selectors.DefaultSelector()
        self._status: int | None = None  # wait status of the child, once it has ended
        self._failed: dict[str, Any] | None = None  # the child's message about its own failure
        self._own: End | None = None
        self._first: End | None = None  # the end that ends the run
        self._decide_at = self._kill_at = self._release_at = float("inf")
        self._partial, self._held = b"", b""
        self._index, self._size = 0, 1
        self._meeting = self._scratch = self._token = ""
        self._server: socket.socket | None = None
        self._peers: list[Peer] = []  # at the hub: all others; elsewhere: the hub
        self._reports: list[End] = []

    def run(self) -> NoReturn:
        """Watches the child until the run ends, and exits with its code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._pass_on)
        os.set_blocking(self._errors, False)
        self._listen(self._control.connection, self._receive_from_child)
        self._listen(self._errors, self._read_errors)
        code = None
        while code is None:
            for key, _ in self._selector.select(POLL_SECONDS):
                key.data()
            self._check_child()
            code = self._step()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)

    def _listen(self, file: Any, react: Callable[[], None]) -> None:
        self._selector.register(file, selectors.EVENT_READ, react)

    def _ignore(self, file: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):  # ignored already
            self._selector.unregister(file)

    def _pass_on(self, number: int, frame: Any) -> None:
        if self._status is not None:
            return
        if self._meeting and self._failed is None:  # the child is in C++ and handles no signal
            words = f"was stopped by {signal.Signals(number).name}"
            shown = "sycophancy: stopped before the processes had met"
            self._failed = {"kind": "stopped", "words": words, "shown": shown, "code": 128 + number}
            number = signal.SIGKILL
        os.kill(self._child, number)

    # ---- the child ------------------------------------------------------------------------------

    def _check_child(self) -> None:
        if self._status is None:
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                self._receive_from_child()
                self._read_errors()
                self._status = status
        if self._own is None and (self._failed is not None or self._status):
            self._own = self._own_end()
            self._report(self._own)

    def _receive_from_child(self) -> None:
        for message in self._control.receive():
            if "meeting" in message:
                self._meeting = message["meeting"]
            elif "met" in message:
                self._meeting = ""
                self._met(**message["met"])
            elif "connect" in message:
                self._connect(*message["connect"])
            elif "failed" in message:
                self._failed = message["failed"]
        if self._control.gone:
            self._ignore(self._control.connection)

    def _read_errors(self) -> None:
        """Passes on what C++ writes; holds an error back until it is known what ended the run."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._errors, 2**16):
                *lines, self._partial = (self._partial + data).split(b"\n")
                for line in lines:
                    if not self._held and _CPP_ERROR.match(line):
                        self._release_at = time.monotonic() + HOLD_SECONDS
                    if self._held or _CPP_ERROR.match(line):
                        self._held += line + b"\n"
                    else:
                        os.write(2, line + b"\n")
            self._ignore(self._errors)

    def _own_end(self) -> End:
        kind, words = self._kind_and_words()
        if kind == "crash" and b"another task died" in self._held:  # JAX's words
            silent = _SILENT.search(self._held)
            index = int(silent[1]) if silent else 0
            hosts = {peer.index: peer.host for peer in self._peers}
            words = "gave no sign of life for too long"
            return End(index, hosts.get(index, "an unknown host"), "silent", words)
        return End(self._index, platform.node(), kind, words)

    def _kind_and_words(self) -> tuple[str, str]:
        if self._failed is not None:
            return self._failed["kind"], self._failed["words"]
        code = os.waitstatus_to_exitcode(self._status or 0)
        if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            return "stopped", f"was stopped by {signal.Signals(code - 128).name}"
        if code > 0:
            return "exit", f"ended with code {code}"
        name = signal.Signals(-code).name
        if -code == signal.SIGABRT:
            return "crash", f"was ended from C++ ({name})"
        hint = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
        return "killed", f"was killed by {name}{hint}"

    # ---- the other supervisors ------------------------------------------------------------------

    def _met(self, index: int, size: int, coordinator: str, scratch: str) -> None:
        self._index, self._size, self._scratch = index, size, scratch
        if index:
            return
        here = coordinator in ("localhost", "::1") or coordinator.startswith("127.")
        if here or not socket.has_dualstack_ipv6():
            family = socket.AF_INET6 if coordinator == "::1" else socket.AF_INET
            server = socket.create_server((coordinator if here else "", 0), family=family)
        else:
            server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        server.listen(size)
        server.setblocking(False)
        self._server, self._token = server, secrets.token_hex(16)
        self._listen(server, self._accept)
        self._control.send(port=server.getsockname()[1], token=self._token)

    def _accept(self) -> None:
        assert self._server is not None
        with contextlib.suppress(OSError):
            connection, _ = self._server.accept()
            self._join(Peer(connection))

    def _connect(self, host: str, port: int, token: str) -> None:
        # Without a connection, JAX's heartbeat notices processes that are gone.
        with contextlib.suppress(OSError):
            hub = Peer(socket.create_connection((host, port), timeout=10))
            hub.host = host
            hub.index = 0
            self._peers.append(hub)
            self._join(hub)
            hub.send(hello={"token": token, "index": self._index, "host": platform.node()})

    def _join(self, peer: Peer) -> None:
        peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # absent on some systems
                peer.connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._listen(peer.connection, lambda: self._receive(peer))

    def _receive(self, peer: Peer) -> None:
        for message in peer.receive():
            if "hello" in message:
                hello = message["hello"]
                if not hmac.compare_digest(str(hello.get("token")), self._token):
                    self._drop(peer)
                    return
                peer.index, peer.host = int(hello["index"]), str(hello["host"])
                peer.send(hub=platform.node())
                self._peers.append(peer)
                if self._first is not None:
                    peer.send(first=dataclasses.asdict(self._first))
            elif peer not in self._peers:  # not one of ours
                self._drop(peer)
                return
            elif "hub" in message:
                peer.host = message["hub"]
            elif "done" in message:
                self._peers.remove(peer)
            elif "ended" in message:
                self._note_end(End(**message["ended"]))
            elif "first" in message:
                self._decide(End(**message["first"]))
        if peer.gone:
            self._drop(peer)

    def _drop(self, peer: Peer) -> None:
        self._ignore(peer.connection)
        peer.connection.close()
        if peer in self._peers:
            self._peers.remove(peer)
            words = "is gone, or its host or its network is"
            self._note_end(End(peer.index, peer.host, "gone", words))

    def _note_end(self, end: End) -> None:
        if self._index == 0:
            self._reports.append(end)
            self._decide_at = min(self._decide_at, time.monotonic() + VERDICT_SECONDS)
        elif self._first is None:  # the hub is gone and sent no verdict
            self._decide(self._own if self._own and self._own.kind in _CAUSES else end)

    def _report(self, end: End) -> None:
        """Reports to the hub how the own child ended; the hub decides which end came first."""
        if self._index == 0:
            self._note_end(end)
        elif self._peers:
            self._peers[0].send(ended=dataclasses.asdict(end))
            self._decide_at = time.monotonic() + 2 * VERDICT_SECONDS
        else:
            self._decide(end)

    def _decide(self, first: End) -> None:
        if self._first is not None:
            return
        self._first = first
        if self._index == 0:
            for peer in self._peers:
                peer.send(first=dataclasses.asdict(first))
        # An error of this kind reaches every process, which ends with the same message.
        grace = GRACE_SECONDS if first.kind in ("user", "stopped", "exit") else 0.0
        self._kill_at = time.monotonic() + grace

    # ---- the end of the run ---------------------------------------------------------------------

    def _step(self) -> int | None:
        """Acts on timeouts; returns the exit code once the run has ended."""
        now = time.monotonic()
        if self._held and self._own is None and now >= self._release_at:
            self._release()
        if self._first is None and self._status == 0:
            for peer in self._peers:
                peer.send(done=True)
            self._release()
            return 0
        if self._first is None:
            causes = [end for end in self._reports if end.kind in _CAUSES]
            if causes:
                self._decide(causes[0])
            elif self._reports and (self._size == 1 or now >= self._decide_at):
                self._decide(self._reports[0])
            elif self._own is not None and now >= self._decide_at:  # the hub does not answer
                self._decide(self._own)
        if self._first is None:
            return None
        waits_for_others = self._index == 0 and self._peers and self._failed is not None
        if now < self._kill_at and (self._own is None or waits_for_others):
            return None
        if self._status is None:
            os.kill(self._child, signal.SIGKILL)
            _, self._status = os.waitpid(self._child, 0)
        return self._print_end()

    def _print_end(self) -> int:
        first, own = self._first, self._own
        assert first is not None
        code = 1
        if own is not None and own.kind in ("user", "stopped", "exit"):
            self._release()
            if self._failed is not None:
                print(self._failed["shown"], file=sys.stderr)
                return int(self._failed["code"])
            return os.waitstatus_to_exitcode(self._status or 0)
        if self._meeting and own is not None and own.kind == "silent":
            _print(f"the processes of this run did not meet{self._meeting}")
        elif own is None or first.index != self._index:
            code = ENDED_WITH_ANOTHER
            _print(
                f"process {first.index} on {first.host} {first.words}; this one ends too; {_KEPT}"
            )
        elif own.kind == "killed":
            code = 128 - os.waitstatus_to_exitcode(self._status or 0)
            _print(f"process {own.index} on {own.host} {own.words}; {_KEPT}")
        elif own.kind == "error" and self._failed is not None:
            self._release()
            print(self._failed["shown"].rstrip(), file=sys.stderr)
        else:
            self._release()
            code = 128 + signal.SIGABRT
        return code

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            os.write(2, self._held + self._partial)
        self._held = self._partial = b""


def _print(text: str) -> None:
    print(f"sycophancy: {' '.join(text.split())}", file=sys.stderr, flush=True)
