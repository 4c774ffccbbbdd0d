"""`sycophancy reproduce` plans the right runs for the experiments; `sweep` runs them."""

import pytest

from sycophancy.report.study import page
from sycophancy.study import sweep


@pytest.fixture
def planned(monkeypatch, sycophancy, tmp_path):
    """The sweep that a command line would run."""

    def call(*words):
        calls = []
        monkeypatch.setattr(
            sweep, "run", lambda plan, only, processes: calls.append((plan, only)) or {}
        )
        monkeypatch.setattr(page, "write_report", lambda folder: folder / "report.html")
        done = sycophancy("reproduce", "--out", tmp_path / "sweep", *words)
        assert done.code == 0, done.err
        assert done.out.splitlines()[-1] == str(tmp_path / "sweep/report.html")
        return calls[0]

    return call


def test_models_before_instruction_tuning_are_only_evaluated(planned):
    plan, only = planned()
    assert only is None
    alone = [job for job in plan.jobs if job.config.model.name.endswith("_pretrained")]
    assert {job.config.model.name for job in alone} == {
        f"mini_{size}_pretrained" for size in ("small", "base", "large")
    }
    for job in plan.jobs:
        assert (job.stages == ("evaluate_before",)) == (job in alone)
        assert (job.cell.recipe == "evaluate_only") == (job in alone)
    assert len({job.cell.folder for job in plan.jobs}) == len(plan.jobs)


def test_only_the_run_that_keeps_checkpoints_is_evaluated_at_them(planned):
    plan, _ = planned()
    (steps,) = [job for job in plan.jobs if job.at]
    training = steps.config.training
    assert max(steps.at) == training.finetune_steps
    assert all(step % training.save_period == step % training.keep_period == 0 for step in steps.at)


def test_the_first_seed_comes_first_and_settings_reach_every_cell(planned):
    plan, only = planned("--seeds", 2, "--set", "BATCH_SIZE=8", "--cell", 3)
    assert only == 3
    seeds = [job.config.training.seed for job in plan.jobs]
    assert seeds == sorted(seeds) == [0] * 19 + [1] * 19
    assert all(job.config.training.batch_size == 8 for job in plan.jobs)
    assert "--cell" not in plan.command


def test_the_plan_lists_which_experiment_reads_which_cell(sycophancy):
    done = sycophancy("reproduce", "--plan")
    assert len(done.out.splitlines()) == 19
    assert "mini_base ablations/steps seed 0: a6" in done.out


def test_an_unknown_family_is_refused_in_one_line(sycophancy):
    done = sycophancy("reproduce", "--family", "maxi", "--plan")
    assert done.code == 2
    assert done.err == "sycophancy: no family 'maxi'; there are mini, flan_t5\n"
