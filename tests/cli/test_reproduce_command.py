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


def test_a_seed_uses_the_checkpoints_of_its_lineage(planned, tmp_path):
    for size in ("small", "base", "large"):
        for seed in (0, 1):
            for model in (f"mini_{size}", f"mini_{size}_pretrained"):
                folder = tmp_path / "made" / f"mini_{size}-{seed}" / model
                folder.mkdir(parents=True)
                (folder / "config.json").write_text('{"vocab_size": 1280}')
    plan, _ = planned("--seeds", 2, "--lineages", tmp_path / "made")
    for job in plan.jobs:
        model, seed = job.config.model, job.config.training.seed
        size = model.name.removesuffix("_pretrained")
        assert model.checkpoint == str(tmp_path / "made" / f"{size}-{seed}" / model.name)
        assert model.vocabulary == f"{model.checkpoint}/spiece.model"
        assert model.network.vocab_size == 1280


def test_a_lineage_that_is_not_there_is_named_with_the_way_to_make_it(sycophancy, tmp_path):
    done = sycophancy("reproduce", "--lineages", tmp_path, "--out", tmp_path / "sweep")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert f"{tmp_path}/mini_small-0/mini_small/config.json" in done.err
    assert "scripts/lineages.py" in done.err
    assert not (tmp_path / "sweep").exists()


def test_lineages_of_another_family_are_refused(sycophancy, tmp_path):
    done = sycophancy("reproduce", "--family", "flan_t5", "--lineages", tmp_path)
    assert done.code == 2
    assert done.err == "sycophancy: --lineages is of the family mini, and --family is 'flan_t5'\n"
