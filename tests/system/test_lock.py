"""The lock of a folder: odd files in place of the lock file, and odd file systems."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.system import lock

TRY = """
import fcntl, os, sys
from pathlib import Path
from sycophancy.system import lock
from sycophancy.errors import UserError
if os.geteuid() == 0 and "--as-nobody" in sys.argv:
    os.seteuid(65534)
try:
    with lock.hold(Path(sys.argv[1])):
        print("held")
except UserError as error:
    print(error)
"""


def try_elsewhere(folder, *flags):
    words = [sys.executable, "-c", TRY, str(folder), *flags]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def make(kind: str, path: Path) -> None:
    victim = path.parent.parent / "victim"
    victim.write_text("important")
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "dangling":
        path.symlink_to(path.parent / "nowhere")
    elif kind == "link to a lock":
        victim.write_text("process 7 on host")
        path.symlink_to(victim)
    elif kind == "hard link":
        os.link(victim, path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    else:
        path.write_bytes(b"\xff my own notes")


@pytest.mark.parametrize(
    "kind",
    ["link", "dangling", "link to a lock", "hard link", "directory", "fifo", "socket", "notes"],
)
def test_anything_else_in_place_of_the_lock_file_is_refused_and_kept(tmp_path, kind):
    folder = tmp_path / "run"
    folder.mkdir()
    make(kind, folder / ".lock")
    before = (tmp_path / "victim").read_bytes()
    status = (folder / ".lock").lstat()
    with pytest.raises(UserError, match=r"run/\.lock") as caught, RunFolder(folder).lock():
        pass
    assert "\n" not in str(caught.value)
    assert (tmp_path / "victim").read_bytes() == before
    assert (folder / ".lock").lstat().st_size == status.st_size
    assert not (folder / "nowhere").exists()


def test_a_run_folder_may_be_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with RunFolder(tmp_path / "run").lock():
        assert "is being written by process" in try_elsewhere(tmp_path / "elsewhere")
    assert try_elsewhere(tmp_path / "elsewhere") == "held"


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o200])
def test_the_message_about_a_lock_file_without_permissions_says_so(mode):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to nobody
        Path(folder).chmod(0o777)
        (Path(folder) / ".lock").touch()
        (Path(folder) / ".lock").chmod(mode)
        message = try_elsewhere(folder, "--as-nobody")
    assert message.startswith(f"cannot open the lock file {folder}/.lock: Permission denied; allow")


@pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL", "EIO"])
def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys, number):
    def refuse(*_):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    for _ in range(2):
        with RunFolder(tmp_path).lock():
            assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path} cannot be locked (" in line
    assert "no other process writes it" in line


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK])
def test_posix_errors_of_a_held_lock_mean_another_holder(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    (tmp_path / ".lock").write_text("process 7 on other-host")
    with (
        pytest.raises(UserError, match="is being written by process 7 on other-host"),
        RunFolder(tmp_path).lock(),
    ):
        pass
    assert (tmp_path / ".lock").read_text() == "process 7 on other-host"


def test_a_second_attempt_of_the_same_process_does_not_free_the_lock(tmp_path):
    with lock.hold(tmp_path):
        with pytest.raises(UserError, match=f"process {os.getpid()} on "), lock.hold(tmp_path):
            pass
        with lock.hold(tmp_path, wait=True):  # as its own sweep does
            pass
        assert f"is being written by process {os.getpid()} on " in try_elsewhere(tmp_path)
    assert try_elsewhere(tmp_path) == "held"


@pytest.mark.parametrize("left", [b"", b"process 7 on a", b"T5X, process 7 on a", b"\0\0"])
def test_the_text_of_a_killed_holder_is_overwritten(tmp_path, left):
    (tmp_path / ".lock").write_bytes(left)
    with lock.hold(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert (tmp_path / ".lock").read_bytes() == b""


def test_a_lock_file_that_its_holder_removed_is_created_again(tmp_path, monkeypatch):
    """It is removed between opening and locking, as when another process removes an empty run."""
    real, removals = fcntl.lockf, []

    def lockf(file, operation):
        if not removals:
            removals.append((tmp_path / ".lock").unlink())
        return real(file, operation)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with lock.hold(tmp_path):
        assert "is being written by" in try_elsewhere(tmp_path)
