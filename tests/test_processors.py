"""Code for other processors, compiled here and looked at: its instructions, and no spills."""

import pytest
from processors import PROCESSORS, compiled_for, inner_loops

EXPECTED = {  # lanes that are packed at a time, and instructions
    "x86_64": ([16], ["ldmxcsr", "ldmxcsr", "rdtsc"]),
    # LLVM packs more than four lanes wrongly where there is SVE
    "aarch64": ([4], ["msr\tFPCR", "msr\tFPCR", "CNTVCT_EL0"]),
}

SPILLING = """
\tmovq\t8(%rsp), %rdi
.LBB0_1:
\tvmovaps\t32(%rsp), %ymm0
.LBB0_2:
\tvfmadd231ps\t(%rsi,%rax), %ymm1, %ymm2
\tvfmadd231ps\t64(%rsp), %ymm1, %ymm3
\tvmovaps\t%ymm3, 64(%rsp)
\tjne\t.LBB0_2
\tmulps\t%xmm0, %xmm1
\tjb\t.LBB0_1
\tretq
"""


def test_spills_of_an_innermost_loop_are_seen():
    assert inner_loops(SPILLING) == [(4, 2, 2)]


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["haswell", "neoverse-v1"])
def test_kernels_for_other_processors(name):
    found = compiled_for(name)
    assert {loop.kernel for loop in found.loops} == {"_multiply_columns", "sum_of_rows"}
    assert [loop for loop in found.loops if loop.spills] == []
    assert (found.compress, found.system) == EXPECTED[PROCESSORS[name].partition("-")[0]]
