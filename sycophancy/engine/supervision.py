"""Several processes of a run end together, and say which of them ended first.

JAX itself ends the others from C++, after up to its heartbeat, with a stack and without a name. So
each process of a shared run works in a child, and its parent, which imports no JAX, watches it. The
parents are connected to the parent of process 0, the hub. When a process ends, the operating system
closes its connections: that is noticed at once. A process that is paused or compiles keeps its
connections, and is left alone until JAX's heartbeat gives it up.

    parent 0 (hub) ---TCP--- parent 1 ...      who ended first, in what words
       | pipe, signals          |
    child 0 ----JAX, Gloo--- child 1 ...       the run
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import json
import os
import platform
import queue
import re
import secrets
import selectors
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

POLL_SECONDS = 0.1
VERDICT_SECONDS = 3.0  # to hear whether another process ended before
HOLD_SECONDS = 10.0  # after which an error of C++ is shown, if the process goes on
GRACE_SECONDS = 3.0  # for a process to end by itself when another has ended with an error
ENDED_WITH_ANOTHER = 3  # exit code; below 75, by which SLURM's script knows what to queue again
MEET_SECONDS = 60  # until parents are connected, once their children have met
# A host that vanishes, or whose network does, is given up after 10 + 3 * 5 s.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
_MOST_BYTES = 2**20  # of one message
_CPP_ERROR = re.compile(rb"[EF]\d{4} \d\d:\d\d:\d\d|terminate called after")
_SILENT = re.compile(rb"stopped sending heartbeats\):\s*(\d+)")

_KEY = "sycophancy/hub"  # in JAX's key-value store
# What certainly is no consequence of another's end.
_CAUSES = ("user", "stopped", "exit", "killed", "gone")


@dataclasses.dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
      index: which process.
      host: where it ran.
      kind: "user" for bad input, "error" for any other exception, "stopped" by a signal that asks
        for it, "exit" with a code, "killed" by a signal, "crash" for an abort from C++, "gone" if
        its parent went with it, "silent" if it sent JAX no heartbeat.
      words: what became of it, to follow "process 1 on HOST".
    """

    index: int
    host: str
    kind: str
    words: str


class Link:
    """A child's connection to its parent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with self._connection.makefile("rb") as lines:
            for line in lines:
                self._answers.put(line)
        os._exit(1)  # the parent is gone

    def say(self, **message: Any) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def met(self, index: int, size: int, coordinator: str, store: Any, scratch: str) -> None:
        """Connects the parents, once JAX has connected the children.

        Args:
          index: of this process.
          size: how many there are.
          coordinator: host:port of process 0.
          store: JAX's key-value store.
          scratch: a folder that the parent removes at the end.
        """
        host = coordinator.rpartition(":")[0].strip("[]")
        self.say(met={"index": index, "size": size, "coordinator": host, "scratch": scratch})
        if index == 0:
            store.key_value_set(_KEY, self._answers.get(timeout=MEET_SECONDS).decode())
        else:
            hub = json.loads(store.blocking_key_value_get(_KEY, MEET_SECONDS * 1000))
            self.say(connect=[host, hub["port"], hub["token"]])

    def fail(self, kind: str, words: str, shown: str, code: int) -> NoReturn:
        """Tells the parent how this process ends, and waits for it to say what and to end us.

        JAX stays up meanwhile: its coordinator, in process 0, ends the others when it goes.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            self.say(failed={"kind": kind, "words": words, "shown": shown, "code": code})
            time.sleep(10 * GRACE_SECONDS)
        finally:
            os._exit(code)


link: Link | None = None  # in a child


def watch() -> None:
    """Goes on in a child; the parent never returns, and exits as the run does."""
    global link
    ours, theirs = socket.socketpair()
    errors_out, errors_in = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        theirs.close()
        os.close(errors_in)
        _Parent(child, ours, errors_out).run()
    ours.close()
    os.close(errors_out)
    os.setpgid(0, 0)  # Ctrl-C reaches the parent, which passes it on
    # What Python writes stays where it was; what C++ writes goes through the parent.
    kept, before = os.dup(2), sys.stderr
    os.dup2(errors_in, 2)
    os.close(errors_in)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=before.encoding, errors=before.errors)
    link = Link(theirs)


def fail_with(error: BaseException) -> NoReturn:
    """Ends a watched process by an exception that is no UserError."""
    assert link is not None
    words = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    link.fail("error", f"failed: {words}", "".join(traceback.format_exception(error)), 1)


class _Peer:
    """A socket that carries JSON, one message a line."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.index, self.host, self.gone = -1, "", False
        self._buffer = b""
        connection.setblocking(False)

    def say(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # who is gone is noticed by reading
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def heard(self) -> list[dict[str, Any]]:
        """The messages that have come; sets `gone` once there will be no more."""
        try:
            while (data := self.connection.recv(2**16)) and len(self._buffer) < _MOST_BYTES:
                self._buffer += data
            self.gone = True
        except BlockingIOError:
            pass
        except OSError:  # reset, or no answer from its host
            self.gone = True
        *lines, self._buffer = self._buffer.split(b"\n")
        try:
            return [dict(json.loads(line)) for line in lines]
        except (ValueError, TypeError, RecursionError):  # a stranger
            self.gone = True
            return []


class _Parent:
    def __init__(self, child: int, connection: socket.socket, errors: int) -> None:
        self._child, self._errors = child, errors
        self._control = _Peer(connection)
        self._selector = selectors.DefaultSelector()
        self._status: int | None = None  # of the child, once it has ended
        self._failed: dict[str, Any] | None = None  # what the child says of its own end
        self._own: End | None = None
        self._first: End | None = None  # whose end ends the run
        self._decide_at = self._kill_at = self._release_at = float("inf")
        self._partial, self._held = b"", b""
        self._index, self._size = 0, 1
        self._meeting = self._scratch = self._token = ""
        self._server: socket.socket | None = None
        self._peers: list[_Peer] = []  # of the hub: all others; of another: the hub
        self._reports: list[End] = []

    def run(self) -> NoReturn:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._pass_on)
        os.set_blocking(self._errors, False)
        self._listen(self._control.connection, self._hear_child)
        self._listen(self._errors, self._read_errors)
        code = None
        while code is None:
            for key, _ in self._selector.select(POLL_SECONDS):
                key.data()
            self._look_at_child()
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
        if self._meeting and self._failed is None:  # in C++, where Python hears no signal
            words = f"was stopped by {signal.Signals(number).name}"
            shown = "sycophancy: stopped before the processes had met"
            self._failed = {"kind": "stopped", "words": words, "shown": shown, "code": 128 + number}
            number = signal.SIGKILL
        os.kill(self._child, number)

    # What the child does

    def _look_at_child(self) -> None:
        if self._status is None:
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                self._hear_child()
                self._read_errors()
                self._status = status
        if self._own is None and (self._failed is not None or self._status):
            self._own = self._how_it_ended()
            self._report(self._own)

    def _hear_child(self) -> None:
        for message in self._control.heard():
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
        """Passes on what C++ writes; holds back an error and what follows: the end may follow."""
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

    def _how_it_ended(self) -> End:
        kind, words = self._kind_and_words()
        if kind == "crash" and b"another task died" in self._held:  # as JAX says
            told = _SILENT.search(self._held)
            index = int(told[1]) if told else 0
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

    # What the other parents say

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
        self._control.say(port=server.getsockname()[1], token=self._token)

    def _accept(self) -> None:
        assert self._server is not None
        with contextlib.suppress(OSError):
            connection, _ = self._server.accept()
            self._join(_Peer(connection))

    def _connect(self, host: str, port: int, token: str) -> None:
        # Where no connection is possible, JAX's heartbeat is left to notice who is gone.
        with contextlib.suppress(OSError):
            hub = _Peer(socket.create_connection((host, port), timeout=10))
            hub.host = host
            hub.index = 0
            self._peers.append(hub)
            self._join(hub)
            hub.say(hello={"token": token, "index": self._index, "host": platform.node()})

    def _join(self, peer: _Peer) -> None:
        peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # not on every system
                peer.connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._listen(peer.connection, lambda: self._hear(peer))

    def _hear(self, peer: _Peer) -> None:
        for message in peer.heard():
            if "hello" in message:
                hello = message["hello"]
                if not hmac.compare_digest(str(hello.get("token")), self._token):
                    self._part(peer)
                    return
                peer.index, peer.host = int(hello["index"]), str(hello["host"])
                peer.say(hub=platform.node())
                self._peers.append(peer)
                if self._first is not None:
                    peer.say(first=dataclasses.asdict(self._first))
            elif peer not in self._peers:  # a stranger
                self._part(peer)
                return
            elif "hub" in message:
                peer.host = message["hub"]
            elif "done" in message:
                self._peers.remove(peer)
            elif "ended" in message:
                self._heard_of(End(**message["ended"]))
            elif "first" in message:
                self._decide(End(**message["first"]))
        if peer.gone:
            self._part(peer)

    def _part(self, peer: _Peer) -> None:
        self._ignore(peer.connection)
        peer.connection.close()
        if peer in self._peers:
            self._peers.remove(peer)
            words = "is gone, or its host or its network is"
            self._heard_of(End(peer.index, peer.host, "gone", words))

    def _heard_of(self, end: End) -> None:
        if self._index == 0:
            self._reports.append(end)
            self._decide_at = min(self._decide_at, time.monotonic() + VERDICT_SECONDS)
        elif self._first is None:  # the hub is gone without a word
            self._decide(self._own if self._own and self._own.kind in _CAUSES else end)

    def _report(self, end: End) -> None:
        """Tells the hub how our child ended, so that it decides who was first."""
        if self._index == 0:
            self._heard_of(end)
        elif self._peers:
            self._peers[0].say(ended=dataclasses.asdict(end))
            self._decide_at = time.monotonic() + 2 * VERDICT_SECONDS
        else:
            self._decide(end)

    def _decide(self, first: End) -> None:
        if self._first is not None:
            return
        self._first = first
        if self._index == 0:
            for peer in self._peers:
                peer.say(first=dataclasses.asdict(first))
        # The others of an error that all are told of end by themselves, with the same words.
        grace = GRACE_SECONDS if first.kind in ("user", "stopped", "exit") else 0.0
        self._kill_at = time.monotonic() + grace

    # The end

    def _step(self) -> int | None:
        """What time brings; the code to exit with once all is said."""
        now = time.monotonic()
        if self._held and self._own is None and now >= self._release_at:
            self._release()
        if self._first is None and self._status == 0:
            for peer in self._peers:
                peer.say(done=True)
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
        return self._say_how_it_ended()

    def _say_how_it_ended(self) -> int:
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
            _say(f"the processes of this run did not meet{self._meeting}")
        elif own is None or first.index != self._index:
            code = ENDED_WITH_ANOTHER
            _say(f"process {first.index} on {first.host} {first.words}; this one ends too; {_KEPT}")
        elif own.kind == "killed":
            code = 128 - os.waitstatus_to_exitcode(self._status or 0)
            _say(f"process {own.index} on {own.host} {own.words}; {_KEPT}")
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


_KEPT = "what is complete is kept, and the same command continues from there"


def _say(text: str) -> None:
    print(f"sycophancy: {' '.join(text.split())}", file=sys.stderr, flush=True)
