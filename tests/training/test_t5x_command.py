"""What `finetune --trainer t5x` does before T5X: its macros, its command, its failures."""

import dataclasses
import os
import re
import signal
import subprocess
import sys

import gin
import pytest

from sycophancy.config import macros
from sycophancy.config.load import load_config, load_operative, macro_types
from sycophancy.errors import UserError
from sycophancy.training.preemption import Preempted
from sycophancy.training.t5x import command as t5x_command
from sycophancy.training.t5x import recipe, requirements

# Settings that T5X's trainer does not use, and why.
UNUSED = {
    "MODEL_NAME": "a name for people",
    "RECIPE": "a name for people",
    "TRAINER": "says that it is T5X",
    "REMAT_POLICY": "T5X's network keeps every activation",
    **dict.fromkeys(("FILTRATION", "FILTER_BALANCE"), "a stage before training"),
    "SAVE_MINUTES": "T5X saves by steps alone",
    "KEEP_PERIOD": "T5X keeps the latest alone",
    **dict.fromkeys(
        """DATA_ORIGIN DATA_MIRROR SURVEYS INSTRUCTIONS DATA_SETS DATA_SET_FILES EVALUATIONS
        NUM_EXAMPLES NUM_INSTRUCTIONS NUM_VALIDATION NUM_SURVEY_ITEMS HELD_OUT_SETS
        NUM_HELD_OUT_ITEMS PUBLIC_SETS PUBLIC_SETS_FOLDER NUM_PUBLIC_ITEMS
        CLAIM_MODE SAMPLING OPINIONS ON_BAD_ROW""".split(),
        "a stage before training",
    ),
    **dict.fromkeys(
        """BASELINES NUM_BASELINE_ITEMS RETENTION RETENTION_LIMIT BBH_FOLDER
        MAX_QUESTIONS SCORE_DTYPE""".split(),
        "what is measured, not what is trained",
    ),
    **dict.fromkeys("ARCHITECTURE CHAT PRECISION".split(), "T5X trains encoder-decoders alone"),
    **dict.fromkeys("OPTIMIZER WEIGHT_DECAY".split(), "T5X's optimizer is Adafactor"),
    "WANDB_PROJECT": "the run's own process shows it",
}
# Macros that a function of training/t5x.py or tasks/location.py reads, not the file itself.
IN_CODE = {
    "FINETUNE_STEPS": "total_steps",
    "MESH": "num_partitions",
    "MIXTURE_OR_TASK_NAME": "mixture",
    "INITIAL_CHECKPOINT_PATH": "initial_checkpoint",
    "VOCABULARY": "recipe.vocabulary",
    "MIXTURE_RATIO": "get_dataset",
}


@pytest.fixture
def gin_files():
    """Parses files under gin_configs/ and lines into gin's global configuration."""

    def parse(*files, bindings=()):
        gin.clear_config()
        gin.add_config_file_search_path(str(macros.root()))
        gin.parse_config_files_and_bindings(list(files), list(bindings))

    yield parse
    gin.clear_config()


def flags(words):
    return dict(word.removeprefix("--gin.").split("=", 1) for word in words if "--gin." in word)


def test_every_macro_reaches_t5x_or_is_known_to_be_of_no_use_to_it():
    files = [macros.root() / "trainers" / name for name in ("t5x.gin", "t5x_model.gin")]
    text = "\n".join(path.read_text() for path in files)
    used = set(re.findall(r"= @(\w+)/recipe\.setting\(\)", text))
    assert all(name in text for name in IN_CODE.values())
    assert used | IN_CODE.keys() | UNUSED.keys() == macro_types().keys()
    assert not used & UNUSED.keys()


def test_the_trainer_file_sets_no_macro_since_it_would_override_the_recipe():
    for name in ("t5x.gin", "t5x_model.gin"):
        text = (macros.root() / "trainers" / name).read_text()
        assert not re.findall(r"^[A-Z_]+ *=", text, re.MULTILINE)


@pytest.mark.parametrize("model", ["mini_base", "flan_t5_xl"])
@pytest.mark.parametrize("recipe_name", ["paper", "demo"])
def test_gin_gives_the_configuration_of_the_in_tree_trainer(gin_files, model, recipe_name):
    gin_files(f"models/{model}.gin", f"recipes/{recipe_name}.gin")
    expected = load_config(model, recipe_name)
    found = recipe.configuration()
    assert found.training == expected.training  # with the defaults of what no file sets
    assert found.data == expected.data
    assert found.model == dataclasses.replace(expected.model, name="t5x")
    assert recipe.total_steps() == expected.model.pretrained_step + 1000


def test_a_setting_is_the_macro_that_the_scope_names(gin_files):
    gin_files("models/mini_base.gin", bindings=["BATCH_SIZE = 6", "SAVE_PERIOD = %BATCH_SIZE"])
    values = []
    for name in ("BATCH_SIZE", "SAVE_PERIOD", "LOG_PERIOD"):
        with gin.config_scope(name):
            values.append(recipe.setting())
    assert values == [6, 6, 20]


def test_a_macro_that_does_not_fit_is_named(gin_files):
    gin_files("models/mini_base.gin", bindings=["LEARNING_RATE = 'high'"])
    with pytest.raises(UserError, match=r"gin macro LEARNING_RATE.*expected a number, got 'high'"):
        recipe.configuration()


def test_without_a_model_file_the_missing_macro_is_named(gin_files):
    gin_files("recipes/demo.gin")
    with pytest.raises(UserError, match="VOCAB_SIZE is not set"):
        recipe.configuration()


@pytest.mark.parametrize(("mesh", "partitions", "dims"), [((-1, 1, 2), 2, 1), ((2, 4, 1), 1, 2)])
def test_mesh_as_partitions(gin_files, mesh, partitions, dims):
    gin_files("models/mini_base.gin", bindings=[f"MESH = {mesh}"])
    assert recipe.num_partitions() == partitions
    assert recipe.parameter_partitioning_dims() == dims


def test_any_ratio_of_the_mixture_is_registered(gin_files):
    import seqio

    gin_files("models/mini_base.gin", bindings=["MIXTURE_OR_TASK_NAME = 'sycophancy_mix_7to3'"])
    assert recipe.mixture() in seqio.MixtureRegistry.names()
    gin_files("models/mini_base.gin", bindings=["MIXTURE_OR_TASK_NAME = 'sycophancy'"])
    with pytest.raises(UserError, match="no task or mixture is called 'sycophancy'"):
        recipe.mixture()


def test_the_command_names_shipped_files_and_what_differs(tmp_path):
    config = load_config("mini_base", "demo", ["FINETUNE_STEPS=7", "MESH=(1,1,1)"])
    words = t5x_command.command(config, tmp_path, tmp_path / "finetune")
    assert words[1:3] == ["-m", "t5x.train"]
    assert [word for word in words if word.startswith("--gin_file")] == [
        f"--gin_file={macros.root() / file}"  # a file of the user's by that name is not meant
        for file in ("models/mini_base.gin", "recipes/demo.gin", "trainers/t5x.gin")
    ]
    assert flags(words) == {
        "FINETUNE_STEPS": "7",
        "MESH": "(1, 1, 1)",
        "DATA_DIR": repr(str(tmp_path)),
        "MODEL_DIR": repr(str(tmp_path / "finetune")),
    }


def test_the_command_makes_the_same_run(gin_files, tmp_path):
    said = ["FINETUNE_STEPS=7", "MIXTURE_RATIO=(2, 1)", "PACKING=false", "KEEP_CHECKPOINTS=None"]
    config = load_config("mini_base", "demo", said)
    words = t5x_command.command(config, tmp_path, tmp_path)
    files = [word.removeprefix("--gin_file=") for word in words if word.startswith("--gin_file")]
    gin_files(*files[:-1], bindings=[f"{name} = {value}" for name, value in flags(words).items()])
    assert recipe.configuration().training == config.training


def test_a_model_of_the_users_own_comes_from_the_runs_config(gin_files, tmp_path):
    own = tmp_path / "own.gin"
    own.write_text("include 'models/mini_base.gin'\nNUM_HEADS = 2\n")
    config = load_config(str(own), "demo", ["FINETUNE_STEPS=7"])
    (tmp_path / "config.gin").write_text(config.operative)
    words = t5x_command.command(config, tmp_path, tmp_path / "finetune")
    assert f"--gin_file={tmp_path / 'config.gin'}" in words
    assert flags(words).keys() == {"DATA_DIR", "MODEL_DIR"}
    gin_files(str(tmp_path / "config.gin"))
    assert recipe.configuration().training == config.training
    assert recipe.configuration().model.network == config.model.network


def test_trainer_is_recorded_and_makes_finetuning_stale(tmp_path):
    from sycophancy.stages.finetune import Finetune

    config = load_config("mini_base", "demo", ["TRAINER=t5x"])
    assert load_operative(config.operative, "config.gin").trainer == "t5x"
    assert load_config("mini_base", "demo").trainer == "jax"
    assert "TRAINER" in Finetune().settings


def test_without_t5x_one_line_says_so_before_any_work(sycophancy, tmp_path, monkeypatch):
    monkeypatch.setattr(requirements, "NEEDED", ("t5x.train", "no_such_package"))
    outcome = sycophancy(
        "finetune", "--model", "mini_base", "--recipe", "quick", "--trainer", "t5x",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert outcome.code == 2
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert "TRAINER 't5x'" in line
    assert "no_such_package" in line
    assert "docs/t5x.md" in line
    assert not (tmp_path / "run").exists()


def test_an_unknown_trainer_is_refused(sycophancy, tmp_path):
    outcome = sycophancy(
        "run", "--model", "mini_base", "--trainer", "torch", "--out", tmp_path / "run"
    )
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "sycophancy: --trainer torch: TRAINER: expected one of 'jax', 't5x', got 'torch'"
    ]


def test_the_last_error_of_a_log_is_one_line(tmp_path):
    log = tmp_path / "t5x.log"
    log.write_text(
        "Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\n'
        "sycophancy.errors.UserError: BATCH_SIZE 7 does not divide by 2 processes\n"
        "  In call to configurable 'train' (<function train at 0x7f>)\n"
    )
    assert t5x_command.last_error(log) == "BATCH_SIZE 7 does not divide by 2 processes"
    log.write_text("jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: out of memory\nand more\n")
    assert t5x_command.last_error(log) == ("JaxRuntimeError: RESOURCE_EXHAUSTED: out of memory")
    log.write_text("Killed\n\n")
    assert t5x_command.last_error(log) == "Killed"


# What stands in for T5X: it writes metrics and checkpoints, and stops when told.
FAKE = """
import json, pathlib, signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job of the background
out = pathlib.Path(sys.argv[1])
print("Traceback (most recent call last):")
for step in range(1, int(sys.argv[2]) + 1):
    with (out / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "loss": 1 / step}) + "\\n")
    time.sleep(float(sys.argv[3]))
    if told:
        (out / f"checkpoint_{step}").mkdir()
        sys.exit(0)
if len(sys.argv) > 4:
    raise ValueError(sys.argv[4])
(out / f"checkpoint_{sys.argv[2]}").mkdir()
"""


@pytest.fixture
def fake(monkeypatch):
    """`finetune` with another program in T5X's place."""

    def stand_in(steps, seconds, *error):
        monkeypatch.setattr(requirements, "NEEDED", ())
        monkeypatch.setattr(t5x_command, "POLL_SECONDS", 0.05)
        words = [str(steps), str(seconds), *error]

        def command(config, data_dir, out):
            return [sys.executable, "-c", FAKE, str(out), *words]

        monkeypatch.setattr(t5x_command, "command", command)
        return load_config("mini_base", "demo", [f"FINETUNE_STEPS={steps}"])

    return stand_in


def test_progress_is_reported_and_the_last_checkpoint_returned(fake, tmp_path):
    seen, notes = [], []
    config = fake(3, 0.1)
    last = t5x_command.finetune(
        config, tmp_path, tmp_path, report=lambda *args: seen.append(args), note=notes.append
    )
    assert last == tmp_path / "checkpoint_3"
    assert [(step, metrics["loss"]) for step, metrics in seen] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    (command,) = notes
    assert command.startswith(sys.executable)
    assert t5x_command.finetune(config, tmp_path, tmp_path, note=notes.append) == last  # complete
    assert notes == [command]


def test_a_failure_is_one_line_with_the_error_and_the_log(fake, tmp_path):
    config = fake(1, 0.0, "the sky is falling")
    with pytest.raises(UserError) as caught:
        t5x_command.finetune(config, tmp_path, tmp_path)
    assert str(caught.value) == (
        f"T5X ended with code 1: ValueError: the sky is falling; its log is {tmp_path / 't5x.log'}"
    )


def test_sigterm_is_passed_on_and_waited_for(fake, tmp_path):
    config = fake(200, 0.05)

    def report(step, metrics):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted) as caught:
        t5x_command.finetune(config, tmp_path, tmp_path, report=report)
    (saved,) = tmp_path.glob("checkpoint_*")
    assert saved.name == f"checkpoint_{caught.value.step}"


def test_ctrl_c_ends_t5x_too(fake, tmp_path, monkeypatch):
    config = fake(2000, 0.05)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        t5x_command.subprocess,
        "Popen",
        lambda *a, **k: started.append(popen(*a, **k)) or started[0],
    )

    def report(step, metrics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        t5x_command.finetune(config, tmp_path, tmp_path, report=report)
    assert started[0].poll() is not None
