"""Other processors than this one: ``python -m tests.processors``.

For each the kernels are compiled, here, and their assembly is searched for spills: numbers that do
not fit the registers of an inner loop, stored on the stack and loaded again in every step. Where
this machine can run the code, the tests of the kernels run with it, too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"

PROCESSORS = {
    "x86-64": X86,
    "nehalem": X86,
    "sandybridge": X86,
    "haswell": X86,
    "znver3": X86,
    "skylake-avx512": X86,
    "sapphirerapids": X86,
    "cortex-a72": ARM,
    "neoverse-n1": ARM,
    "neoverse-v1": ARM,
    "neoverse-v2": ARM,
    "a64fx": ARM,
    "apple-m1": ARM,
}

TESTS = ("test_kernels.py", "test_plain.py", "test_augment.py", "test_dropout.py")


class Loop(NamedTuple):
    """An innermost loop that multiplies and adds."""

    kernel: str
    instructions: int
    multiply_adds: int
    spills: int  # stores to the stack, and loads from it


# Four sums of 16 numbers each fill all registers of SSE; their order is promised, with the bits.
UNAVOIDABLE = {"x86-64": 16, "nehalem": 16}


class Compiled(NamedTuple):
    """What was found in the kernels, compiled for a processor."""

    loops: list[Loop]
    compress: list[int]  # the lanes of LLVM's `compress` in the packing of rows
    system: list[str]  # instructions that flush denormal numbers, restore that, and read a clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("processors", nargs="*", metavar="NAME", help=f"of {' '.join(PROCESSORS)}")
    parser.add_argument("--compile-only", action="store_true", help="run no tests")
    parser.add_argument("--inspect", choices=PROCESSORS, help="print as JSON what was compiled")
    arguments = parser.parse_args()
    if unknown := set(arguments.processors) - PROCESSORS.keys():
        parser.error(f"unknown processors: {' '.join(sorted(unknown))}")
    if arguments.inspect:
        print(json.dumps(inspect(arguments.inspect)))
        return
    failed = False
    print("| processor | innermost loops | multiply-adds : instructions | spills | tests |")
    print("|---|---|---|---|---|", flush=True)
    for name in arguments.processors or PROCESSORS:
        loops = compiled_for(name).loops
        spills = sum(loop.spills for loop in loops)
        works = None if arguments.compile_only or not can_run(name) else tests_pass(name)
        failed |= spills > UNAVOIDABLE.get(name, 0) or works is False
        ratios = " ".join(f"{loop.multiply_adds}:{loop.instructions}" for loop in loops)
        outcome = {None: "compiled only", True: "passed", False: "FAILED"}[works]
        print(f"| {name} | {len(loops)} | {ratios} | {spills} | {outcome} |", flush=True)
    sys.exit(failed)


def compiled_for(name: str) -> Compiled:
    """The kernels for a processor, compiled in a process of its own."""
    with tempfile.TemporaryDirectory() as cache:  # an empty one: what it holds has no assembly
        found = _python(
            name, "-m", "tests.processors", "--inspect", name,
            cache=cache, stdout=subprocess.PIPE,
        )  # fmt: skip
    found.check_returncode()
    loops, *others = json.loads(found.stdout)
    return Compiled([Loop(*loop) for loop in loops], *others)


def can_run(name: str) -> bool:
    """Whether this machine has the processor's instructions: it trains a small network."""
    import llvmlite.binding as llvm

    here = llvm.get_default_triple().partition("-")[0]
    if not PROCESSORS[name].startswith(here):
        return False
    return _python(name, "-c", "import fastmnist; fastmnist.warmup()").returncode == 0


def tests_pass(name: str) -> bool:
    files = [f"tests/{file}" for file in TESTS]
    return _python(name, "-m", "pytest", "--quiet", *files, stdout=sys.stderr).returncode == 0


def _python(
    name: str, *arguments: str, cache: str | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    # of the features alone that the processor has: by default Numba adds those of this machine
    environment = os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""}
    if cache:
        environment["FASTMNIST_CACHE"] = cache
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, **options)


def inspect(name: str) -> Compiled:
    """The kernels for the processor that Numba was told, compiled in this process, never run."""
    import llvmlite.binding as llvm

    triple = PROCESSORS[name]
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.get_process_triple = llvm.get_default_triple = lambda: triple

    import numba
    import numpy as np

    from fastmnist.kernels import dense, jit, network, packed, phases, sparse, vectors

    @jit.jit
    def sum_of_rows(zero, entries, first, stop, matrix, stride):
        return sparse.sum_of_rows(zero, entries, first, stop, matrix, 0, stride)

    @jit.jit
    def system():
        state = vectors.flush_denormals()
        vectors.restore(state)
        return phases.now()

    numbers, word, flag = numba.float32[::1], numba.int64, numba.boolean
    matrix = numba.typeof(network.Matrix(np.zeros(1, np.float32), np.int64(0), np.int64(0)))
    dense.multiply.compile((matrix, matrix, *[word] * 6, matrix, flag))
    for kind in (packed.PIXELS, packed.FLOATS):
        entries = numba.from_dtype(kind)[::1]
        for lanes in (vectors.WIDE, vectors.NARROW):
            zero = vectors.VectorType(lanes)
            sum_of_rows.compile((zero, entries, word, word, numbers, word))
    loops = [
        Loop(function.__name__, *figures)
        for function in (dense._multiply_columns, sum_of_rows)
        for overload in function.overloads.values()
        for figures in inner_loops(overload.library.get_asm_str())
    ]
    X, kind, one = packed.packable(np.zeros((1, 1), np.uint8))
    rows = packed.new_packed(np.ones(1, np.int64), 1, kind)
    packed._pack_rows.compile(tuple(map(numba.typeof, (X.reshape(-1), 1, rows, one))))
    (code,) = packed._pack_rows.inspect_llvm().values()
    compress = re.findall(r"call \S+ x i32> @llvm\.experimental\.vector\.compress\.v(\d+)i32", code)
    system.compile(())
    (code,) = system.inspect_asm().values()
    return Compiled(loops, sorted(set(map(int, compress))), _SYSTEM.findall(code))


_SYSTEM = re.compile(r"ldmxcsr|msr\tFPCR|rdtsc|CNTVCT_EL0")


_LABEL = re.compile(r"(\.?L\w+):")
_JUMP = re.compile(r"\s+(?:j|b\b|b\.|cbn?z|tbn?z)\S*\s+(?:.*\s)?(\.?L\w+)$")
_LEAVES = re.compile(r"\s+(?:jmp|b|ret\w*|br)(?:\s|$)")  # and never goes on with what follows
_MULTIPLY_ADD = re.compile(r"\s+(?:vfn?m\w+ps|fmla|v?mulps)\s")
# A load or a store of a vector register; an address that is read again costs little.
_SPILL = re.compile(r".*%[xyz]mm.*\(%rsp\)|.*\(%rsp\).*%[xyz]mm|.*\b[qdv]\d+.*\[(?:sp|x29)\b")


def inner_loops(assembly: str) -> list[tuple[int, int, int]]:
    """Instructions, multiply-adds and spills of the innermost loops that multiply and add."""
    blocks, follows = _blocks(assembly)
    found = []
    for loop in _innermost(set(blocks), follows):
        lines = [line for label in loop for line in blocks[label]]
        multiply_adds = sum(bool(_MULTIPLY_ADD.match(line)) for line in lines)
        if multiply_adds:
            spills = sum(bool(_SPILL.match(line)) for line in lines)
            found.append((len(lines), multiply_adds, spills))
    return found


def _blocks(assembly: str) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """The instructions from each label or jump to the next, and where control goes from there."""
    blocks: dict[str, list[str]] = {"": []}
    follows: dict[str, set[str]] = {"": set()}
    here = ""

    def begin(label: str) -> None:
        nonlocal here
        if not (blocks[here] and _LEAVES.match(blocks[here][-1])):
            follows[here].add(label)
        here = label
        blocks[here], follows[here] = [], set()

    for number, line in enumerate(assembly.splitlines()):
        if label := _LABEL.match(line):
            begin(label[1])
        elif line.startswith("\t") and not line.startswith("\t."):
            blocks[here].append(line)
            if jump := _JUMP.match(line):
                follows[here].add(jump[1])
                begin(f"line {number}")
    return blocks, {label: {to for to in after if to in blocks} for label, after in follows.items()}


def _innermost(within: set[str], follows: dict[str, set[str]]) -> list[set[str]]:
    """The loops without another loop inside."""
    loops: list[set[str]] = []
    reached = {label: _reached(label, within, follows) for label in within}
    while cyclic := [label for label in within if label in reached[label]]:
        loop = {label for label in reached[cyclic[0]] if cyclic[0] in reached[label]}
        within = within - loop
        if len(loop) == 1:
            loops.append(loop)
            continue
        outside = follows.keys() - loop
        entries = {label for label in loop if any(label in follows[b] for b in outside)}
        inner = [{label} for label in entries if label in follows[label]]
        loops += inner + _innermost(loop - entries, follows) or [loop]
    return loops


def _reached(label: str, within: set[str], follows: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    ahead = [label]
    while ahead:
        new = follows[ahead.pop()] & within - reached
        reached |= new
        ahead += new
    return reached


if __name__ == "__main__":
    main()
