"""Reading from the Hugging Face hub: no loading scripts, bounded retries, errors in one line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sycophancy.errors import UserError

T = TypeVar("T")

ATTEMPTS = 5
FIRST_PAUSE = 1.0  # seconds; doubles after every attempt
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


def load_split(
    what: str, hub_id: str, *, remedy: str, attempts: int = ATTEMPTS, **arguments: Any
) -> Any:
    """Calls `datasets.load_dataset` until it succeeds, a few times at most.

    A revision that holds only a loading script is asked for again on the hub's parquet branch.

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

    def load() -> Any:
        return datasets.load_dataset(hub_id, **arguments)

    def load_parquet() -> Any:
        return datasets.load_dataset(hub_id, **{**arguments, "revision": PARQUET_BRANCH})

    try:
        try:
            return with_retries(load, attempts)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            return with_retries(load_parquet, attempts)
    except Exception as error:
        offline = " (offline: HF_HUB_OFFLINE is set)" if is_offline() else ""
        place = arguments["data_files"] if hub_id == "json" else hub_id
        raise UserError(
            f"{what} could not be loaded from {place}{offline}: {_one_line(error)}; {remedy}"
        ) from error


def guard_stream(what: str, rows: Iterator[T], *, remedy: str) -> Iterator[T]:
    """Passes streamed rows on; a fault on the way becomes a UserError that names the data set."""
    try:
        yield from rows
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{what} broke off while streaming: {_one_line(error)}; {remedy}"
        ) from error


def with_retries(call: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """Calls, and calls again after a pause if the server is busy or out of reach.

    Args:
      call: what to do.
      attempts: at most so many calls; one if the hub is offline by choice.

    Raises:
      Exception: what the last call raised, at once if trying again cannot help.
    """
    attempts = 1 if is_offline() else attempts
    for attempt in range(attempts):
        try:
            return call()
        except Exception as error:
            if attempt + 1 == attempts or not is_transient(error):
                raise
            time.sleep(FIRST_PAUSE * 2**attempt)
    raise AssertionError("attempts must be positive")


def is_offline() -> bool:
    """Whether the user asked for no network."""
    flags = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
    return any(flag.upper() in {"1", "ON", "YES", "TRUE"} for flag in flags)


def is_transient(error: BaseException) -> bool:
    """Whether the error, or one it came from, is a busy server or a lost connection."""
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status is not None:
            return status in _BUSY
        names = {base.__name__ for base in type(cause).__mro__}
        if isinstance(cause, ConnectionError | TimeoutError) or names & _FAULTS:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _one_line(error: BaseException, limit: int = 300) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
