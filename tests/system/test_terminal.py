"""Any text prints on any terminal, and work continues when the terminal goes away."""

import os
import subprocess
import sys

import pytest

from sycophancy.errors import UserError
from sycophancy.system import terminal

TEXT = "naïve → \udcff"
PROGRAM = f"""
import sys
from pathlib import Path
from sycophancy.system import terminal
terminal.take_any_text()
for stream in (sys.stdout, sys.stderr):
    print({TEXT!a}, file=stream)
Path(sys.argv[1]).write_text("\\u2192")  # says nothing of an encoding, as other packages do
print(terminal.lost_output(), file=sys.stderr)
"""
ASCII = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"


def start(program, *words, env="", **options):
    settings = dict(word.split("=", 1) for word in env.split())
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, **settings},
        timeout=60,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    ("env", "printed"),
    [
        ("PYTHONIOENCODING=utf-8", "naïve → ".encode() + b"\xff"),
        ("PYTHONIOENCODING=latin-1", "naïve \\u2192 ".encode("latin-1") + b"\xff"),
        ("PYTHONIOENCODING=ascii:strict", b"na\\xefve \\u2192 \xff"),
        (ASCII, b"na\\xefve \\u2192 \xff"),
        ("LC_ALL=C", "naïve → ".encode() + b"\xff"),
        ("LC_ALL=POSIX PYTHONUTF8=0", None),
    ],
)
def test_text_is_printed_in_every_encoding_and_files_are_utf8(tmp_path, env, printed):
    done = start(PROGRAM, str(tmp_path / "file"), env=env, capture_output=True)
    assert done.returncode == 0, done.stderr
    if printed is not None:
        assert done.stdout == printed + b"\n"
        assert done.stderr == printed + b"\n\n"
    assert (tmp_path / "file").read_bytes() == "→".encode()


@pytest.mark.parametrize("env", ["", ASCII])
def test_output_without_a_reader_does_not_end_the_process(tmp_path, env):
    readable, writable = os.pipe()
    os.close(readable)
    with os.fdopen(writable, "w") as pipe:
        done = start(PROGRAM, str(tmp_path / "file"), env=env, stdout=pipe, stderr=pipe)
    assert done.returncode == 0
    assert (tmp_path / "file").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_behind_standard_output_is_reported(tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = start(PROGRAM, str(tmp_path / "file"), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == b"No space left on device"
    assert (tmp_path / "file").exists()


def test_the_next_file_does_not_take_the_number_of_a_closed_stream(tmp_path):
    program = f"import os\nos.closerange(0, 3)\nos.execv({sys.executable!r}, {{}})".format
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "file")]
    done = start(program(words))
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "→"


def test_names_that_are_not_utf8_are_refused():
    terminal.check_names("run", "café →")
    with pytest.raises(UserError, match="must be UTF-8"):
        terminal.check_names("run", os.fsdecode(b"a\xff"))


def cli(*words, env="", **options):
    code = "from sycophancy.cli.main import main; main()"
    return start(code, *words, env=env, **options)


def test_the_command_prints_rows_and_paths_in_latin_1(tmp_path):
    words = ["prepare", "--model", "mini_base", "--recipe", "quick", "--show", "40"]
    out = tmp_path / "naïve →"
    done = cli(*words, "--out", str(out), env=ASCII, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"\\u2192" in done.stdout
    assert (out / "prepare" / "manifest.json").is_file()


def test_the_command_finishes_without_a_reader(tmp_path):
    readable, writable = os.pipe()
    os.close(readable)
    words = ["prepare", "--model", "mini_base", "--recipe", "quick", "--show", "2000"]
    with os.fdopen(writable, "w") as pipe:
        done = cli(*words, "--out", str(tmp_path / "run"), stdout=pipe, stderr=subprocess.PIPE)
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr
    assert done.returncode == 0
    assert (tmp_path / "run/prepare/manifest.json").is_file()


@pytest.mark.parametrize("option", ["--out", "--model", "--data-mirror"])
def test_the_command_refuses_paths_that_are_not_utf8(tmp_path, option):
    done = cli("prepare", option, os.fsdecode(b"a\xff"), cwd=tmp_path, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"must be UTF-8" in done.stderr
