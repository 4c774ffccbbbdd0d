"""The compile cache: its place, the user's choices, and repair of damage."""

import os
import shutil
import subprocess
import sys

import pytest

from sycophancy.system import compile_cache

PROGRAM = """
import os
from sycophancy.system import compile_cache
compile_cache.mend_when_damaged(compile_cache.keep())
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
import jax
for power in range(2, 8):
    def program(x): return x ** power + 1
    program.__name__ = f"program_{power}"
    assert jax.jit(program)(2.0) == 2 ** power + 1
"""
FOLDER = "sycophancy/compiled/*/"


def run_programs(home, **settings):
    """The standard error of six programs, each in a new process that imports JAX."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JAX_")},
        "XDG_CACHE_HOME": str(home),
        "JAX_PLATFORMS": "cpu",
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


def entries(home):
    """Names of the programs in the cache, and whether each has both of its files."""
    halves = [path.name.rpartition("-") for path in home.glob(f"{FOLDER}*program_*-*")]
    names = [name for name, _, half in halves if half in ("cache", "atime")]
    return {name[: name.index("program_") + 9]: names.count(name) == 2 for name in names}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    home = tmp_path_factory.mktemp("filled") / "cache"
    assert run_programs(home) == []
    assert len(entries(home)) == 6 and all(entries(home).values())
    shutil.copytree(home, home.with_name("copy"))
    return home


@pytest.fixture
def home(filled):
    """An intact cache, always at the same path, because JAX makes the path part of entry names."""
    if filled.is_dir():
        shutil.rmtree(filled)
    filled.unlink(missing_ok=True)
    shutil.copytree(filled.with_name("copy"), filled)
    return filled


def half(home, power, name):
    (path,) = home.glob(f"{FOLDER}*program_{power}-*-{name}")
    return path


def test_variables_that_the_user_set_stay():
    chosen = {"JAX_COMPILATION_CACHE_DIR": "", "JAX_COMPILATION_CACHE_MAX_SIZE": "7"}
    environment = dict(chosen)
    assert compile_cache.keep(environment) is None
    assert chosen.items() <= environment.items()


def test_a_folder_that_the_user_chose_is_neither_limited_nor_cleaned(tmp_path):
    """Other programs may use that folder without a limit, and then write no times."""
    (tmp_path / "other-cache").write_bytes(b"x")
    environment = {compile_cache.FOLDER: str(tmp_path)}
    assert compile_cache.keep(environment) is None
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in environment
    assert (tmp_path / "other-cache").exists()


def test_damage_is_repaired_with_at_most_one_line(home):
    """Incomplete entries, an empty file and a folder go at the start, damaged bytes at reading."""
    half(home, 2, "atime").unlink()
    half(home, 3, "cache").unlink()
    half(home, 4, "cache").write_bytes(b"")
    place = half(home, 5, "cache")
    place.unlink()
    place.mkdir()
    (place / "something").write_text("of the user's")
    whole = half(home, 6, "cache").read_bytes()
    half(home, 6, "cache").write_bytes(whole[: len(whole) // 2])
    whole = bytearray(half(home, 7, "cache").read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    half(home, 7, "cache").write_bytes(whole)

    lines = run_programs(home)
    assert len(lines) == 1
    assert lines[0].startswith("note: a damaged program was removed from the compile cache")
    assert len(entries(home)) == 6 and all(entries(home).values())
    assert next(home.glob(f"{FOLDER}*.aside/something")).read_text() == "of the user's"
    assert run_programs(home) == []


@pytest.mark.parametrize("damage", ["lock", "file"])
def test_a_run_continues_without_a_usable_cache_folder(home, damage):
    (folder,) = home.glob(FOLDER)
    if damage == "lock":
        (folder / ".lockfile").unlink()
        (folder / ".lockfile").mkdir()
        assert run_programs(home) == []
        assert (folder / ".lockfile").is_file()
    else:
        shutil.rmtree(home)
        home.write_text("no folder")
        assert run_programs(home) == []
        assert home.read_text() == "no folder"


def test_a_folder_that_cannot_be_created_is_reported_once(tmp_path):
    lines = run_programs("/proc/none")
    assert len(lines) == 1
    assert lines[0].startswith("note: the compile cache fails (")


@pytest.mark.parametrize("limit", ["-1", str(2**20)])
def test_programs_kept_without_a_limit_are_not_incomplete_entries(home, limit):
    for path in home.glob(f"{FOLDER}*-atime"):
        path.unlink()
    compile_cache.keep({"XDG_CACHE_HOME": str(home), "JAX_COMPILATION_CACHE_MAX_SIZE": limit})
    assert len(list(home.glob(f"{FOLDER}*program_*-cache"))) == (6 if limit == "-1" else 0)


@pytest.mark.parametrize(
    "value", ["relative", "/dev/null", "/dev/null/deeper", "s3://bucket", os.fsdecode(b"/tmp/\xff")]
)
def test_unusable_cache_homes_switch_the_cache_off(value, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null")
    environment = {"XDG_CACHE_HOME": value}
    assert compile_cache.keep(environment) is None
    assert compile_cache.FOLDER not in environment


def test_a_missing_home_switches_the_cache_off(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("none")))
    assert compile_cache.keep({}) is None


def test_an_entry_that_another_process_writes_is_not_removed(home):
    import filelock

    half(home, 2, "atime").unlink()
    (folder,) = home.glob(FOLDER)
    with filelock.FileLock(folder / ".lockfile"):
        done = subprocess.run(
            [sys.executable, "-c", "from pathlib import Path\n"
             "from sycophancy.system import compile_cache\n"
             f"print(compile_cache.clean(Path({str(folder)!r})))"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert done.stdout.strip() == "0"
    assert half(home, 2, "cache").exists()
    assert compile_cache.clean(folder) == 1
