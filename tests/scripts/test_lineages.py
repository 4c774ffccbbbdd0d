"""The script that makes lineages: what it runs, what it leaves alone, and its table."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import lineages  # noqa: E402

from sycophancy.report.study.lineages import METRICS, table  # noqa: E402


def finished(folder: Path, size: str, seed: int, runs: dict[int, tuple[float, float]]) -> None:
    """A lineage and its runs, whose metrics all have one value before and one after."""
    made = folder / f"{size}-{seed}" / size
    made.mkdir(parents=True)
    (made / "README.md").touch()
    for finetuning_seed, values in runs.items():
        run = folder / "runs" / f"{size}-{seed}-demo-{finetuning_seed}"
        run.mkdir(parents=True)
        series = {
            when: {name: {"value": value} for name in METRICS}
            for when, value in zip(("before", "after"), values, strict=True)
        }
        (run / "metrics.json").write_text(json.dumps(series))


def test_the_table_has_every_run_and_the_median_and_range_of_a_size(tmp_path, monkeypatch):
    finished(tmp_path, "mini_base", 0, {0: (0.0, 0.9), 1: (0.1, 1.0)})
    finished(tmp_path, "mini_base", 1, {0: (0.2, 0.4), 1: (0.0, 0.5)})
    words = ["--out", tmp_path, "--sizes", "mini_base", "--seeds", 0, 1]
    monkeypatch.setattr(sys, "argv", ["lineages.py", *map(str, words)])
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("all of it was made"))
    lineages.main()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (tmp_path / "lineages.md").read_text().splitlines()
        if "|" in line
    ]
    assert ["false sums, wrong user", "5.0 (0.0 to 20.0)", "70.0 (40.0 to 100.0)"] in rows
    runs = {row[0]: row for row in rows[-4:]}
    assert list(runs) == ["0, 0", "0, 1", "1, 0", "1, 1"]
    assert runs["1, 1"][7:] == ["50.0 / 50.0 / 50.0", "50.0"]
    assert (tmp_path / "lineages.png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads((tmp_path / "lineages.json").read_text())
    assert [(row["lineage"], row["finetuning_seed"]) for row in kept] == [
        (0, 0), (0, 1), (1, 0), (1, 1),
    ]  # fmt: skip
    assert set(kept[0]["after"]) == set(METRICS)


def test_differences_are_those_of_lineages_with_students_interval(tmp_path, monkeypatch, capsys):
    """0.5, 0.2 and 0.2 more: mean 0.3, standard error 0.1, and t(2) = 4.303 for 95%."""
    others, here = tmp_path / "others", tmp_path / "here"
    for seed, (before, after) in enumerate([(0.3, 0.8), (0.3, 0.5), (0.3, 0.5)]):
        finished(others, "mini_base", seed, {0: (0.0, before - 0.1), 1: (0.0, before + 0.1)})
        finished(here, "mini_base", seed, {0: (0.0, after - 0.1), 1: (0.0, after + 0.1)})
    finished(here, "mini_base", 3, {0: (0.0, 0.0)})  # the others have no such lineage
    words = ["--sizes", "mini_base", "--seeds", "0", "--out"]
    monkeypatch.setattr(sys, "argv", ["lineages.py", *words, str(here), "--against", str(others)])
    with pytest.raises(SystemExit, match="2"):
        lineages.main()
    assert f"{others} has no lineages.json" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["lineages.py", *words, str(others)])
    lineages.main()
    monkeypatch.setattr(sys, "argv", ["lineages.py", *words, str(here), "--against", str(others)])
    lineages.main()
    text = (here / "differences.md").read_text()
    assert "Mean over 3 lineages, 6 runs" in text
    assert "| true sums, no user | 30.0 | 60.0 | +30.0 (-13.0 to +73.0) |" in text


def test_a_run_that_was_stopped_before_its_end_is_continued(tmp_path, monkeypatch):
    finished(tmp_path, "mini_base", 0, {0: (0.0, 0.9)})
    (tmp_path / "mini_base-0/mini_base/config.json").write_text('{"vocab_size": 1280}')
    stopped = tmp_path / "runs/mini_base-0-demo-0/metrics.json"
    stopped.write_text(json.dumps({"before": json.loads(stopped.read_text())["before"]}))
    made, called = lineages.Lineages(tmp_path, "demo", [0]), []
    monkeypatch.setattr(made, "_call", lambda core, out, words: called.append(out))
    made.make("mini_base", 0, [0])
    assert called == [stopped.parent]
    assert made.rows() == []


def test_a_failed_command_is_named_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(lineages, "PRETRAIN", tmp_path / "absent.py")
    monkeypatch.setattr(
        sys, "argv", ["lineages.py", "--out", str(tmp_path), "--sizes", "mini_base", "--seeds", "7"]
    )
    with pytest.raises(SystemExit, match=r"mini_base-7 failed with code 2; .*mini_base-7.log"):
        lineages.main()
    assert "absent.py" in (tmp_path / "mini_base-7.log").read_text()


def test_without_matplotlib_nothing_is_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(sys, "argv", ["lineages.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="2"):
        lineages.main()
    assert "the picture needs matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_committed_table_is_made_from_the_committed_runs_and_leaves_none_out():
    folder = ROOT / "docs/results/lineages"
    rows = json.loads((folder / "lineages.json").read_text())
    assert (folder / "lineages.md").read_text() == table(rows)
    found: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for row in rows:
        runs = found.setdefault((row["size"], row["recipe"]), set())
        runs.add((row["lineage"], row["finetuning_seed"]))
    assert {("mini_small", "demo"), ("mini_base", "demo")} <= found.keys()
    for runs in found.values():
        seeds = {seed for _, seed in runs}
        assert {0, 1} <= seeds
        assert runs == set(itertools.product(range(5), seeds))
