"""Who ended first, told in one line by all: real processes without JAX, which share a folder."""

import os
import platform
import signal
import socket
import subprocess
import sys
import time

import pytest

WORKER = """
import os, signal, sys, time
from pathlib import Path
from sycophancy.engine import supervision, supervisor

class Store:
    def key_value_set(self, key, value):
        (folder / "new").write_text(value)
        (folder / "new").rename(folder / "hub")
    def blocking_key_value_get(self, key, milliseconds):
        while not (folder / "hub").exists():
            time.sleep(0.01)
        return (folder / "hub").read_text()

supervisor.GRACE_SECONDS = supervisor.VERDICT_SECONDS = 1.5
index, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
supervision.watch()
if "NOT MET" not in sys.argv[4]:
    supervision.link.met(index, size, "127.0.0.1:1", Store(), str(folder / f"scratch{index}"))
print(os.getpid(), flush=True)
sys.stdin.readline()
def cpp(text):
    os.write(2, text.encode())
    os.abort()
try:
    exec(sys.argv[4])
except Exception as error:
    supervision.fail_with(error)
"""
SLEEP = "time.sleep(60)"
STACK = "*** Check failure stack trace: ***\n    @     0x7fe536c40634  absl::lts\n"
HOST = platform.node()


@pytest.fixture
def start(tmp_path):
    """Starts processes, each with what it does; returns them once all have met."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*does: str) -> list[subprocess.Popen[str]]:
        for index, snippet in enumerate(does):
            (tmp_path / f"scratch{index}").mkdir()
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", WORKER, str(index), str(len(does)), tmp_path, snippet],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for process in processes:
            process.child = int(process.stdout.readline())
        time.sleep(0.3)  # until the parents are connected
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        return processes

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def ended(processes, within=8.0):
    """Code and standard error of each, if all end in time and leave no child."""
    deadline = time.monotonic() + within
    found = []
    for process in processes:
        _, err = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
        found.append((process.returncode, err))
    assert not [process.child for process in processes if is_running(process.child)]
    return found


def is_running(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", str(pid)], capture_output=True, text=True)
    return done.stdout.strip()[:1] not in ("", "Z")  # nobody may wait for an orphan


KEPT = "complete stages are kept, and the same command continues from there\n"


@pytest.mark.parametrize("who", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("does", "code", "own", "words"),
    [
        pytest.param("os.kill(os.getpid(), 9)", 137, None, "was killed by SIGKILL", id="killed"),
        pytest.param(
            "supervision.link.fail('user', 'ended: bad row 3', 'sycophancy: bad row 3', 2)",
            2,
            "sycophancy: bad row 3\n",
            "ended: bad row 3",
            id="bad input",
        ),
        pytest.param("1 / 0", 1, None, "failed: ZeroDivisionError: division by zero", id="error"),
        pytest.param("os._exit(5)", 5, "", "ended with code 5", id="exit", marks=pytest.mark.slow),
        pytest.param(
            "os._exit(143)",
            143,
            "",
            "was stopped by SIGTERM",
            id="stopped",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            f"cpp('F1125 10:15:13.44 1 x.cc:1] broken' + {STACK!r})",
            134,
            None,
            "was ended from C++",
            id="crash",
        ),
    ],
)
def test_the_others_end_and_name_the_first(start, who, does, code, own, words):
    snippets = [SLEEP] * 3
    snippets[who] = does
    results = ended(start(*snippets))
    assert results[who][0] == code, results
    if own is not None:
        assert results[who][1] == own
    if does == "1 / 0":
        assert "Traceback (most recent call last)" in results[who][1]
    for index, (other, err) in enumerate(results):
        if index != who:
            assert other == 3
            assert err.startswith(f"sycophancy: process {who} on {HOST} {words}")
            assert err.endswith(f"; this one ends too; {KEPT}")
            assert err.count("\n") == 1


@pytest.mark.parametrize("who", [0, 1])
def test_a_parent_that_is_killed_takes_its_child_along_and_is_named(start, who):
    processes = start(SLEEP, SLEEP)
    processes[who].kill()
    results = ended(processes)
    other = results[1 - who]
    assert other[0] == 3
    assert other[1].startswith(f"sycophancy: process {who} on ")
    assert "is gone, or its host or its network is; this one ends too; " in other[1]
    assert other[1].count("\n") == 1


@pytest.mark.parametrize("who", [0, 1])
def test_what_fails_because_another_was_killed_is_not_told_as_the_cause(start, who):
    """Gloo raises and JAX aborts as soon as the other is gone: before its parent says so."""
    snippets = ["", ""]
    snippets[who] = "time.sleep(0.3); os.kill(os.getpid(), 9)"
    snippets[1 - who] = "time.sleep(0.2); raise RuntimeError('Gloo: connection closed by peer')"
    results = ended(start(*snippets))
    assert results[1 - who][0] == 3
    assert results[1 - who][1].startswith(f"sycophancy: process {who} on {HOST} was killed by")
    assert results[1 - who][1].count("\n") == 1

    assert results[who][1].count("\n") == 1


def test_the_stack_of_a_consequence_is_not_shown(start):
    abort = "F1125 10:15:13.440439    6982 client.h:80] Terminating: another task died.\n" + STACK
    processes = start(
        f"time.sleep(0.2); cpp({abort!r})", "time.sleep(0.3); os.kill(os.getpid(), 9)"
    )
    (code, err), _ = ended(processes)
    assert code == 3
    assert err.startswith(f"sycophancy: process 1 on {HOST} was killed by SIGKILL")
    assert err.count("\n") == 1


def test_one_that_sends_jax_nothing_is_named(start):
    abort = (
        "F1125 10:15:13.440439    6982 client.h:80] Terminating: another task died. absl::Status: "
        "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n1\n" + STACK
    )
    for code, err in ended(start(f"cpp({abort!r})", SLEEP)):
        assert code == 3
        assert err.startswith(f"sycophancy: process 1 on {HOST} gave no sign of life for too long;")
        assert err.count("\n") == 1


def test_an_error_that_all_are_told_is_printed_by_each_as_its_own(start):
    fail = "supervision.link.fail('user', 'ended: bad', 'sycophancy: bad', 2)"
    processes = start(fail, f"time.sleep(1); {fail}", f"time.sleep(0.2); {fail}")
    assert ended(processes) == [(2, "sycophancy: bad\n")] * 3


def test_the_coordinator_stays_until_the_others_have_ended(start, tmp_path):
    """JAX would end them from C++ when process 0, which has its coordinator, is gone."""
    fail = "supervision.link.fail('user', 'ended: bad', 'sycophancy: bad', 2)"
    look = f"time.sleep(1); os.kill({{pid}}, 0); {fail}"
    processes = start(fail, look.format(pid="os.getppid()"))
    assert ended(processes) == [(2, "sycophancy: bad\n")] * 2


def test_a_good_end_is_silent_and_in_any_order(start, tmp_path):
    processes = start("", "time.sleep(0.5)", "time.sleep(1)")
    assert ended(processes) == [(0, "")] * 3
    assert not list(tmp_path.glob("scratch*"))


def test_a_paused_process_is_left_alone(start):
    processes = start(SLEEP, SLEEP)
    os.kill(processes[1].child, signal.SIGSTOP)
    time.sleep(1.5)
    assert [process.poll() for process in processes] == [None, None]
    processes[0].kill()
    assert "process 0 on " in ended(processes)[1][1]


def test_signals_reach_the_child_and_its_code_comes_back(start):
    (alone,) = start("signal.signal(15, lambda *_: os._exit(3)); time.sleep(60)")
    time.sleep(0.2)
    alone.send_signal(signal.SIGTERM)
    assert ended([alone]) == [(3, "")]


def test_before_the_processes_meet_a_signal_ends_at_once(start):
    """JAX waits in C++ then, where Python hears none."""
    wait = "NOT_MET = 'NOT MET'; supervision.link.send(meeting=' within 600 s'); "
    (alone,) = start(f"{wait} signal.signal(15, signal.SIG_IGN); time.sleep(60)")
    time.sleep(0.3)
    alone.send_signal(signal.SIGTERM)
    assert ended([alone]) == [(143, "sycophancy: stopped before the processes had met\n")]


def test_processes_that_do_not_meet_are_told_in_one_line(start):
    abort = (
        "F1125 10:39:05.2783    4966 client.h:80] another task died. DEADLINE_EXCEEDED\n" + STACK
    )
    (alone,) = start(f"supervision.link.send(meeting=' within 5 s: NOT MET'); cpp({abort!r})")
    assert ended([alone]) == [
        (1, "sycophancy: the processes of this run did not meet within 5 s: NOT MET\n")
    ]


def test_what_cpp_writes_is_passed_on_and_what_python_writes_goes_straight(start):
    (alone,) = start("os.write(2, b'from C++\\n'); print('from Python', file=sys.stderr)")
    code, err = ended([alone])[0]
    assert code == 0
    assert sorted(err.splitlines()) == ["from C++", "from Python"]


def test_strangers_are_not_listened_to(start, tmp_path):
    import json

    processes = start(SLEEP, SLEEP)
    port = json.loads((tmp_path / "hub").read_text())["port"]
    ended_message = {"index": 1, "host": "x", "kind": "user", "words": "is not to be believed"}
    for text in (
        b"\xff\xfe garbage\n",
        b"[" * 100_000 + b"\n",
        b'{"hello": {"token": "guess", "index": 1, "host": "x"}}\n',
        json.dumps({"ended": ended_message}).encode() + b"\n",
        b"",
    ):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(text)
            time.sleep(0.15)
    assert [process.poll() for process in processes] == [None, None]
    processes[1].kill()
    assert "process 1 on " in ended(processes)[0][1]
