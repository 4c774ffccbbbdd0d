"""Collectives and products are read from optimised programs, loops multiplied out."""

from sycophancy.plan.hlo import Collective, Program

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


def test_collectives_and_products_in_a_loop_count_once_an_iteration():
    program = Program(HLO)
    assert program.collectives(16) == [
        Collective("all-gather", 2, 24, 24 * 16 * 16 * 2),
        Collective("all-reduce", 16, 1, 4 * 4 * 4 + 4),
        Collective("reduce-scatter", 4, 1, 4 * 4 * 4),
    ]
    assert program.matmul_flops() == 24 * 2 * 8 * 16 * 16
    assert program.unknown_loops == []


def test_a_branch_runs_as_often_as_it_is_said_to():
    """A loop of 24 iterations whose product is in one branch of two, written in both ways."""
    for branches in (
        "true_computation=%product, false_computation=%add",
        "branch_computations={%add, %product}",
    ):
        text = HLO.replace(
            "fusion(%h, %gathered), kind=kOutput, calls=%product",
            f"conditional(%i, %h, %h), {branches}",
        )
        assert Program(text, 1 / 4).matmul_flops() == 6 * 2 * 8 * 16 * 16
        assert Program(text).matmul_flops() == 24 * 2 * 8 * 16 * 16


def test_a_collective_that_is_fused_in_pieces_counts_once():
    whole = "%alone = f32[4,4]{1,0} all-reduce(%g), replica_groups={{0},{1}}, to_apply=%add"
    piece = (
        "%piece.0 = f32[8,4]{1,0} all-gather(%g), channel_id=7, replica_groups={{0,1},{2,3}}, "
        'dimensions={0}, frontend_attributes={chain_id="2"}'
    )
    pieces = "\n  ".join(piece.replace(".0", f".{number}") for number in range(3))
    other = piece.replace(".0", ".9").replace("channel_id=7", "channel_id=8")
    found = Program(HLO.replace(whole, f"{pieces}\n  {other}")).collectives(16)
    assert Collective("all-gather", 2, 24 + 2, 24 * 16 * 16 * 2 + 2 * 8 * 4 * 4) in found


def test_a_loop_with_another_condition_is_named_and_counts_once():
    program = Program(HLO.replace("direction=LT", "direction=NE"))
    assert program.unknown_loops == ["loop"]
    assert program.collectives(16)[0].count == 1


def test_the_iterations_of_a_loop_follow_from_its_start_and_step():
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
    assert Program(text).collectives(16)[0].count == 10  # 4, 6, ... 22


def test_the_bytes_sent_are_those_of_a_ring():
    assert Collective("all-reduce", 4, 1, 400).sent == 600
    assert Collective("all-gather", 4, 1, 400).sent == 300
    assert Collective("collective-permute", 4, 1, 400).sent == 400
