"""Makes text work in any locale and on any terminal, even one that goes away."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import locale
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from sycophancy.errors import UserError

_ESCAPED = "sycophancy.escaped"


def take_any_text() -> None:
    """Makes reading and printing independent of the locale. Call it at the start of a process.

    If the locale's encoding is not UTF-8, the process starts itself again in Python's UTF-8 mode,
    because file names and the files of other packages depend on the encoding too. A character that
    the terminal's encoding lacks is printed as an escape, and undecodable bytes of a file name are
    printed unchanged.
    """
    _start_in_utf8_mode()
    codecs.register_error(_ESCAPED, _escaped)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed: the next opened file would get its number
            mode = "w" if number else "r"
            setattr(sys, name, Path(os.devnull).open(mode, errors="replace"))  # noqa: SIM115
        elif number and type(stream := getattr(sys, name)) is io.TextIOWrapper:
            setattr(sys, name, _Stream(stream))


def check_names(*names: str) -> None:
    """Refuses file names that are not UTF-8, because Arrow, Orbax and XLA cannot open them.

    Raises:
      UserError: a name is not UTF-8.
    """
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UserError(f"{name!a}: a name or path must be UTF-8; rename it")


def lost_output() -> str:
    """Why standard output lost text; empty if it lost none, or if its reader closed it."""
    sys.stdout and sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    return "" if error is None or error.errno == errno.EPIPE else str(error.strerror)


@contextlib.contextmanager
def silent_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow silent if it is imported in this context; restores the environment."""
    name = "TF_CPP_MIN_LOG_LEVEL"
    earlier = os.environ.get(name)
    os.environ.setdefault(name, "3")
    try:
        yield
    finally:
        if earlier is None:
            os.environ.pop(name, None)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Hides standard error in this context: TensorFlow's C++ prints there despite its log level."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class _Stream(io.TextIOWrapper):
    """A standard stream that never raises, so that work continues when its reader goes away.

    Attributes:
      error: the first error that lost text, or None.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=_ESCAPED,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._discard(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._discard(error)

    def _discard(self, error: OSError) -> None:
        """Discards all further output, also that of C++ code."""
        self.error = error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


def _start_in_utf8_mode() -> None:
    is_utf8 = codecs.lookup(locale.getencoding()).name == "utf-8"
    if is_utf8 or sys.flags.utf8_mode or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _escaped(error: UnicodeError) -> tuple[bytes, int]:
    r"""An error handler for encoding; `\udcff` becomes byte 255, as `os.fsencode` does it.

    >>> codecs.register_error(_ESCAPED, _escaped)
    >>> "naïve \udcff".encode("ascii", _ESCAPED)
    b'na\\xefve \xff'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    escapes = [
        bytes([ord(letter) - 0xDC00])
        if "\udc80" <= letter <= "\udcff"
        else letter.encode("ascii", "backslashreplace")
        for letter in error.object[error.start : error.end]
    ]
    return b"".join(escapes), error.end
