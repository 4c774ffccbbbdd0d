"""The process's text: files are UTF-8, any terminal takes any text, and one may go away."""

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
    """Makes reading and printing independent of the locale; for the start of a process.

    Where the locale's encoding is not UTF-8, the process starts itself again in Python's UTF-8
    mode, since file names and the files of other packages depend on it too. What a terminal's
    encoding lacks is printed as an escape; bytes of a file name that are no text, as they are.
    """
    _start_in_utf8_mode()
    codecs.register_error(_ESCAPED, _escaped)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed: the next file opened would take its number
            mode = "w" if number else "r"
            setattr(sys, name, Path(os.devnull).open(mode, errors="replace"))  # noqa: SIM115
        elif number and type(stream := getattr(sys, name)) is io.TextIOWrapper:
            setattr(sys, name, _Stream(stream))


def check_names(*names: str) -> None:
    """Refuses names of files that are not UTF-8, which Arrow, Orbax and XLA cannot open.

    Raises:
      UserError: a name is not.
    """
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UserError(f"{name!a}: a name or path must be UTF-8; rename it")


def lost_output() -> str:
    """Why standard output could not be written; empty if it was, or if its reader has left."""
    sys.stdout and sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    return "" if error is None or error.errno == errno.EPIPE else str(error.strerror)


@contextlib.contextmanager
def silent_tensorflow() -> Iterator[None]:
    """Within it, TensorFlow that is imported prints no messages; the environment comes back."""
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
    """Hides what TensorFlow's C++ prints while it is imported, past its own log level."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class _Stream(io.TextIOWrapper):
    """A standard stream that never raises: the work goes on without whoever reads of it.

    Attributes:
      error: why text was lost.
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
        """Sends what is still to come, and what C++ prints, nowhere."""
        self.error = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def _start_in_utf8_mode() -> None:
    is_utf8 = codecs.lookup(locale.getencoding()).name == "utf-8"
    if is_utf8 or sys.flags.utf8_mode or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _escaped(error: UnicodeError) -> tuple[bytes, int]:
    r"""An error handler for encoding; `\udcff`, as `os.fsdecode` has it, stands for byte 255.

    >>> codecs.register_error(_ESCAPED, _escaped)
    >>> "naïve \udcff".encode("ascii", _ESCAPED)
    b'na\\xefve \xff'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = [
        bytes([ord(letter) - 0xDC00])
        if "\udc80" <= letter <= "\udcff"
        else letter.encode("ascii", "backslashreplace")
        for letter in error.object[error.start : error.end]
    ]
    return b"".join(found), error.end
