"""The lease of a run in a bucket: an object that says which process may write the run.

Its holder writes it again and again, each time only if it is still what the holder wrote last; the
provider checks that. A holder that has ended writes no more, so its lease expires and another
process may take it over, again only if it has not changed meanwhile.
"""

from __future__ import annotations

import _thread
import contextlib
import datetime
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from sycophancy.errors import UserError
from sycophancy.storage.bucket import in_one_line

NAME = ".lease"
SECONDS = 60.0  # that a lease is valid for
RENEWAL_SECONDS = 15.0  # between two renewals
_ANSWER_SECONDS = (
    10.0  # the longest wait for the provider; TensorStore itself tries for many minutes
)


class Store(Protocol):
    """An object that can be read, and written only if it has not changed."""

    def read(self) -> tuple[bytes, Any]:
        """Its contents and version; empty contents if there is no such object."""

    def write(self, contents: bytes | None, version: Any) -> Any | None:
        """Writes or removes it; returns the new version, or None if `version` is not current."""


class KvStore:
    """A key of a `tensorstore.KvStore` as a `Store`; by default the lease's."""

    def __init__(
        self, store: Any, address: str, key: str = NAME, *, patience: float = _ANSWER_SECONDS
    ) -> None:
        self._store, self._address, self._key, self._patience = store, address, key, patience

    def read(self) -> tuple[bytes, Any]:
        with in_one_line(f"{self._address} cannot be read"):
            result = self._answer(self._store.read(self._key))
        return bytes(result.value), bytes(result.stamp.generation)

    def write(self, contents: bytes | None, version: Any) -> Any | None:
        with in_one_line(f"{self._address} cannot be written"):
            stamp = self._answer(self._store.write(self._key, contents, if_equal=version))
        # A write whose condition does not hold returns no generation.
        return bytes(stamp.generation) or None

    def _answer(self, future: Any) -> Any:
        try:
            return future.result(timeout=self._patience)
        except TimeoutError:
            future.cancel()
            raise TimeoutError(f"no answer within {self._patience:.0f} s") from None


class Lease:
    """A lease that this process wants or has.

    Args:
        store: the object.
        address: of the run, for messages.
        seconds: that it is valid for after each renewal.
        every: seconds between renewals.
        on_loss: called in another thread when the lease is lost; interrupts the main thread.
    """

    def __init__(
        self,
        store: Store,
        address: str,
        *,
        seconds: float,
        every: float,
        on_loss: Callable[[], None] = _thread.interrupt_main,
    ) -> None:
        self.lost = ""  # how, in words
        self._store, self._address = store, address
        self._seconds, self._every, self._on_loss = seconds, every, on_loss
        self._token, self._since = secrets.token_hex(8), _now()
        self._version: Any = None
        self._valid_until = 0.0  # by the clock of this process
        self._ended = threading.Event()

    @contextlib.contextmanager
    def held(self, waiting: Callable[[str], None] = lambda line: None) -> Iterator[None]:
        """Takes the lease, renews it while the context is open, and gives it back.

        Args:
            waiting: called with a line before waiting for another's lease to expire.

        Raises:
            UserError: another process has it and renews it, or it was lost meanwhile.
        """
        self.take(waiting)
        thread = threading.Thread(target=self._keep, daemon=True, name="lease")
        thread.start()
        try:
            yield
        except BaseException:
            if self.lost:  # then this is what `on_loss` has caused
                self.check()
            raise
        finally:
            self._ended.set()
            thread.join()
            self.give_back()

    def take(self, waiting: Callable[[str], None] = lambda line: None) -> None:
        """Takes the lease once it is free or has expired.

        A lease has expired if it says so and its holder does not renew it while this process
        watches, so the clocks of the hosts need not agree.

        Raises:
            UserError: its holder has renewed it.
        """
        contents, version = self._store.read()
        first, begun = version, time.monotonic()
        while contents and version == first:
            left = self._seconds_left(contents, time.monotonic() - begun)
            if left <= 0:
                break
            waiting(f"{self._who(contents)}; waiting for it to expire, at most {left:.0f} s")
            waiting = _unheard
            time.sleep(min(left, self._every / 3))
            contents, version = self._store.read()
        expired = not contents or version == first
        self._version = self._write(version) if expired else None
        if self._version is None:
            raise self._refusal(contents if not expired else self._store.read()[0])

    def renew(self) -> None:
        """Extends the lease, or notes in `lost` that it is another's."""
        with contextlib.suppress(UserError):  # the network may come back before it expires
            version = self._write(self._version)
            if version is None:
                contents, now = self._store.read()
                # A write that did arrive although its answer got lost.
                version = now if _read(contents).get("token") == self._token else None
                if version is None:
                    self.lost = f"is lost: {self._who(contents)}"
            self._version = version
        self._notice_expiry()

    def check(self) -> None:
        """Refuses to go on without the lease.

        Raises:
            UserError: the lease is lost.
        """
        self._notice_expiry()
        if self.lost:
            raise UserError(
                f"the lease of {self._address} {self.lost}; nothing more was written there, and "
                "the same command continues from what is there once it is free"
            )

    def _notice_expiry(self) -> None:
        held = self._version is not None and not self.lost
        if held and time.monotonic() >= self._valid_until:
            self.lost = f"has expired: it could not be renewed for {self._seconds:.0f} s"

    def give_back(self) -> None:
        """Removes the lease, if this process still has it."""
        if self._version is not None and not self.lost:
            with contextlib.suppress(UserError):  # then it expires
                self._store.write(None, self._version)
            self._version = None

    def _seconds_left(self, contents: bytes, watched: float) -> float:
        """Until another's lease, watched for some seconds without a change, has expired."""
        by_clock = (_expiry(contents) - _now()).total_seconds()
        return max(min(by_clock, self._seconds - watched), self._every * 4 / 3 - watched)

    def _keep(self) -> None:
        while not self._ended.wait(self._every):
            self.renew()
            if self.lost:
                self._on_loss()
                return

    def _write(self, version: Any) -> Any | None:
        begun = time.monotonic()
        until = _now() + datetime.timedelta(seconds=self._seconds)
        contents = {
            "holder": f"process {os.getpid()} on {platform.node()}",
            "since": self._since.isoformat(timespec="seconds"),
            "expires": until.isoformat(timespec="seconds"),
            "token": self._token,
        }
        written = self._store.write(json.dumps(contents).encode(), version)
        if written is not None:
            self._valid_until = begun + self._seconds
        return written

    def _who(self, contents: bytes) -> str:
        about = _read(contents)
        if not about:
            return f"{self._address} was just released by another process"
        return (
            f"{self._address} is being written by {about.get('holder', 'another process')} since "
            f"{about.get('since')}, whose lease expires at {about.get('expires')}"
        )

    def _refusal(self, contents: bytes) -> UserError:
        return UserError(f"{self._who(contents)}; wait for it, or give another --out")


def _read(contents: bytes) -> dict[str, Any]:
    try:
        about = json.loads(contents)
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _expiry(contents: bytes) -> datetime.datetime:
    """When a lease expires; long ago for one that cannot be read."""
    try:
        return datetime.datetime.fromisoformat(str(_read(contents).get("expires")))
    except ValueError:
        return datetime.datetime.min.replace(tzinfo=datetime.UTC)


def _unheard(line: str) -> None:
    """Takes a line that was said before."""


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
