"""The processor that the kernels are compiled for, as far as they must know it.

It is the target that LLVM has been given, by `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` perhaps, not
the machine that this happens to run on. So LLVM is asked: it compiles two instructions (3 ms), and
the registers in their assembly show what the target has.
"""

from __future__ import annotations

import llvmlite.binding as llvm
from numba.core.registry import cpu_target

_PROBE = """
define <16 x float> @probe(<16 x float> %a, <16 x float> %b) {
  %sum = fadd <16 x float> %a, %b
  %fma = call <16 x float> @llvm.fma.v16f32(<16 x float> %a, <16 x float> %b, <16 x float> %sum)
  ret <16 x float> %fma
}
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
"""

_TRIPLE, _CPU, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
_ASSEMBLY = (
    llvm.Target.from_triple(_TRIPLE)
    .create_target_machine(_CPU, _FEATURES)
    .emit_assembly(llvm.parse_assembly(_PROBE))
)

X86 = _TRIPLE.startswith("x86_64")
ARM = _TRIPLE.startswith(("aarch64", "arm64"))

# Vector registers, and the float32 numbers in each. The last pair is NEON's, and that of other
# processors, too. Those of SVE may be longer, but how long is known only when the code runs; LLVM
# computes vectors of a fixed length in NEON's part of them.
if "zmm" in _ASSEMBLY:
    REGISTERS, REGISTER_LANES = 32, 16  # AVX-512
elif "ymm" in _ASSEMBLY:
    REGISTERS, REGISTER_LANES = 16, 8  # AVX
elif X86:
    REGISTERS, REGISTER_LANES = 16, 4  # SSE
else:
    REGISTERS, REGISTER_LANES = 32, 4

# Whether there is an instruction that multiplies and adds. On x86 before 2013 there is none, and
# LLVM calls the C library for each lane: 90 times as slow (784-128-10 as `nehalem`).
FMA = "fmaf" not in _ASSEMBLY

# Bytes in a cache line.
if _CPU == "a64fx":
    LINE = 256
elif ARM and "apple" in _TRIPLE + _CPU:
    LINE = 128
else:
    LINE = 64
