"""Reads from the Hugging Face hub: without loading scripts, with bounded retries."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sycophancy.errors import UserError

T = TypeVar("T")

ATTEMPTS = 5
FIRST_PAUSE = 1.0  # seconds; doubles after every attempt
ANSWER_SECONDS = 12.0  # until the first answer of a server, attempts and pauses included
REQUEST_SECONDS = 8.0  # for one request
REMEMBER_SECONDS = 60.0  # before a server that did not answer is asked again
PARQUET_BRANCH = "refs/convert/parquet"  # where the hub puts parquet made from a loading script

_BUSY = {408, 429, 500, 502, 503, 504}
# Connection errors of requests and httpx, by name, because importing either takes long.
_FAULTS = {
    "ChunkedEncodingError",
    "ConnectionError",
    "ProxyError",
    "RemoteProtocolError",
    "SSLError",
    "Timeout",
    "TransportError",
}
_silent: dict[str, tuple[float, str]] = {}  # servers that did not answer: time and reason


class Unreachable(Exception):  # noqa: N818
    """A server did not answer, and no copy is on this machine."""


def load_split(
    what: str, hub_id: str, *, remedy: str, attempts: int = ATTEMPTS, **arguments: Any
) -> Any:
    """Loads a split with `datasets.load_dataset`, with a few attempts.

    If a server does not answer within `ANSWER_SECONDS`, the copy of `datasets` on this machine is
    used. If the revision holds only a loading script, the hub's parquet branch is read.

    Args:
      what: the data set, for messages, as in "data set 'sst2'".
      hub_id: `owner/name`, or the name of a builder of `datasets` such as `json`.
      remedy: what the user can do if the split cannot be loaded, for messages.
      attempts: the largest number of attempts.
      **arguments: for `load_dataset`.

    Raises:
      UserError: the split cannot be loaded; the message names data set, reason and remedy.
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


def download(what: str, url: str, *, remedy: str) -> Path:
    """Downloads a file whose content never changes, or finds the copy of an earlier download.

    Args:
      what: the file's content, for messages, as in "public set 'genies/answer'".
      url: its address, which names a commit.
      remedy: what the user can do if the file cannot be loaded, for messages.

    Raises:
      UserError: the file cannot be loaded; the message names address, reason and remedy.
    """
    import datasets

    once = datasets.DownloadConfig(use_etag=False, disable_tqdm=True)

    def load() -> Path:
        return Path(datasets.DownloadManager(download_config=once).download(url))

    try:
        return answered(lambda seconds: _ask_url(url, seconds), load, server=url)
    except Exception as error:
        raise UserError(
            f"{what} could not be loaded from {url}{offline_note()}: {one_line(error)}; {remedy}"
        ) from error


def load_model(repo: str, revision: str | None, load: Callable[[], T]) -> T:
    """The result of `load`, which reads files of a model from the hub; see `answered`.

    Raises:
      Exception: the last one of `load`, or `Unreachable`.
    """
    return answered(lambda seconds: _ask_hub("model", repo, revision, seconds), load)


def answered(
    ask: Callable[[float], None],
    load: Callable[[], T],
    *,
    server: str = "",
    attempts: int = ATTEMPTS,
) -> T:
    """Loads from the network if the server answers a small request, else from this machine.

    Without a network the libraries would wait for minutes and log dozens of lines.

    Args:
      ask: sends the small request; its argument is the seconds left for the answer.
      load: reads from the network, or from this machine when the network is off.
      server: the server's name; empty for the hub.
      attempts: the largest number of calls of `load`.

    Raises:
      Unreachable: the server did not answer, and this machine has no copy.
      Exception: the last one of `load`.
    """
    if is_offline():
        return load()
    _silence_libraries()
    reason = _no_answer(ask, server)
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


def _no_answer(ask: Callable[[float], None], server: str) -> str | None:
    """Why a server does not answer; None if it does, which includes a refusal."""
    when, reason = _silent.get(server, (0.0, ""))
    if reason and time.monotonic() - when < REMEMBER_SECONDS:
        return reason
    end = time.monotonic() + ANSWER_SECONDS

    def question() -> None:
        seconds = max(0.1, min(REQUEST_SECONDS, end - time.monotonic()))
        within(
            seconds + 0.5, lambda: ask(seconds)
        )  # first the library's own limit, whose message is clearer

    try:
        with_retries(question, end=end)
    except Exception as error:
        if not is_transient(error):
            return None
        if _status(error) is None:  # a busy server may answer another request
            _silent[server] = (time.monotonic(), one_line(error))
        return one_line(error)
    return None


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of a call, which runs in a thread: a look-up of a server's name has no time limit.

    Raises:
      TimeoutError: the call did not return in time.
      Exception: the call's.
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
    value: T = result
    return value


def _ask_hub(kind: str, repo: str, revision: str | None, seconds: float) -> None:
    import huggingface_hub

    huggingface_hub.HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=seconds)


def _ask_url(url: str, seconds: float) -> None:
    import huggingface_hub

    response = huggingface_hub.get_session().head(url, timeout=seconds, follow_redirects=True)
    response.raise_for_status()


@contextlib.contextmanager
def _network_off() -> Iterator[None]:
    """Switches the libraries to their offline mode: they read copies on this machine alone."""
    modules = [settings for settings, _ in _libraries()]
    before = [settings.HF_HUB_OFFLINE for settings in modules]
    for settings in modules:
        settings.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for settings, value in zip(modules, before, strict=True):
            settings.HF_HUB_OFFLINE = value


def _silence_libraries() -> None:
    """Keeps the libraries' log of attempts and copies off the terminal."""
    for _, logging in _libraries():
        logging.set_verbosity_error()


def _libraries() -> Iterator[tuple[Any, Any]]:
    """Settings and logging of huggingface_hub, and of `datasets` if it is imported already."""
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    yield constants, logging
    if datasets := sys.modules.get("datasets"):
        yield datasets.config, datasets.logging


def guard_stream(what: str, rows: Iterator[T], *, remedy: str) -> Iterator[T]:
    """Yields streamed rows; an error becomes a UserError that names the data set."""
    try:
        yield from rows
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} broke off while streaming: {one_line(error)}; {remedy}") from error


def with_retries(
    call: Callable[[], T], attempts: int = ATTEMPTS, *, end: float = float("inf")
) -> T:
    """The result of a call, which is repeated after a pause if the server is busy or out of reach.

    Args:
      call: the call.
      attempts: the largest number of calls; one if the user asked for no network.
      end: the time, as of `time.monotonic`, beyond which no pause lasts.

    Raises:
      Exception: the last call's; the first call's if a repetition cannot help.
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
    """An addition to messages if the user asked for no network."""
    return f" (offline: {_offline_switch()} is set)" if is_offline() else ""


def _offline_switch() -> str | None:
    """The environment variable with which the user asked for no network."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    on = {"1", "ON", "YES", "TRUE"}
    return next((name for name in names if os.environ.get(name, "").upper() in on), None)


def is_transient(error: BaseException) -> bool:
    """Whether an error, or a cause of it, is a busy server or a lost connection."""
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
    """The HTTP status of an error of requests or httpx."""
    return getattr(getattr(error, "response", None), "status_code", None)


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's message on one line, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
