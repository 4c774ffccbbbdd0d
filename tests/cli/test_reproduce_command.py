"""`sycophancy reproduce`: which runs it makes of the experiments; running them is the sweep's."""

import pytest

from sycophancy.study import sweep as grid


@pytest.fixture
def planned(monkeypatch, sycophancy, tmp_path):
    """The sweep that a command line would run."""

    def call(*words):
        found = []
        monkeypatch.setattr(
            grid, "run", lambda sweep, only, processes: found.append((sweep, only)) or {}
        )
        monkeypatch.setattr(grid, "report", lambda folder: folder / "report.html")
        done = sycophancy("reproduce", "--out", tmp_path / "sweep", *words)
        assert done.code == 0, done.err
        assert done.out.splitlines()[-1] == str(tmp_path / "sweep/report.html")
        return found[0]

    return call


def test_models_before_instruction_tuning_are_only_asked(planned):
    sweep, only = planned()
    assert only is None
    alone = [cell for cell in sweep.cells if cell.config.model.name.endswith("_pretrained")]
    assert {cell.config.model.name for cell in alone} == {
        f"mini_{size}_pretrained" for size in ("small", "base", "large")
    }
    for cell in sweep.cells:
        assert (cell.stages == ("evaluate_before",)) == (cell in alone)
        assert (cell.recipe == "evaluate_only") == (cell in alone)
    assert len({cell.folder for cell in sweep.cells}) == len(sweep.cells)


def test_only_the_run_that_keeps_checkpoints_is_asked_at_them(planned):
    sweep, _ = planned()
    (steps,) = [cell for cell in sweep.cells if cell.at]
    training = steps.config.training
    assert max(steps.at) == training.finetune_steps
    assert all(step % training.save_period == step % training.keep_period == 0 for step in steps.at)


def test_the_first_seed_comes_first_and_settings_reach_every_cell(planned):
    sweep, only = planned("--seeds", 2, "--set", "BATCH_SIZE=8", "--cell", 3)
    assert only == 3
    seeds = [cell.config.training.seed for cell in sweep.cells]
    assert seeds == sorted(seeds) == [0] * 18 + [1] * 18
    assert all(cell.config.training.batch_size == 8 for cell in sweep.cells)
    assert "--cell" not in sweep.command


def test_the_plan_says_who_reads_which_cell(sycophancy):
    done = sycophancy("reproduce", "--plan")
    assert len(done.out.splitlines()) == 18
    assert "mini_base ablations/steps seed 0: a6" in done.out


def test_an_unknown_family_is_one_line(sycophancy):
    done = sycophancy("reproduce", "--family", "maxi", "--plan")
    assert done.code == 2
    assert done.err == "sycophancy: no family 'maxi'; there are mini, flan_t5\n"
