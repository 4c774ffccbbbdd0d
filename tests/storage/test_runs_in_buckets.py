"""Whole runs in a bucket, in processes of their own that share nothing else, against local runs."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import compiled_programs
import few_sums
import numpy as np
import pyarrow.parquet as pq
import pytest

from sycophancy.model.checkpoints.formats import open_checkpoint

pytestmark = [pytest.mark.extras, pytest.mark.timeout(900)]

ADDRESS = "gs://runs/grid/micro"
# A stale lease expires soon, so that a killed run is continued without a long wait.
PROGRAM = f"""
from sycophancy.storage import lease
lease.SECONDS, lease.RENEWAL_SECONDS = 6.0, 1.5
{few_sums.PROGRAM}"""


@dataclasses.dataclass(frozen=True)
class Host:
    """A machine of its own: no other sees what lies in its home.

    Attributes:
      home: its folder.
      model: the model's gin file.
      server: the storage server; None for a machine whose runs are local.
    """

    home: Path
    model: Path
    server: Any = None

    @property
    def place(self) -> str:
        return ADDRESS if self.server else str(self.home / "micro")

    def start(self, command: str = "run", *words: str, **environment: str) -> subprocess.Popen:
        self.home.mkdir(exist_ok=True)
        return subprocess.Popen(
            [
                *(sys.executable, "-c", PROGRAM, command, "--model", str(self.model)),
                *("--recipe", str(self.model.with_name("micro_recipe.gin"))),
                *("--out", self.place, *words),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **compiled_programs.apart(self.home / "compiled"),
                "XLA_FLAGS": compiled_programs.WITHOUT_OPTIMISATION,
                "XDG_CACHE_HOME": str(self.home / "cache"),
                **environment,
            },
        )

    def finish(self, command: str = "run", *words: str) -> tuple[str, str]:
        with self.start(command, *words) as process:
            out, err = process.communicate()
        assert process.returncode == 0, err
        return out, err

    def refused(self, command: str, *words: str) -> str:
        with self.start(command, *words) as process:
            _, err = process.communicate()
        assert process.returncode == 2, err
        return err.splitlines()[-1]

    @property
    def folder(self) -> Path:
        """Where the run, or this host's copy of it, lies."""
        if self.server is None:
            return self.home / "micro"
        (copy,) = (self.home / "cache/sycophancy/runs").glob("micro-*")
        return copy


@pytest.fixture(scope="module")
def local(micro, tmp_path_factory) -> Path:
    """The folder of the same run on a disk."""
    host = Host(tmp_path_factory.mktemp("local"), micro())
    host.finish()
    return host.folder


@pytest.fixture
def host(micro, tmp_path, server) -> Host:
    return Host(tmp_path / "host", micro(), server)


def assert_equal(found: Path, expected: Path, *, exactly: bool = True) -> None:
    """The kept rows, metrics, journal and parameters of two runs."""
    kept = [pq.read_table(run / "filter/kept.parquet") for run in (found, expected)]
    assert kept[0].equals(kept[1])
    tolerance = {} if exactly else {"rtol": 1e-3, "atol": 1e-5}
    states = [open_checkpoint(run / "finetune/checkpoints") for run in (found, expected)]
    assert states[0].step == states[1].step
    for kind in ("params", "moments"):
        for path, array in getattr(states[1], kind).items():
            values = np.asarray(getattr(states[0], kind)[path])
            np.testing.assert_allclose(values, array, **(tolerance or {"rtol": 0}), err_msg=path)
    journals = [
        [json.loads(line) for line in (run / "finetune/metrics.jsonl").read_text().splitlines()]
        for run in (found, expected)
    ]
    assert [line["step"] for line in journals[0]] == [line["step"] for line in journals[1]]
    if exactly:
        timeless = [
            [{key: line[key] for key in line if "second" not in key} for line in lines]
            for lines in journals
        ]
        assert timeless[0] == timeless[1]


@pytest.mark.slow
def test_a_run_in_a_bucket_is_the_local_run(host, local, server):
    out, _ = host.finish()
    assert out.splitlines()[-1] == f"{ADDRESS}/report.html"
    assert_equal(host.folder, local)
    assert (host.folder / "metrics.json").read_text() == (local / "metrics.json").read_text()
    names = {name.removeprefix("grid/micro/") for name in server.names()}
    here = {str(path.relative_to(local)) for path in local.rglob("*") if path.is_file()}
    promised = {
        name for name in here if not re.search(r"(^|/)\.|tensorboard|/params/|/state/", name)
    }
    assert promised <= names
    assert not any(name.startswith(".") for name in names)  # nor a lease
    assert any(name.startswith("finetune/tensorboard/") for name in names)
    assert server.contents("grid/micro/metrics.json") == (local / "metrics.json").read_bytes()
    assert_manifests_come_last(server)

    before = dict.fromkeys(server.names())
    other = Host(host.home.with_name("other"), host.model, server)  # which has no copy
    _, err = other.finish()
    assert "done in" not in err
    assert err.count("up to date") == 6
    assert dict.fromkeys(server.names()) == before
    assert_equal(other.folder, local)


def assert_manifests_come_last(server) -> None:
    """While a stage's manifest is there, none of its outputs is written or removed."""
    visible: dict[str, list[str]] = {}
    seen = set()
    for kind, name in server.written:
        stage = name.split("/")[-2] if name.endswith("/manifest.json") else None
        if stage and kind == "write":
            manifest = json.loads(server.contents(name))
            visible[stage] = [f"grid/micro/{output}" for output in manifest["outputs"]]
            assert set(visible[stage]) <= seen, f"{name} was there before its outputs"
        elif stage:
            visible.pop(stage, None)
        else:
            assert not any(name in outputs for outputs in visible.values()), name
            seen.add(name)
    assert "finetune" in visible


@pytest.mark.slow
def test_a_killed_finetuning_is_continued_on_another_host(host, local, server):
    with host.start("finetune") as process:
        marker = "grid/micro/finetune/checkpoints/2/commit_success.txt"
        wait_for(lambda: marker in server.names(), process)
        process.kill()
        process.communicate()
    assert ".lease" in {name.rpartition("/")[2] for name in server.names()}
    shutil.rmtree(host.home)
    other = Host(host.home.with_name("other"), host.model, server)
    _, err = other.finish("finetune")
    assert "waiting for it to expire" in err
    assert "prepare: up to date" in err
    assert_equal(other.folder, local)
    assert_manifests_come_last(server)


@pytest.mark.slow
def test_two_processes_that_share_only_the_bucket(micro, tmp_path, local, server):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = [Host(tmp_path / f"host{index}", micro(), server) for index in range(2)]
    processes = [
        host.start(
            "finetune",
            *("--mesh", "data=1,fsdp=2"),
            SYCOPHANCY_COORDINATOR=f"127.0.0.1:{port}",
            SYCOPHANCY_NUM_PROCESSES="2",
            SYCOPHANCY_PROCESS_ID=str(index),
        )
        for index, host in enumerate(hosts)
    ]
    ended = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    shards = [name for name in server.names() if "/6/params/ocdbt.process_1/d/" in name]
    assert shards  # the second process has written its part itself
    for host in hosts:
        assert_equal(host.folder, local, exactly=False)
    assert_manifests_come_last(server)


def test_damaged_and_missing_objects_give_one_line(host, server):
    host.finish("filter")
    server.put("grid/micro/filter/kept.parquet", b"PAR1")
    server.drop("grid/micro/prepare/instructions.parquet")
    _, err = host.finish("filter")
    assert "prepare: again, because prepare/instructions.parquet is missing" in err
    assert "filter: again, because filter/kept.parquet is not as it was written" in err


def test_a_bucket_that_is_not_there_gives_one_line(host, server):
    with Host(host.home, host.model, server).start("prepare", "--out", "gs://gone/x") as process:
        _, err = process.communicate()
    assert process.returncode == 2
    # TensorStore says that there are no credentials for Google, which this server needs none of.
    (line,) = [line for line in err.splitlines() if "google_auth_provider" not in line]
    assert line.startswith("sycophancy: gs://gone/x cannot be ")


@pytest.mark.slow
def test_a_second_writer_is_refused_and_a_redone_finetuning_replaces_the_first(host, local, server):
    with host.start() as process:
        wait_for(lambda: "grid/micro/prepare/manifest.json" in server.names(), process)
        other = Host(host.home.with_name("other"), host.model, server)
        line = other.refused("run")
        assert (
            f"{ADDRESS} is being written by process {process.pid} on {os.uname().nodename}" in line
        )
        assert "whose lease expires at" in line
        process.send_signal(signal.SIGKILL)
        process.communicate()
    host.finish("finetune", "--set", "LEARNING_RATE=5e-3")
    line = host.refused("finetune")
    assert "LEARNING_RATE was 0.005 and is 0.001" in line
    host.finish("finetune", "--redo", "finetune")
    assert not any("set-aside" in name for name in server.names())
    assert_equal(host.folder, local)
    other.finish("finetune")
    assert_equal(other.folder, local)


def wait_for(happened, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 400
    while not happened():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
