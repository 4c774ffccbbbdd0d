"""Gin macros become a configuration; a bad macro is refused with the place that set it."""

import gin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sycophancy.cli.options import RunOptions
from sycophancy.config import macros
from sycophancy.config.load import load_config, load_operative
from sycophancy.data.catalog import SOURCES
from sycophancy.errors import UserError

MODELS = sorted(path.stem for path in (macros.root() / "models").glob("*.gin"))
RECIPES = sorted(path.stem for path in (macros.root() / "recipes").glob("*.gin"))


def error_of(*args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        load_config(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("model", MODELS)
def test_every_shipped_model_and_recipe_loads(model, recipe):
    loaded = load_config(model, recipe)
    assert loaded.model.name == model
    assert loaded.recipe == recipe
    assert load_operative(loaded.operative, "config.gin") == loaded


def test_the_paper_recipe_has_the_papers_values():
    loaded = load_config("flan_t5_xl", "paper")
    assert loaded.training.finetune_steps == 1000
    assert loaded.training.mixture_ratio == (5.0, 1.0)
    assert loaded.data.num_examples == 100_000
    assert loaded.data.claim_mode == "paper"
    assert loaded.data.num_survey_items == 1000
    assert loaded.filtration
    assert loaded.data.data_sets == ()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("flan_t5_small", (512, 6, 8, 1024)),
        ("flan_t5_base", (768, 12, 12, 2048)),
        ("flan_t5_large", (1024, 16, 24, 2816)),
        ("flan_t5_xl", (2048, 32, 24, 5120)),
        ("flan_t5_xxl", (4096, 64, 24, 10240)),
    ],
)
def test_flan_t5_has_its_published_shape(model, shape):
    network = load_config(model, "paper").model.network
    assert (
        network.emb_dim,
        network.num_heads,
        network.num_encoder_layers,
        network.mlp_dim,
    ) == shape
    assert network.num_decoder_layers == network.num_encoder_layers
    assert (network.vocab_size, network.head_dim) == (32128, 64)


def test_a_recipe_overrides_a_model_and_a_flag_overrides_a_recipe(tmp_path):
    recipe = tmp_path / "mine.gin"
    recipe.write_text("include 'recipes/paper.gin'\nBATCH_SIZE = 7\nSEED = 1\n")
    overrides = {"SEED": macros.Setting(2, "--seed 2")}
    loaded = load_config("mini_base", str(recipe), ["BATCH_SIZE=9"], overrides)
    assert load_config("mini_base", str(recipe)).training.batch_size == 7
    assert loaded.training.batch_size == 9
    assert loaded.training.seed == loaded.data.seed == 2
    assert loaded.recipe == "mine"


def test_a_macro_may_refer_to_an_earlier_macro(tmp_path):
    recipe = tmp_path / "mine.gin"
    recipe.write_text("FINETUNE_STEPS = 30\nSAVE_PERIOD = %FINETUNE_STEPS\n")
    assert load_config("mini_base", str(recipe)).training.save_period == 30


def test_the_message_about_an_unknown_macro_has_file_line_and_a_similar_name(tmp_path):
    recipe = tmp_path / "mine.gin"
    recipe.write_text("# a comment\nBATCH_SIZE = 4\nFINETUNE_STEP = 10\n")
    message = error_of("mini_base", str(recipe))
    assert f"{recipe}:3" in message
    assert "'FINETUNE_STEP'" in message
    assert "'FINETUNE_STEPS'" in message


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        ("BATCHSIZE=4", ("--set BATCHSIZE=4", "unknown macro", "'BATCH_SIZE'")),
        ("BATCH_SIZE=four", ("--set BATCH_SIZE=four", "whole number", "'four'")),
        ("BATCH_SIZE=4.5", ("whole number", "4.5")),
        ("BATCH_SIZE=True", ("whole number", "True")),
        ("BATCH_SIZE=0", ("at least 1", "0")),
        ("SEED=-1", ("at least 0", "-1")),
        ("DROPOUT_RATE=1.0", ("less than 1",)),
        (f"SEED={2**64}", ("SEED", "at most 2,147,483,646")),
        ("FINETUNE_STEPS=1" + 22 * "0", ("FINETUNE_STEPS", "at most 1,000,000,000")),
        ("BATCH_SIZE=100000000", ("at most 65,536",)),
        ("LEARNING_RATE=1e999", ("at most 1,000,000", "inf")),
        ("LEARNING_RATE=1" + 400 * "0", ("at most 1,000,000",)),
        ("LEARNING_RATE=-1e999", ("at least 0",)),
        ("NUM_INSTRUCTIONS=10000000000", ("at most 1,000,000",)),
        ("MIXTURE_RATIO=(1e308,1e-308)", ("from 1e-06 to 1,000,000", "1e+308")),
        ("SEED=0x" + 5000 * "f", ("at most", "more than 4,300 digits")),
        ("EMBED_DIM=1000000000000000", ("at most 1,000,000",)),
        ("SAVE_MINUTES=1e7", ("at most 1,000,000",)),
        ("MLP_ACTIVATIONS=('swish',)", ("'gelu'", "'swish'")),
        ("MLP_ACTIVATIONS=()", ("of 1 to 8 entries",)),
        ("MESH=(-1,2,-1)", ("one of them perhaps -1",)),
        ("MODEL_NAME=../x", ("a folder's name",)),
        ("RECIPE=/x", ("a folder's name",)),
        ("SURVEYS='a\\x00b'", ("control characters",)),
        ("SURVEYS='\\ud800'", ("UTF-8",)),
        ("DATA_SETS=('sst',)", ("did you mean 'sst2'",)),
        ("DATA_SETS=('sst2','sst2')", ("each data set once",)),
        ("SEED=1\nBATCH_SIZE=3", ("whole number",)),
        ("KEEP_PERIOD=300", ("SAVE_PERIOD = 250", "multiple")),
        ("MIXTURE_OR_TASK_NAME=nope", ("'nope'", "instruction_tuning")),
        ("MIXTURE_OR_TASK_NAME=sycophancy_eval_addition", ("MIXTURE_OR_TASK_NAME",)),
        ("MIXTURE_OR_TASK_NAME=sycophancy_mix_0to0", ("MIXTURE_OR_TASK_NAME",)),
        ("MIXTURE_OR_TASK_NAME=sycophancy_mix_9999999to1", ("MIXTURE_OR_TASK_NAME",)),
        ("LEARNING_RATE='fast'", ("a number", "'fast'")),
        ("FILTRATION=1", ("True or False", "1")),
        ("FILTER_BALANCE=1", ("True or False", "1")),
        ("CLAIM_MODE=papr", ("'paper', 'balanced'", "'papr'")),
        ("MESH=(1,2)", ("3 values",)),
        ("MIXTURE_RATIO=(0,0)", ("positive",)),
        ("TASK_FEATURE_LENGTHS={'inputs': 8}", ("targets",)),
        ("BATCH_SIZE", ("MACRO=VALUE",)),
        ("BATCH_SIZE=@print", ("cannot read",)),
        ("DATA_SETS=('sst2'", ("cannot read",)),
        ("MICROBATCHES=5", ("MICROBATCHES = 5", "BATCH_SIZE")),
    ],
)
def test_a_bad_flag_is_refused_in_one_line_that_names_it(binding, words):
    message = error_of("mini_base", "paper", [binding])
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "name", ["sycophancy_mix_7to3", "sycophancy_mix_0to1", "sycophancy_intervention"]
)
def test_an_accepted_mixture_has_a_training_split(name):
    import tasks

    load_config("mini_base", "paper", [f"MIXTURE_OR_TASK_NAME={name}"])
    mixture = tasks.get(name)
    assert all("train" in task.splits for task in getattr(mixture, "tasks", [mixture]))


def test_the_t5x_trainer_accepts_other_mixtures():
    bindings = ["MIXTURE_OR_TASK_NAME=my_task", "TRAINER=t5x"]
    assert load_config("mini_base", "paper", bindings).training.mixture_or_task_name == "my_task"


def test_a_batch_with_too_many_tokens_is_refused():
    bindings = ["BATCH_SIZE=65536", "TASK_FEATURE_LENGTHS={'inputs': 4096, 'targets': 64}"]
    message = error_of("mini_base", "paper", bindings)
    assert message.startswith("BATCH_SIZE = 65536 rows of TASK_FEATURE_LENGTHS")
    assert "at most 67,108,864" in message


def test_balance_without_filtration_is_refused():
    message = error_of("mini_base", "paper", ["FILTER_BALANCE=true", "FILTRATION=false"])
    assert "FILTER_BALANCE" in message and "CLAIM_MODE = 'balanced'" in message


def test_flags_take_text_without_quotes_and_constants_in_lower_case():
    bindings = ["CLAIM_MODE=balanced", "FILTRATION=false", "REMAT_POLICY=none", "KEEP_PERIOD=none"]
    loaded = load_config("mini_base", "paper", bindings)
    assert loaded.data.claim_mode == "balanced"
    assert loaded.filtration is False
    assert loaded.model.network.remat_policy == "none"  # a text
    assert loaded.training.keep_period is None


@pytest.mark.parametrize(
    "text",
    [
        "import os\n",
        "seqio.Task.name = 'x'\n",
        "scope/SEED = 1\n",
        "SEED = @print\n",
        "SEED = %NOWHERE\n",
        "SEED = \n",
        "SEED == 1\n",
        "include 'nowhere.gin'\n",
        "TASK_FEATURE_LENGTHS = {'inputs': 1\n",
    ],
)
def test_a_recipe_may_hold_only_macros_and_includes(tmp_path, text):
    recipe = tmp_path / "mine.gin"
    recipe.write_text(f"BATCH_SIZE = 4\n{text}")
    assert str(recipe) in error_of("mini_base", str(recipe))


@pytest.mark.parametrize("path", ["b.gin", "./a.gin", "sub/../a.gin", "link.gin"])
def test_files_that_include_each_other_are_refused(tmp_path, path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.gin").write_text(f"include '{path}'\n")
    (tmp_path / "b.gin").write_text("include 'a.gin'\n")
    (tmp_path / "link.gin").symlink_to("a.gin")
    assert "includes" in error_of("mini_base", str(tmp_path / "a.gin"))


def test_a_long_chain_of_includes_is_refused(tmp_path):
    for number in range(50):
        (tmp_path / f"{number}.gin").write_text(f"include '{number + 1}.gin'\n")
    assert "chain of includes" in error_of("mini_base", str(tmp_path / "0.gin"))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_with_byte_order_marks_and_crlf_are_read(tmp_path, mark, end):
    text = end.join(["include 'inner.gin'", "SEED = 3", ""])
    (tmp_path / "mine.gin").write_bytes(mark + text.encode())
    (tmp_path / "inner.gin").write_bytes(mark + f"BATCH_SIZE = 6{end}".encode())
    loaded = load_config("mini_base", str(tmp_path / "mine.gin"))
    assert (loaded.data.seed, loaded.training.batch_size) == (3, 6)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("# caf\u00e9\n".encode("latin-1"), "not UTF-8"),
        ("SEED = 3\n".encode("utf-16"), "not UTF-8"),
        (b"\nLEARNING_RATE = 1" + 400 * b"0", "2: LEARNING_RATE: expected at most 1,000,000"),
        (b"TASK_FEATURE_LENGTHS = {[1]: 2}", "1: gin cannot read this: the key of a dictionary"),
        (b"TASK_FEATURE_LENGTHS = {%X: 1}", "%X is not set"),
        ("\n\u00e9\u00e9 = 5".encode(), "2: gin cannot read this: a name has letters"),
        (b"DATA_SETS = " + 2_000 * b"(" + 2_000 * b")", "nested too deeply"),
        (b"DATA_SETS = " + 20 * b"[" + 20 * b"]", "nested too deeply"),
        (b"SEED = " + 5_000 * b"9", "too many digits"),
        (b"include '" + 300 * b"a" + b".gin'", "no file"),
        (b"include 'a\\x00b'", "no file"),
        (2**20 * b"#\n", "too large"),
    ],
)
def test_the_message_about_an_unreadable_file_names_it(tmp_path, content, expected):
    path = tmp_path / "mine.gin"
    path.write_bytes(content)
    message = error_of("mini_base", str(path))
    assert message.startswith(str(path))
    assert expected in message
    assert len(message) < 500


def test_paths_that_name_no_file_are_refused(tmp_path):
    (tmp_path / "folder.gin").mkdir()
    assert "is not a file" in error_of("mini_base", str(tmp_path / "folder.gin"))
    assert "255 bytes" in error_of("mini_base", 300 * "a" + ".gin")
    assert "255 bytes" in error_of(300 * "a", "paper")
    assert "expected a path" in error_of("", "paper")


def test_the_message_about_a_damaged_config_file_names_it(tmp_path):
    (tmp_path / "config.gin").write_bytes(b"SEED = 3 # \xe9")
    with pytest.raises(UserError, match=r"config\.gin: byte 11 is not UTF-8"):
        RunOptions(name="x").config(tmp_path)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/../b", "/x", "a//b", "a" * 300, "\udcff", "a\nb", "a\0"]
)
def test_a_run_name_cannot_leave_the_folder_runs(name):
    with pytest.raises(UserError, match="--name") as caught:
        RunOptions(name=name).folder()
    assert "\n" not in str(caught.value)
    assert RunOptions(name="a/b").folder() == "runs/a/b"


@pytest.mark.parametrize("out", ["", "x/" + "a" * 256, "a\0", "\udcff"])
def test_an_output_folder_must_be_a_path(out):
    with pytest.raises(UserError, match="--out"):
        RunOptions(out=out).folder()


def test_the_message_about_an_unknown_name_has_a_similar_one():
    assert "'mini_base'" in error_of("mini_bas", "paper")
    assert "'balanced'" in error_of("mini_base", "balancd")
    assert "does not exist" in error_of("nowhere/model.gin", "paper")


@pytest.mark.parametrize(("old", "new"), [("yes", "template"), ("no", "raw")])
def test_a_value_that_was_renamed_is_refused_with_its_new_name(old, new):
    message = error_of("mini_base", "quick", [f"CHAT={old}"])
    assert f"CHAT: {old!r} is now called {new!r}" in message
    assert load_config("mini_base", "quick", [f"CHAT={new}"]).model.chat == new


def test_a_model_without_its_shape_is_refused(tmp_path):
    model = tmp_path / "half.gin"
    model.write_text("VOCAB_SIZE = 10\n")
    assert "EMBED_DIM is not set" in error_of(str(model), "paper")


def test_gins_global_configuration_is_neither_read_nor_changed():
    try:
        gin.parse_config("BATCH_SIZE = 3\nMINE = 5")
        before = gin.config_str()
        assert load_config("mini_base", "paper").training.batch_size != 3
        first = load_config("mini_base", "paper", ["BATCH_SIZE=11"])
        second = load_config("mini_base", "paper")
        assert (first.training.batch_size, second.training.batch_size) != (11, 11)
        assert gin.config_str() == before
    finally:
        gin.clear_config()


text = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(
    batch_size=st.integers(1, 65_536),
    rate=st.floats(0, 1e6),
    ratio=st.tuples(st.just(0.0) | st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)),
    names=st.lists(st.sampled_from(sorted(SOURCES)), max_size=3, unique=True),
    mirror=st.none() | text,
    filtration=st.booleans(),
    keep=st.none() | st.integers(1, 9),
)
def test_the_operative_text_parses_back_to_the_same_run(
    batch_size, rate, ratio, names, mirror, filtration, keep
):
    values = {
        "BATCH_SIZE": batch_size,
        "LEARNING_RATE": rate,
        "MIXTURE_RATIO": ratio,
        "DATA_SETS": names,
        "DATA_MIRROR": mirror,
        "FILTRATION": filtration,
        "KEEP_CHECKPOINTS": keep,
    }
    overrides = {name: macros.Setting(value, name) for name, value in values.items()}
    loaded = load_config("mini_base", "demo", overrides=overrides)
    assert loaded.training.batch_size == batch_size
    assert loaded.data.data_sets == tuple(names)
    assert load_operative(loaded.operative, "config.gin") == loaded


@pytest.mark.parametrize(
    ("text", "mesh"),
    [
        ("auto", (-1, -1, 1)),
        ("fsdp=4", (-1, 4, 1)),
        ("data=4,fsdp=2,model=1", (4, 2, 1)),
        ("data=2, model=4", (2, 1, 4)),
    ],
)
def test_a_mesh_is_given_by_axis(text, mesh):
    config = RunOptions(model="mini_base", mesh=text).config(None)
    assert config.training.mesh == mesh


@pytest.mark.parametrize(
    "text",
    ["4,2,1", "data=0", "pipe=2", "data=4,", "data=x", "", f"data={'9' * 5000}", "data=\u0663"],
)
def test_a_malformed_mesh_is_refused(text):
    with pytest.raises(UserError, match="expected auto, or sizes as in data=4,fsdp=2,model=1"):
        RunOptions(model="mini_base", mesh=text).config(None)


def test_an_axis_given_twice_is_refused():
    with pytest.raises(UserError, match="--mesh data=1,data=2: data is given twice"):
        RunOptions(model="mini_base", mesh="data=1,data=2").config(None)
