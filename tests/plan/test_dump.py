"""Memory and program are read from the files that the compiler writes."""

from sycophancy.plan import dump

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


def test_memory_is_read_from_the_compilers_files(tmp_path):
    start = "module_0000.jit_step.cl_1.after_optimizations"
    (tmp_path / f"{start}-buffer-assignment.txt").write_text(DUMPED)
    (tmp_path / f"{start}-buffer-assignment-values.txt").write_text("else")
    (tmp_path / f"{start}_before_buffer_assignment.txt").write_text("else")
    (tmp_path / f"{start}.txt").write_text("HloModule jit_step")
    assert not dump.is_complete(tmp_path)
    (tmp_path / f"{start}_after_buffer_assignment.txt").write_text("")
    assert dump.is_complete(tmp_path)
    assert dump.memory(tmp_path) == {
        "arguments": 1024,
        "output": 4,
        "temporaries": 2048 + 16 + 4096,
    }
    assert dump.optimised_program(tmp_path) == "HloModule jit_step"
