"""Reading from the Hugging Face hub: no loading scripts, bounded retries, errors in one line."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sycophancy.errors import UserError

T = TypeVar("T")

ATTEMPTS = 5
FIRST_PAUSE = 1.0  # seconds; doubles after every attempt
ANSWER_SECONDS = 12.0  # within which a server must have answered once, attempts and pauses included
REQUEST_SECONDS = 8.0  # for one answer
REMEMBER_SECONDS = 60.0  # how long a server that did not answer is not asked again
PARQUET_BRANCH = "refs/convert/parquet"  # where the hub puts parquet made from a loading script

_BUSY = {408, 429, 500, 502, 503, 504}
# Connection faults of requests and httpx, by name, so that neither has to be imported.
_FAULTS = {
    "ChunkedEncodingError",
    "ConnectionError",
    "ProxyError",
    "RemoteProtocolError",
    "SSLError",
    "Timeout",
    "TransportError",
}
_silent: dict[str, tuple[float, str]] = {}  # server: when it did not answer, and the reason


class Unreachable(Exception):  # noqa: N818
    """A server did not answer, and no copy is on this machine."""


def load_split(
    what: str, hub_id: str, *, remedy: str, attempts: int = ATTEMPTS, **arguments: Any
) -> Any:
    """Calls `datasets.load_dataset` until it succeeds, a few times at most.

    A server that does not answer within `ANSWER_SECONDS` is not waited for: what `datasets` has on
    this machine is taken. A revision that holds only a loading script is asked for again on the
    hub's parquet branch.

    Args:
      what: what is loaded, for messages, e.g. "data set 'sst2'".
      hub_id: `owner/name`, or the name of a builder of `datasets` such as `json`.
      remedy: the way out if it cannot be had, for messages.
      attempts: how often to try.
      **arguments: for `load_dataset`.

    Raises:
      UserError: it cannot be had; the message names the data set, the reason and the remedy.
    """
    import datasets

    place = arguments["data_files"] if hub_id == "json" else hub_id

    def ask(seconds: float) -> None:
        if hub_id == "json":
            _ask_url(place, seconds)
        else:
            _ask_hub("dataset", hub_id, arguments.get("revision"), seconds)

    def load() -> Any:
        return datasets.load_dataset(hub_id, **arguments)

    def load_parquet() -> Any:
        return datasets.load_dataset(hub_id, **{**arguments, "revision": PARQUET_BRANCH})

    try:
        try:
            return answered(ask, load, server=place if hub_id == "json" else "", attempts=attempts)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            return with_retries(load_parquet, attempts)
    except Exception as error:
        raise UserError(
            f"{what} could not be loaded from {place}{offline_note()}: {one_line(error)}; {remedy}"
        ) from error


def load_model(repo: str, revision: str | None, load: Callable[[], T]) -> T:
    """Calls `load`, which reads a model's files from the hub, as `load_split` calls `datasets`.

    Raises:
      Exception: what `load` raised last, or `Unreachable`.
    """
    return answered(lambda seconds: _ask_hub("model", repo, revision, seconds), load)


def answered(
    ask: Callable[[float], None],
    load: Callable[[], T],
    *,
    server: str = "",
    attempts: int = ATTEMPTS,
) -> T:
    """Loads, from the network if the server answers a small question first, else from this machine.

    The libraries' own waiting and their log of it, minutes and dozens of lines when there is no
    network, are thus never met.

    Args:
      ask: the question; gets the seconds that are left for it.
      load: reads from the network, or from this machine when the network is off.
      server: its name; empty for the hub.
      attempts: how often to load.

    Raises:
      Unreachable: the server did not answer and `load` found nothing on this machine.
      Exception: what `load` raised last.
    """
    if is_offline():
        return load()
    _hush()
    reason = _silence(ask, server)
    if reason is None:
        return with_retries(load, attempts)
    with _network_off():
        try:
            return load()
        except Exception as error:
            name = server or os.environ.get("HF_ENDPOINT") or "the hub"
            raise Unreachable(
                f"{name} does not answer ({reason}), and this machine has no copy"
            ) from error


def _silence(ask: Callable[[float], None], server: str) -> str | None:
    """Why a server does not answer; None if it does, be it with a refusal."""
    when, reason = _silent.get(server, (0.0, ""))
    if reason and time.monotonic() - when < REMEMBER_SECONDS:
        return reason
    end = time.monotonic() + ANSWER_SECONDS

    def question() -> None:
        seconds = max(0.1, min(REQUEST_SECONDS, end - time.monotonic()))
        within(seconds + 0.5, lambda: ask(seconds))  # the library's own words, if it has any

    try:
        with_retries(question, end=end)
    except Exception as error:
        if not is_transient(error):
            return None
        if _status(error) is None:  # else it is busy, and another question may be answered
            _silent[server] = (time.monotonic(), one_line(error))
        return one_line(error)
    return None


def within(seconds: float, call: Callable[[], T]) -> T:
    """Calls in a thread that nothing waits for: looking up a server's name knows no time limit.

    Raises:
      TimeoutError: there was no result in time.
      Exception: what the call raised.
    """
    results: queue.Queue[tuple[Exception | None, Any]] = queue.Queue()

    def work() -> None:
        try:
            results.put((None, call()))
        except Exception as error:
            results.put((error, None))

    threading.Thread(target=work, daemon=True).start()
    try:
        error, result = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    found: T = result
    return found


def _ask_hub(kind: str, repo: str, revision: str | None, seconds: float) -> None:
    import huggingface_hub

    huggingface_hub.HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=seconds)


def _ask_url(url: str, seconds: float) -> None:
    import huggingface_hub

    found = huggingface_hub.get_session().head(url, timeout=seconds, follow_redirects=True)
    found.raise_for_status()


@contextlib.contextmanager
def _network_off() -> Iterator[None]:
    """The libraries read what they have on this machine, as if told to be offline."""
    places = [place for place, _ in _libraries()]
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _hush() -> None:
    """Keeps the libraries' own accounts of attempts and copies off the terminal."""
    for _, logging in _libraries():
        logging.set_verbosity_error()


def _libraries() -> Iterator[tuple[Any, Any]]:
    """Settings and logging of the hub's libraries; of `datasets`, slow to import, if it is used."""
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    yield constants, logging
    if datasets := sys.modules.get("datasets"):
        yield datasets.config, datasets.logging


def guard_stream(what: str, rows: Iterator[T], *, remedy: str) -> Iterator[T]:
    """Passes streamed rows on; a fault on the way becomes a UserError that names the data set."""
    try:
        yield from rows
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} broke off while streaming: {one_line(error)}; {remedy}") from error


def with_retries(
    call: Callable[[], T], attempts: int = ATTEMPTS, *, end: float = float("inf")
) -> T:
    """Calls, and calls again after a pause if the server is busy or out of reach.

    Args:
      call: what to do.
      attempts: call this often at most; once if the hub is offline by choice.
      end: do not pause beyond this time, of `time.monotonic`.

    Raises:
      Exception: what the last call raised, at once if trying again cannot help.
    """
    attempts = 1 if is_offline() else attempts
    for attempt in range(attempts):
        try:
            return call()
        except Exception as error:
            pause = FIRST_PAUSE * 2**attempt
            last = attempt + 1 == attempts or time.monotonic() + pause >= end
            if last or not is_transient(error):
                raise
            time.sleep(pause)
    raise AssertionError("attempts must be positive")


def is_offline() -> bool:
    """Whether the user asked for no network."""
    return _offline_switch() is not None


def offline_note() -> str:
    """A remark for messages, where the user asked for no network."""
    return f" (offline: {_offline_switch()} is set)" if is_offline() else ""


def _offline_switch() -> str | None:
    """The variable by which the user asked for no network."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    on = {"1", "ON", "YES", "TRUE"}
    return next((name for name in names if os.environ.get(name, "").upper() in on), None)


def is_transient(error: BaseException) -> bool:
    """Whether the error, or one it came from, is a busy server or a lost connection."""
    cause: BaseException | None = error
    while cause is not None:
        status = _status(cause)
        if status is not None:
            return status in _BUSY
        names = {base.__name__ for base in type(cause).__mro__}
        if isinstance(cause, ConnectionError | TimeoutError) or names & _FAULTS:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error of requests or httpx carries."""
    return getattr(getattr(error, "response", None), "status_code", None)


def one_line(error: BaseException, limit: int = 300) -> str:
    """What an error says, without line breaks, cut to a length that fits a message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
