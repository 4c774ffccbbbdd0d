"""What `sycophancy plan` computes: closed forms, the reading of compiled programs, its errors."""

import dataclasses
import importlib.util
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from sycophancy.config.load import load_config
from sycophancy.config.schema import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.plan import dump, request, table
from sycophancy.plan import work as work
from sycophancy.plan.chips import GIB, parse_slice
from sycophancy.plan.hlo import Collective
from sycophancy.plan.hlo import Program as Hlo
from sycophancy.plan.requirements import Plan, Program, Times, make_plan
from sycophancy.plan.wording import advice_of, lines

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu, the TPU compiler, is not installed (the extra `plan`)",
)
SMALL = NetworkConfig(
    vocab_size=96,
    emb_dim=32,
    num_heads=4,
    num_encoder_layers=2,
    num_decoder_layers=3,
    head_dim=8,
    mlp_dim=64,
)


@pytest.mark.parametrize(
    ("size", "published"),  # Chung et al. 2022, and what the hub counts in the checkpoints
    [
        ("small", 76.96e6),
        ("base", 247.58e6),
        ("large", 783.15e6),
        ("xl", 2.850e9),
        ("xxl", 11.14e9),
    ],
)
def test_parameters_are_the_published_count_and_the_networks_own(size, published):
    from flax import linen as nn

    from sycophancy.model.sharding import abstract_params

    network = load_config(f"flan_t5_{size}", "paper").model.network
    assert work.parameters(network) == pytest.approx(published, rel=1e-3)
    leaves = jax.tree.leaves(nn.unbox(abstract_params(network)))
    assert work.parameters(network) == sum(leaf.size for leaf in leaves)


def test_a_step_is_near_six_operations_a_parameter_and_token():
    """Each stack's parameters meet its own tokens; attention's pairs add a few percent."""
    config = load_config("flan_t5_xxl", "paper")
    network, training = config.model.network, config.training
    tables = 2 * network.vocab_size * network.emb_dim
    stacks = work.parameters(network) - tables
    decoder = dataclasses.replace(network, num_encoder_layers=0)
    of_decoder = work.parameters(decoder) - tables
    tokens = training.batch_size * training.input_length
    targets = training.batch_size * training.target_length
    six = 6 * ((stacks - of_decoder) * tokens + (of_decoder + tables / 2) * targets)
    needed, done = work.step_flops(network, training)
    # Above: cross attention's keys and values meet the prompt's tokens, and attention's pairs.
    assert six < needed < 1.25 * six
    assert done == needed


def _unrolled_flops(network, inputs, targets, *, gradient):
    from sycophancy.model.network import Transformer
    from sycophancy.model.sharding import nn

    model = Transformer(network)
    tokens = jnp.ones((2, inputs), jnp.int32), *(jnp.ones((2, targets), jnp.int32),) * 2
    params = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *tokens)["params"])

    def loss(params):
        return jnp.sum(model.apply({"params": params}, *tokens))

    step = jax.jit(jax.grad(loss) if gradient else loss)
    compiled = step.trace(params).lower().compile()
    analysis = compiled.cost_analysis()
    return (analysis[0] if isinstance(analysis, list) else analysis)["flops"]


@pytest.mark.parametrize("gradient", [False, True])
def test_closed_form_agrees_with_xlas_count_of_an_unrolled_model(gradient):
    """XLA also counts elementwise work, so it is above, less so the wider the model."""
    network = dataclasses.replace(SMALL, emb_dim=256, num_heads=8, head_dim=32, mlp_dim=512)
    counted = _unrolled_flops(network, 32, 8, gradient=gradient)
    expected = work.forward_flops(network, 2, 32, 8).total * (3 if gradient else 1)
    assert expected == pytest.approx(counted, rel=0.05)


# ruff: noqa: E501 (one instruction a line, as XLA prints them)
HLO = """HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%condition (p.1: (s32[], bf16[8,16])) -> pred[] {
  %limit = s32[]{:T(128)} constant(24)
  %p.1 = (s32[], bf16[8,16]{1,0:T(8,128)(2,1)}) parameter(0)
  %at = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%at, %limit), direction=LT
}

%product (a: bf16[8,16], b: bf16[16,16]) -> bf16[8,16] {
  %a = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[16,16]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %conv = bf16[8,16]{1,0:T(8,128)(2,1)} convolution(%a, %b), dim_labels=bf_io->bf
}

%body (p: (s32[], bf16[8,16])) -> (s32[], bf16[8,16]) {
  %p = (s32[], /*index=1*/bf16[8,16]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %h = bf16[8,16]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%p), index=1
  %gathered = bf16[16,16]{1,0:T(8,128)(2,1)} all-gather(%h), replica_groups=[8,2]<=[16], dimensions={0}
  %f = bf16[8,16]{1,0} fusion(%h, %gathered), kind=kOutput, calls=%product
  ROOT %out = (s32[], bf16[8,16]) tuple(%i, %f)
}

ENTRY %main (g: f32[4,4]) -> f32[4,4] {
  %g = f32[4,4]{1,0:T(4,128)} parameter(0)
  %start = (s32[], bf16[8,16]) tuple(%g)
  %loop = (s32[], bf16[8,16]{1,0:T(8,128)(2,1)}) while(%start), condition=%condition, body=%body
  %pair = (f32[4,4]{1,0:T(4,128)}, f32[]{:T(128)}) all-reduce(%g, %g), replica_groups=mesh['a'=4,'b'=4] {'a','b'}, to_apply=%add
  %alone = f32[4,4]{1,0} all-reduce(%g), replica_groups={{0},{1}}, to_apply=%add
  ROOT %scattered = f32[1,4]{1,0} reduce-scatter(%g), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
}
"""


def test_collectives_and_products_in_a_loop_count_once_a_trip():
    program = Hlo(HLO)
    assert program.collectives(16) == [
        Collective("all-gather", 2, 24, 24 * 16 * 16 * 2),
        Collective("all-reduce", 16, 1, 4 * 4 * 4 + 4),
        Collective("reduce-scatter", 4, 1, 4 * 4 * 4),
    ]
    assert program.matmul_flops() == 24 * 2 * 8 * 16 * 16
    assert program.unknown_loops == []


def test_a_collective_that_is_fused_in_pieces_counts_once():
    whole = "%alone = f32[4,4]{1,0} all-reduce(%g), replica_groups={{0},{1}}, to_apply=%add"
    piece = (
        "%piece.0 = f32[8,4]{1,0} all-gather(%g), channel_id=7, replica_groups={{0,1},{2,3}}, "
        'dimensions={0}, frontend_attributes={chain_id="2"}'
    )
    pieces = "\n  ".join(piece.replace(".0", f".{number}") for number in range(3))
    other = piece.replace(".0", ".9").replace("channel_id=7", "channel_id=8")
    found = Hlo(HLO.replace(whole, f"{pieces}\n  {other}")).collectives(16)
    assert Collective("all-gather", 2, 24 + 2, 24 * 16 * 16 * 2 + 2 * 8 * 4 * 4) in found


def test_a_loop_with_another_condition_is_named_and_counts_once():
    program = Hlo(HLO.replace("direction=LT", "direction=NE"))
    assert program.unknown_loops == ["loop"]
    assert program.collectives(16)[0].count == 1


def test_a_loops_trips_follow_from_its_start_and_stride():
    text = (
        HLO.replace(
            "%start = (s32[], bf16[8,16]) tuple(%g)",
            "%four = s32[] constant(4)\n  %start = (s32[], bf16[8,16]) tuple(%four, %g)",
        )
        .replace(
            "%out = (s32[], bf16[8,16]) tuple(%i, %f)",
            "%out = (s32[], bf16[8,16]) tuple(%next, %f)",
        )
        .replace("  %h = ", "  %two = s32[] constant(2)\n  %next = s32[] add(%i, %two)\n  %h = ")
    )
    assert Hlo(text).collectives(16)[0].count == 10  # 4, 6, ... 22


def test_what_leaves_a_chip_is_the_rings_share():
    assert Collective("all-reduce", 4, 1, 400).sent == 600
    assert Collective("all-gather", 4, 1, 400).sent == 300
    assert Collective("collective-permute", 4, 1, 400).sent == 400


def test_matrix_products_of_a_compiled_scan_match_the_closed_form():
    """The parser on what this machine's XLA makes of a network deep enough to be a loop."""
    from sycophancy.model.network import Transformer
    from sycophancy.model.sharding import nn

    network = dataclasses.replace(SMALL, num_encoder_layers=6, num_decoder_layers=5)
    model = Transformer(network)
    tokens = [jnp.ones((2, length), jnp.int32) for length in (16, 4, 4)]
    params = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *tokens)["params"])
    step = jax.jit(lambda params: model.apply({"params": params}, *tokens))
    program = Hlo(step.trace(params).lower().compile().as_text())
    assert program.matmul_flops() == work.forward_flops(network, 2, 16, 4).total


@pytest.mark.parametrize(
    ("text", "topology", "chips", "name"),
    [
        ("v4-32", "v4:2x2x4", 16, "v4-32"),
        ("v4:4x4x4", "v4:4x4x4", 64, "v4-128"),
        ("v5litepod-256", "v5e:16x16", 256, "v5e-256"),
        ("v5p-8", "v5p:2x2x1", 4, "v5p-8"),
        ("h100:8", "h100:8", 8, "h100-8"),
    ],
)
def test_slices_by_name_and_shape(text, topology, chips, name):
    place = parse_slice(text)
    assert (place.topology, place.chips, place.name) == (topology, chips, name)


@pytest.mark.parametrize("text", ["v9:2x2", "v4", "v4:2x2", "v4-7", "v5e:0x4", "h100:2x4", ""])
def test_an_unknown_slice_is_one_line_that_names_the_chips_or_shapes(text):
    with pytest.raises(UserError, match=r"^--topology [^\n]*$"):
        parse_slice(text)


def test_gpus_are_estimated_and_said_to_be(sycophancy):
    done = sycophancy("plan", "--model", "flan_t5_xl", "--topology", "h100:8", "--mesh", "fsdp=8")
    assert done.code == 0
    assert "estimate" in done.out
    assert "fits: yes" in done.out


def test_a_run_that_does_not_fit_says_what_to_change(sycophancy):
    done = sycophancy("plan", "--model", "flan_t5_xxl", "--topology", "h100:4")
    assert "fits: NO" in done.out
    assert "--mesh data=-1,fsdp=4,model=1" in done.out
    assert "REMAT_POLICY='full'" in done.out


def test_a_batch_that_cannot_be_shared_is_refused(sycophancy):
    done = sycophancy("plan", "--model", "flan_t5_small", "--topology", "v4:4x4x8")
    assert done.code == 2
    assert "BATCH_SIZE 64" in done.err
    assert "model" in done.err


def test_without_libtpu_one_line_says_what_to_install(sycophancy, monkeypatch):
    monkeypatch.setattr(request.importlib.util, "find_spec", lambda name: None)
    done = sycophancy("plan", "--model", "flan_t5_small", "--topology", "v4-32")
    assert done.code == 2
    assert done.err.strip().count("\n") == 0
    assert "pip install -e '.[plan]'" in done.err


def test_model_and_topology_are_asked_for(sycophancy):
    done = sycophancy("plan", "--model", "flan_t5_small")
    assert done.code == 2
    assert "--topology v4-32" in done.err


def test_the_command_line_imports_no_jax():
    code = "import sys, sycophancy.cli.main; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _answer(**changed):
    return {
        "memory": {"arguments": 2 * GIB, "temporaries": 3 * GIB, "output": 0},
        "collectives": [],
        "matmul_flops": 1e12,
        "unknown_loops": [],
        "rows": 64,
        "seconds": [1.0, 2.0],
        "cpu_seconds": 3.0,
    } | changed


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Requests that reach the compiler, which is replaced; the cache is a new folder."""
    requests = []

    def ask(request, place):
        requests.append(request)
        if request["program"] == "score":
            return {"needs": 40 * GIB, "rows": 64, "seconds": [1.0, 2.0], "cpu_seconds": 3.0}
        return _answer()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(request, "_ask_compiler", ask)
    monkeypatch.setattr(request.importlib.util, "find_spec", lambda name: object())
    return requests


def test_an_answer_is_kept_until_something_that_decides_it_changes(asked):
    place = parse_slice("v4-32")

    def plan(*bindings):
        config = load_config("flan_t5_base", "paper", bindings)
        return make_plan(config, place, scoring=False)

    first = plan()
    assert plan("FINETUNE_STEPS=7").programs == first.programs
    assert len(asked) == 1
    plan("BATCH_SIZE=128")
    assert len(asked) == 2


def test_scoring_is_asked_about_once_whatever_training_saves(asked):
    place = parse_slice("v4-32")
    for bindings in ([], ["REMAT_POLICY='full'"], ["MICROBATCHES=2"]):
        make_plan(load_config("flan_t5_base", "paper", bindings), place)
    assert sorted(request["program"] for request in asked) == ["score", "train", "train", "train"]


def test_scoring_that_does_not_fit_is_said(asked):
    plan = make_plan(load_config("flan_t5_xxl", "paper", ["MESH=(1,16,1)"]), parse_slice("v4-32"))
    text = "\n".join(lines(plan))
    assert "5.00 GiB a chip" in text
    assert "loops" not in text
    assert "does NOT fit: 40.00 GiB needed" in text
    assert "fits: NO; scoring does not; a larger slice" in text


def test_parameters_larger_than_a_chip_need_no_compiler(asked):
    config = load_config("flan_t5_xxl", "paper", ["MESH=(16,1,1)"])
    plan = make_plan(config, parse_slice("v4-32"))
    assert not asked
    assert not plan.train.fits
    assert plan.train.needs == 4 * work.parameters(config.model.network)
    assert "41.48 GiB for the parameters alone" in "\n".join(lines(plan))


DUMPED = """BufferAssignment:
allocation 0: size 2048, page 0, thread-local:
 value: <764 add.7944 @0> (size=2048,offset=0): bf16[]
allocation 1: size 1000, page 0, parameter 28, shape |f32[10,25]| at ShapeIndex {}, maybe-live-out:
 value: <12094 param.90 @0> (size=1000,offset=0): f32[10,25]{1,0:T(8,128)}
allocation 2: size 24, page 0, parameter 3, shape |s32[6]| at ShapeIndex {}:
allocation 3: size 4, page 0, maybe-live-out:
allocation 4: size 134209536, color 3, page 0, preallocated-temp:
allocation 5: size 16, page 0, constant:
allocation 6: size 4096, page 0, preallocated-temp:
"""


def test_memory_is_read_from_what_the_compiler_wrote_down(tmp_path):
    start = "module_0000.jit_step.cl_1.after_optimizations"
    (tmp_path / f"{start}-buffer-assignment.txt").write_text(DUMPED)
    (tmp_path / f"{start}-buffer-assignment-values.txt").write_text("else")
    (tmp_path / f"{start}_before_buffer_assignment.txt").write_text("else")
    (tmp_path / f"{start}.txt").write_text(HLO)
    assert not dump.is_decided(tmp_path)
    (tmp_path / f"{start}_after_buffer_assignment.txt").write_text("")
    assert dump.is_decided(tmp_path)
    found = dump.memory(tmp_path)
    assert found == {"arguments": 1024, "output": 4, "temporaries": 2048 + 16 + 4096}
    assert dump.optimised_program(tmp_path) == HLO


@pytest.mark.parametrize(
    ("topology", "whole", "part"),
    [
        ("v4:2x2x4", 3 * 4.5e10, 4.5e10),
        ("v4:4x4x4", 6 * 4.5e10, 2 * 4.5e10),
        ("v5e:2x4", 2 * 4.5e10, 4.5e10),
        ("v5e:8x16", 3 * 4.5e10, 4.5e10),
    ],
)
def test_an_axis_counts_twice_where_it_closes_to_a_ring(topology, whole, part):
    place = parse_slice(topology)
    assert place.bandwidth("all-gather", place.chips) == whole
    assert place.bandwidth("all-gather", 2) == part
    assert place.bandwidth("collective-permute", place.chips) == 2 * 4.5e10


def test_the_table_reports_a_cell_that_fails_and_goes_on(asked, monkeypatch):
    def fail(request, place):
        if place.name == "v4-8":
            raise UserError("the TPU compiler failed: of something")
        return _answer()

    monkeypatch.setattr(request, "_ask_compiler", fail)
    rows = list(table.lines("flan_t5_small", "v4-8,v4-16", "paper", ()))
    assert "of something" in rows[2]
    assert "5.0 GiB (16%)" in rows[3]
    assert len({row.count("|") for row in rows}) == 1


def test_utilisation_and_hours_follow_from_the_best_time():
    config, place = load_config("flan_t5_base", "paper"), parse_slice("v4-8")
    times = Times(compute=0.5, memory=0.25, interconnect=0.25)
    train = Program("train", True, GIB, {}, 64, times)
    flops = 0.5 * 4 * 275e12
    plan = Plan(config, place, (4, 1, 1), flops, flops, train)
    assert times.bound == "compute"
    assert plan.utilisation == pytest.approx(1.0)
    assert plan.hours("finetune") == pytest.approx(1_000 * 0.5 / 3600)
    assert plan.hours("filter") is None
    assert times.serial == 1.0


def test_advice_ends_with_a_larger_slice():
    bindings = ["MESH=(1,4,1)", "REMAT_POLICY='full'", "MICROBATCHES=16"]
    config = load_config("flan_t5_xxl", "paper", bindings)
    train = Program("train", False, 40 * GIB, {}, 64)
    plan = Plan(config, parse_slice("v5e:2x2"), (1, 4, 1), 1.0, 1.0, train)
    assert advice_of(plan) == ["a larger slice, or more model in --mesh"]


@needs_libtpu
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tpu_compiler_agrees_with_the_closed_forms(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = load_config("flan_t5_small", "paper")
    plan = make_plan(config, parse_slice("v4-32"))
    train, score = plan.programs
    assert train.fits
    assert score.fits
    assert train.matmul_flops == plan.done_flops
    asked = work.forward_flops(config.model.network, score.rows, *work.CLAIM_SHAPE)
    assert score.matmul_flops == asked.total
    # Arguments are the parameters, Adafactor's factored moments and a batch; tiles pad a little.
    state = work.state_bytes(config.model.network)
    for program in plan.programs:
        assert state < program.parts["arguments"] < 1.01 * state
    assert {found.kind for found in train.collectives} == {"all-reduce"}
