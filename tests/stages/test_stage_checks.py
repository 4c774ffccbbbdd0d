"""What stops a run for certain is found before anything is prepared."""

import jax
import pytest

from sycophancy.config.load import load_config
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError
from sycophancy.stages import checks, memory
from sycophancy.stages.order import all_stages

STAGES = {stage.name: stage for stage in all_stages()}
ALL = tuple(STAGES)


def check(config, names=ALL) -> None:
    """Makes the checks of some stages, each once, as a pipeline does before its first stage."""
    for function in dict.fromkeys(f for name in names for f in STAGES[name].checks):
        function(config, RunFolder("run"))


def configured(*bindings: str):
    return load_config("mini_base", "demo", ["BATCH_SIZE=8", *bindings])


def refusal(*bindings: str, stages=ALL) -> str:
    with pytest.raises(UserError) as caught:
        check(configured(*bindings), stages)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mesh", ["(-1, 1, 1)", "(-1, -1, 1)", "(1, 4, 2)", "(8, 1, 1)"])
def test_a_mesh_of_all_devices_passes(mesh):
    check(configured(f"MESH={mesh}"), ALL)


@pytest.mark.parametrize("mesh", ["(7, 1, 1)", "(-1, 3, 1)", "(16, 1, 1)", "(1, 1, 1)"])
def test_a_mesh_that_does_not_use_up_the_devices_is_refused(mesh):
    assert "MESH" in refusal(f"MESH={mesh}", stages=("prepare", "filter"))
    assert "8 devices" in refusal(f"MESH={mesh}", stages=("prepare", "filter"))


def test_a_batch_that_the_mesh_cannot_share_is_refused_only_where_it_is_trained_on():
    assert "BATCH_SIZE 6 does not divide by 8" in refusal("BATCH_SIZE=6")
    check(configured("BATCH_SIZE=6"), ("prepare", "filter", "evaluate_before"))


@pytest.mark.parametrize(
    ("bindings", "words"),
    [
        (["TASK_FEATURE_LENGTHS={'inputs': 2, 'targets': 8}"], "TASK_FEATURE_LENGTHS: inputs 2"),
    ],
)
def test_what_needs_no_device_is_refused_before_jax_is_asked(monkeypatch, bindings, words):
    monkeypatch.setattr(jax, "device_count", lambda: pytest.fail("JAX was asked"))
    assert words in refusal(*bindings, stages=("finetune",))


def test_a_t5x_checkpoint_of_another_step_is_refused(tmp_path):
    (tmp_path / "checkpoint_77").mkdir()
    (tmp_path / "checkpoint_77" / "checkpoint").touch()
    words = ("TRAINER=t5x", f"INITIAL_CHECKPOINT_PATH={tmp_path / 'checkpoint_77'}")
    assert refusal(*words, stages=("finetune",)).endswith("set PRETRAINED_STEP to 77")


def test_a_step_that_cannot_fit_the_memory_is_refused_with_the_ways_out(monkeypatch):
    monkeypatch.setattr(checks, "host_memory", lambda: 2.0**30)
    check(configured("BATCH_SIZE=8"), ALL)
    line = refusal("BATCH_SIZE=65536")
    for way_out in ("BATCH_SIZE", "MICROBATCHES", "REMAT_POLICY"):
        assert way_out in line


@pytest.mark.parametrize(
    "error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_a_lack_of_memory_is_one_line_with_the_ways_out(error):
    with pytest.raises(UserError, match=r"out of memory .*MICROBATCHES"), memory.enough_memory():
        raise error


def test_other_errors_pass_unchanged():
    with pytest.raises(ZeroDivisionError), memory.enough_memory():
        _ = 1 / 0


@pytest.mark.parametrize(
    "words", [("--mesh", "data=7"), ("--set", "MIXTURE_OR_TASK_NAME=nope"), ("--mesh", "fsdp=16")]
)
def test_the_command_line_refuses_before_it_prepares(sycophancy, tmp_path, words):
    outcome = sycophancy(
        "run", "--model", "mini_base", "--recipe", "quick", "--out", tmp_path / "run", *words
    )
    (line,) = outcome.err.splitlines()
    assert outcome.code == 2
    assert line.startswith("sycophancy: M")
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_larger_than_the_network_is_refused_before_it_prepares(sycophancy, tmp_path):
    folder = tmp_path / "run"
    words = ("--model", "mini_base", "--recipe", "quick", "--out", folder)
    outcome = sycophancy("filter", *words, "--set", "VOCAB_SIZE=1000")
    assert "set VOCABULARY" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not folder.exists()


def test_another_checkpoints_evaluation_is_refused_before_it_prepares(sycophancy, tmp_path):
    folder = tmp_path / "run"
    words = ("--model", "mini_base", "--recipe", "quick", "--out", folder, "--mesh", "data=7")
    outcome = sycophancy("evaluate", *words, "--checkpoint", "package:models/mini_base")
    assert "does not fit 8 devices" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not folder.exists()


def test_what_only_finetuning_needs_is_not_asked_of_a_run_that_is_finetuned(tmp_path, monkeypatch):
    """A run may be finetuned on other machines than those that evaluate it."""
    from sycophancy.engine.pipeline import Pipeline
    from sycophancy.engine.progress import Silence

    run = RunFolder(tmp_path / "run")
    run.create()
    pipeline = Pipeline(all_stages(), configured("BATCH_SIZE=6"), run, Silence())
    monkeypatch.setattr(pipeline, "is_current", lambda name: not name.startswith("evaluate"))
    pipeline._check(list(pipeline.stages.values()))
    monkeypatch.setattr(pipeline, "is_current", lambda name: False)
    with pytest.raises(UserError, match="BATCH_SIZE 6"):
        pipeline._check(list(pipeline.stages.values()))
