"""Plans of runs, with a stand-in for the TPU compiler and with the real one."""

import importlib.util
import json

import decoder_folders
import pytest

from sycophancy.config.load import load_config
from sycophancy.config.schema import AUTO_MESH
from sycophancy.errors import UserError
from sycophancy.model.mesh import auto_mesh
from sycophancy.model.size import parameter_bytes, state_bytes
from sycophancy.plan import costs, prompts, request
from sycophancy.plan.chips import GIB, parse_slice
from sycophancy.plan.requirements import Plan, Program, Times, make_plan
from sycophancy.plan.wording import advice_of, lines

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu, the TPU compiler, is not installed (the extra `plan`)",
)


ANSWER = {
    "memory": {"arguments": 2 * GIB, "temporaries": 3 * GIB, "output": 0},
    "collectives": [],
    "matmul_flops": 1e12,
    "unknown_loops": [],
    "rows": 64,
    "seconds": [1.0, 2.0],
    "cpu_seconds": 3.0,
}
TOO_LARGE = Program("score", False, 40 * GIB, {}, 64)


@pytest.fixture
def asked(monkeypatch):
    """The requests that reach a compiler that stands in for the TPU's; scoring never fits it."""
    requests = []

    def ask(request, place):
        requests.append(request)
        if request["program"] == "score":
            return {"needs": 40 * GIB, "rows": 64, "seconds": [1.0, 2.0], "cpu_seconds": 3.0}
        return ANSWER

    monkeypatch.setattr(request, "_ask_compiler", ask)
    monkeypatch.setattr(request.importlib.util, "find_spec", lambda name: object())
    return requests


def test_scoring_that_does_not_fit_is_named(asked):
    plan = make_plan(load_config("flan_t5_xxl", "paper", ["MESH=(1,16,1)"]), parse_slice("v4-32"))
    text = "\n".join(lines(plan))
    assert "5.00 GiB a chip" in text
    assert "loops" not in text
    assert "does NOT fit: 40.00 GiB needed" in text
    assert "fits: NO; scoring does not; a larger slice" in text


def test_parameters_larger_than_a_chip_need_no_compiler(asked):
    config = load_config("flan_t5_xxl", "paper", ["MESH=(16,1,1)"])
    plan = make_plan(config, parse_slice("v4-32"))
    assert [request["program"] for request in asked] == []
    assert not plan.train.fits
    assert plan.train.needs == parameter_bytes(config.model.network)
    assert "41.48 GiB for the parameters alone" in "\n".join(lines(plan))


def test_utilisation_and_hours_follow_from_the_best_time():
    config, place = load_config("flan_t5_base", "paper"), parse_slice("v4-8")
    times = Times(compute=0.5, memory=0.25, interconnect=0.25)
    train = Program("train", True, GIB, {}, 64, times)
    flops = 0.5 * 4 * 275e12
    plan = Plan(config, place, (4, 1, 1), flops, flops, train, TOO_LARGE)
    assert times.bound == "compute"
    assert plan.utilisation == pytest.approx(1.0)
    assert plan.training_hours() == pytest.approx(1_000 * 0.5 / 3600)
    assert plan.scoring_hours(prompts.filtration(config)) is None
    assert times.serial == 1.0


def test_advice_ends_with_a_larger_slice():
    bindings = ["MESH=(1,4,1)", "REMAT_POLICY='full'", "MICROBATCHES=16"]
    config = load_config("flan_t5_xxl", "paper", bindings)
    train = Program("train", False, 40 * GIB, {}, 64)
    plan = Plan(config, parse_slice("v5e:2x2"), (1, 4, 1), 1.0, 1.0, train, TOO_LARGE)
    assert advice_of(plan) == ["a larger slice, or more model in --mesh"]


def decoder_folder(path, kind="llama", **changes):
    """A folder that says what a decoder-only model is, without weights or a tokenizer."""
    path.mkdir()
    config = decoder_folders.CONFIGS[kind] | changes
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


def test_memory_of_gpus_is_estimated_from_a_config_alone(tmp_path):
    """Llama 3.1 70B in bfloat16 with AdamW: 16 bytes a parameter, split over the GPUs."""
    sizes = {
        "vocab_size": 128_256, "hidden_size": 8192, "intermediate_size": 28_672,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
    }  # fmt: skip
    folder = decoder_folder(tmp_path / "llama", **sizes)
    settings = ["OPTIMIZER='adamw'", "DTYPE='bfloat16'", "REMAT_POLICY='full'", "BATCH_SIZE=64"]

    def plan_of(gpus):
        config = load_config(folder, "paper", [*settings, "MESH=(-1,-1,1)"])
        return make_plan(config, parse_slice(f"h100:{gpus}"))

    plan = plan_of(32)
    assert plan.mesh == (1, 32, 1)
    state = sum(plan.train.parts[name] for name in ("parameters", "gradients", "moments"))
    assert state == pytest.approx(16 * 70.55e9 / 32, rel=1e-3)
    assert plan.train.fits
    assert plan.score.fits
    assert not plan_of(8).train.fits
    assert "fits: NO" in "\n".join(lines(plan_of(8)))


def test_moments_decide_whether_devices_hold_all_parameters():
    network = load_config("flan_t5_xl", "paper").model.network
    memory = 5 * parameter_bytes(network)
    assert auto_mesh(AUTO_MESH, state_bytes(network), memory) == (-1, 1, 1)
    assert auto_mesh(AUTO_MESH, state_bytes(network, "adamw"), memory) == (1, -1, 1)


def test_a_decoder_only_model_of_another_family_is_refused_in_one_line(tmp_path):
    folder = decoder_folder(tmp_path / "gpt2", model_type="gpt2", n_embd=32)
    with pytest.raises(UserError, match=r"'gpt2'.*Llama"):
        make_plan(load_config(folder, "paper"), parse_slice("h100:8"))


@needs_libtpu
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["llama", "gemma 3"])
def test_the_tpu_compiler_agrees_with_the_closed_forms_of_decoders(tmp_path, kind):
    wide = {"hidden_size": 512, "num_attention_heads": 4, "head_dim": 128, "vocab_size": 4096}
    folder = decoder_folder(tmp_path / "model", kind, **wide, intermediate_size=1024)
    plan = make_plan(load_config(folder, "paper"), parse_slice("v4-32"))
    assert plan.train.fits
    assert plan.score.fits
    assert plan.train.matmul_flops == plan.done_flops
    scored = costs.forward_flops(plan.config.model.network, plan.score.rows, *prompts.CLAIM_SHAPE)
    assert plan.score.matmul_flops == scored.total


@needs_libtpu
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tpu_compiler_agrees_with_the_closed_forms():
    config = load_config("flan_t5_small", "paper")
    plan = make_plan(config, parse_slice("v4-32"))
    train, score = plan.programs
    assert train.fits
    assert score.fits
    assert train.matmul_flops == plan.done_flops
    scored = costs.forward_flops(config.model.network, score.rows, *prompts.CLAIM_SHAPE)
    assert score.matmul_flops == scored.total
    # Arguments are the parameters, Adafactor's factored moments and a batch; tiles pad a little.
    state = parameter_bytes(config.model.network)
    for program in plan.programs:
        assert state < program.parts["arguments"] < 1.01 * state
    assert {collective.kind for collective in train.collectives} == {"all-reduce"}


@pytest.mark.parametrize(
    "model, rows, measured",
    [("flan_t5_base", 64, 29.4), ("flan_t5_xl", 8, 42.9), ("flan_t5_xl", 32, 93.9)],
)
def test_estimates_for_a_gpu_are_a_little_above_what_an_h200_needed(model, rows, measured):
    """The peak of docs/scaling.md's training steps, in GiB."""
    config = load_config(model, "paper", [f"BATCH_SIZE={rows}", "DTYPE='bfloat16'"])
    needs = make_plan(config, parse_slice("h200:1")).train.needs / 2**30
    assert 1.0 < needs / measured < 1.15
