"""A sweep in a bucket, whose cells are run on hosts that share nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import few_sums
import numpy as np
import pytest
import toy_stages
from several_processes import starting
from toy_stages import Toys

from sycophancy.storage import lease
from sycophancy.storage.working_copy import WorkingCopy
from sycophancy.study import place

pytestmark = pytest.mark.extras

ADDRESS = "gs://runs/sweeps/grid"
RECIPES = "demo,ablations/no_filtration"


@pytest.fixture
def toys(monkeypatch) -> Toys:
    return toy_stages.install(monkeypatch)


@pytest.fixture
def on_host(sycophancy, server, tmp_path, monkeypatch):
    """The command on a host with a cache of its own; two cells of each of two seeds."""

    def call(host: str, *words: object, out: str = ADDRESS):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / host))
        grid = ("--models", "mini_base", "--recipes", RECIPES, "--seeds", 2)
        return sycophancy("sweep", *grid, "--out", out, *words)

    return call


@pytest.fixture
def copy_of(tmp_path):
    """A host's working copy."""

    def find(host: str) -> Path:
        (folder,) = (tmp_path / host / "sycophancy/runs").glob("grid-*")
        return folder

    return find


def states(server) -> list[str]:
    index = json.loads(server.contents("sweeps/grid/sweep.json"))
    assert (index["format"], index["name"]) == (1, "grid")
    return [cell["state"] for cell in index["cells"]]


def timeless(text: bytes) -> list[dict]:
    cells = json.loads(text)["cells"]
    return [{key: cell[key] for key in cell if key != "seconds"} for cell in cells]


def test_hosts_share_stages_and_the_record_through_the_bucket(
    toys, on_host, copy_of, server, tmp_path
):
    for number in range(4):
        done = on_host(f"host{number}", "--cell", number)
        assert done.code == 0, done.err
        assert done.out == f"{ADDRESS}/report.html\n"
        assert states(server) == ["done"] * (number + 1) + ["waiting"] * (3 - number)
    assert [seed for _, _, seed in toys.did("prepare")] == [0, 1]
    assert [seed for _, _, seed in toys.did("evaluate_before")] == [0, 1]
    assert len(toys.did("finetune")) == 4

    local = on_host("local", out=str(tmp_path / "grid"))
    assert local.code == 0, local.err
    assert timeless(server.contents("sweeps/grid/sweep.json")) == timeless(
        (tmp_path / "grid/sweep.json").read_bytes()
    )
    there = {name.removeprefix("sweeps/grid/") for name in server.names()}
    here = {str(path.relative_to(tmp_path / "grid")) for path in (tmp_path / "grid").rglob("*")}
    visible = {
        name
        for name in here
        if (tmp_path / "grid" / name).is_file()
        and not any(part.startswith(".") for part in Path(name).parts)
    }
    assert there == visible
    last = copy_of("host3")
    claims = server.contents("sweeps/grid/claims.csv").decode()
    expected = (tmp_path / "grid/claims.csv").read_text()
    assert claims.replace(str(last), str(tmp_path / "grid")) == expected
    # A cell's checkpoints stay where they were made, and everything else comes along.
    assert (last / "mini_base/demo/seed1/finetune/manifest.json").exists()
    assert not (last / "mini_base/demo/seed1/finetune/checkpoints").exists()
    own = last / "mini_base/ablations-no_filtration/seed1/finetune/checkpoints"
    assert own.exists()


def test_any_host_continues_a_sweep_and_the_checkpoints_come_along(toys, on_host, copy_of, server):
    assert on_host("one").code == 0
    before, worked = server.contents("sweeps/grid/sweep.json"), len(toys.worked)
    again = on_host("two")
    assert again.code == 0, again.err
    assert "done in" not in again.err
    assert len(toys.worked) == worked
    assert server.contents("sweeps/grid/sweep.json") == before
    kept = copy_of("two").glob("mini_base/*/seed*/finetune/checkpoints/*/params/data")
    assert len(list(kept)) == 4


def test_a_cell_that_another_host_runs_is_left_to_it(toys, on_host, server, tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.2)
    monkeypatch.setattr(lease, "SECONDS", 5.0)
    cell = WorkingCopy(f"{ADDRESS}/mini_base/demo/seed0", folder=tmp_path / "elsewhere")
    with cell.owned(print):
        outcome = on_host("one")
    assert outcome.code == 1
    assert "mini_base/demo/seed0 is being written by process" in outcome.err.splitlines()[-1]
    assert states(server) == ["waiting", "done", "done", "done"]
    assert on_host("two").code == 0
    assert states(server) == ["done"] * 4


def test_an_entry_that_another_host_writes_meanwhile_is_not_lost(
    toys, on_host, server, monkeypatch
):
    """Another host completes a cell whenever this one has read the cells, three times."""
    assert on_host("one", "--cell", 0).code == 0
    fetch, met = place.SweepPlace.fetch, []

    def fetch_and_be_late(self, cells):
        fetch(self, cells)
        if len(met) < 3:
            met.append("a write")
            index = json.loads(server.contents("sweeps/grid/sweep.json"))
            server.put("sweeps/grid/sweep.json", json.dumps(index | {"n": len(met)}).encode())

    monkeypatch.setattr(place.SweepPlace, "fetch", fetch_and_be_late)
    assert on_host("two", "--cell", 2).code == 0
    assert len(met) == 3
    index = json.loads(server.contents("sweeps/grid/sweep.json"))
    assert "n" not in index
    assert states(server) == ["done", "waiting", "done", "waiting"]


def test_two_cells_on_one_host_do_not_disturb_each_other(toys, on_host, copy_of, server):
    """While one process runs a cell, another looks at all cells in the same working copy."""
    work, unpublished = toys.work, []

    def work_beside(name):
        do = work(name)

        def beside(loaded, run, out, meter):
            found = do(loaded, run, out, meter)
            if name == "finetune" and not unpublished:
                unpublished.append(run.path / "later.txt")
                unpublished[0].write_text("not yet in the bucket")
                folder = copy_of("one")
                place.SweepPlace(ADDRESS).fetch([run.path, folder / "mini_base/demo/seed1"])
                assert unpublished[0].exists()
            return found

        return beside

    toys.work = work_beside
    assert on_host("one", "--cell", 0).code == 0
    assert unpublished


def test_an_address_without_a_folder_is_one_line(on_host):
    outcome = on_host("one", out="gs://runs")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "expected gs://BUCKET/FOLDER" in outcome.err


@pytest.mark.slow
def test_real_runs_have_the_results_of_a_local_sweep(
    micro, sycophancy, server, tmp_path, monkeypatch
):
    """Each of two hosts trains one seed, and evaluates a checkpoint that was kept on the way."""
    few_sums.ask(monkeypatch)
    model = micro()
    recipe = model.with_name("micro_recipe.gin")
    grid = ("--models", model, "--recipes", recipe, "--seeds", 2, "--at", "2,6")

    def sweep(host: str, out: object, *words: object) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / host))
        done = sycophancy("sweep", *grid, "--set", "KEEP_PERIOD=2", "--out", out, *words)
        assert done.code == 0, done.err

    for number in range(2):
        sweep(f"host{number}", ADDRESS, "--cell", number)
    sweep("local", tmp_path / "grid")
    index = json.loads(server.contents("sweeps/grid/sweep.json"))
    expected = json.loads((tmp_path / "grid/sweep.json").read_text())
    for cell, other in zip(index["cells"], expected["cells"], strict=True):
        assert cell["state"] == other["state"] == "done"
        folders = [(cell["folder"], other["folder"])]
        folders += [(cell["steps"][step], other["steps"][step]) for step in ("2", "6")]
        for there, here in folders:
            found = server.contents(f"sweeps/grid/{there}/metrics.json")
            assert found == (tmp_path / "grid" / here / "metrics.json").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_that_run_each_cell_together(
    micro, sycophancy, server, tmp_path, monkeypatch
):
    """They share the bucket alone: each has a working copy of its own."""
    few_sums.ask(monkeypatch)
    model = micro()
    recipe = model.with_name("micro_recipe.gin")
    grid = ("sweep", "--models", model, "--recipes", recipe, "--seeds", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "hosts"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # the server is asked without one, too
    with starting(few_sums.PROGRAM) as start:
        mesh = ("--set", "MESH=(1, 2, 1)")
        ended = start(*grid, *mesh, "--out", ADDRESS, processes=2, devices=1).ended()
    assert [process.code for process in ended] == [0, 0], [process.err for process in ended]
    assert ended[0].out.splitlines()[-1] == f"{ADDRESS}/report.html"
    assert states(server) == ["done"] * 2
    local = sycophancy(*grid, "--out", tmp_path / "grid")
    assert local.code == 0, local.err
    for seed in range(2):
        cell = f"micro/micro_recipe/seed{seed}"
        found = json.loads(server.contents(f"sweeps/grid/{cell}/metrics.json"))
        expected = json.loads((tmp_path / "grid" / cell / "metrics.json").read_text())
        for when in ("before", "after"):
            assert found[when].keys() == expected[when].keys()
            for name, measure in expected[when].items():
                np.testing.assert_allclose(
                    found[when][name]["value"], measure["value"], atol=0.02, err_msg=name
                )
