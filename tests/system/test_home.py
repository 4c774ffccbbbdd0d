"""A machine without a home folder, without a passwd entry or without a TMPDIR."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sycophancy.system import home

NAMELESS = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
MAIN = [sys.executable, "-c", "from sycophancy.cli.main import main; main()"]


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_writable_home_stays(tmp_path):
    environment = {"HOME": str(tmp_path), "TMPDIR": tempfile.gettempdir(), "USER": "me"}
    before = dict(environment)
    home.provide(environment)
    assert {name: environment[name] for name in before} == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "a file", "not writable", "unknown"])
def test_a_substitute_home_is_the_same_at_the_next_start(temporary, monkeypatch, kind):
    given = temporary / "given"
    environment = {"HOME": str(given)}
    if kind == "a file":
        given.touch()
    elif kind == "not writable":
        environment["HOME"] = "/proc"
    elif kind == "unknown":
        del environment["HOME"]
        monkeypatch.setattr(Path, "home", _raise)
    home.provide(environment)
    expected = temporary / f"sycophancy-{os.getuid()}"
    assert environment["HOME"] == str(expected)
    assert stat.S_IMODE(expected.stat().st_mode) == 0o700
    again = {"HOME": str(given)}
    home.provide(again)
    assert again["HOME"] == environment["HOME"] or kind in ("not writable", "unknown")


def _raise():
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("kind", ["link", "open to others", "file"])
def test_a_folder_that_others_may_have_put_there_is_not_used(temporary, kind):
    planted = temporary / f"sycophancy-{os.getuid()}"
    if kind == "link":
        (temporary / "theirs").mkdir()
        planted.symlink_to(temporary / "theirs")
    elif kind == "file":
        planted.touch()
    else:
        planted.mkdir()
        planted.chmod(0o777)
    environment = {"HOME": str(temporary / "missing")}
    home.provide(environment)
    assert environment["HOME"].startswith(str(planted.with_name("sycophancy-")))
    assert Path(environment["HOME"]) != planted
    assert Path(environment["HOME"]).is_dir()


def test_an_unwritable_tmpdir_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    environment = {"HOME": str(tmp_path), "TMPDIR": "/proc/nowhere"}
    monkeypatch.setenv("TMPDIR", environment["TMPDIR"])
    home.provide(environment)
    assert environment["TMPDIR"] == tempfile.gettempdir() != "/proc/nowhere"


def start_nameless(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    if (
        shutil.which("unshare") is None
        or subprocess.run([*NAMELESS, "true"], check=False).returncode
    ):
        pytest.skip("this machine makes no user namespaces")
    left_out = ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.run(
        [*NAMELESS, *MAIN, *words], env=environment | more, capture_output=True, text=True
    )


def test_commands_work_without_a_home_and_a_user_name(tmp_path):
    version = start_nameless("--version", TMPDIR=str(tmp_path))
    assert (version.returncode, version.stderr) == (0, "")
    assert start_nameless("--help", TMPDIR=str(tmp_path)).returncode == 0


@pytest.mark.parametrize(
    ("command", "made"),
    [
        ("prepare", "prepare/summary.json"),
        pytest.param("filter", "filter/kept.parquet", marks=pytest.mark.slow),
        pytest.param("run", "report.html", marks=pytest.mark.faults),
    ],
)
def test_a_run_works_without_a_home_and_a_user_name(micro, tmp_path, command, made):
    model = micro()
    recipe = model.with_name("micro_recipe.gin")
    words = ["--model", str(model), "--recipe", str(recipe), "--out", str(tmp_path / "run")]
    (tmp_path / "temporary").mkdir()
    done = start_nameless(command, *words, TMPDIR=str(tmp_path / "temporary"))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert (tmp_path / "run" / made).exists()
