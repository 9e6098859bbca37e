"""From nothing to a result: ``python -m benchmarks.start``.

A new process that imports fastmnist, opens the data, trains 784-128-10 for an epoch and evaluates
it, in turns with new processes that do no more than import what would be used instead: their whole
time, and their peak memory. Then what imports take beyond NumPy's, and what it takes to compile all
kernels, into an empty cache. Prints three tables in Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path

from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from benchmarks.suite.programs import peak_memory, result, run
from benchmarks.timing import Taken, in_turns

COMPILATION = str(Path(__file__).with_name("compilation.py"))

OURS = "fastmnist, an epoch and its evaluation"
PEERS = {
    "torch": "import torch",
    "jax": "import jax",
    "sklearn": "import sklearn.neural_network",
}

IMPORTS = (
    "import fastmnist",
    "from fastmnist import MLP, evaluate, fit, load, reference",
    "import fastmnist.kernels",
)
IMPORT = """
import sys, time
import numpy
started = time.perf_counter()
{}
print(time.perf_counter() - started, int("numba" in sys.modules))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=7, help="processes of each (default: 7)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES, help="in an epoch")
    parser.add_argument("--compilations", type=int, default=3, help="0 for none (default: 3)")
    arguments = parser.parse_args()
    print(
        f"New processes, in turns; {arguments.images:,} images ({workloads.data_name()}), "
        f"{THREADS} threads: median (fastest to slowest) of {arguments.rounds}. "
        f"{machine('torch', 'jax', 'scikit-learn')}"
    )
    print()
    print("| process | from start to end | in times of fastmnist's | peak memory |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        scripts = {OURS: result(workloads.saved(Path(folder)), arguments.images)} | peers()
        peak_memory(scripts[OURS])  # compiles, and brings the data into their cache
        runs = {
            name: lambda script=script: partial(peak_memory, script)
            for name, script in scripts.items()
        }
        all_taken = in_turns(runs, arguments.rounds)
    for name, taken in all_taken.items():
        print(row(name, taken, all_taken[OURS].median))
    print()
    print("| beyond import numpy | takes | loads Numba |")
    print("|---|---|---|")
    for statement in IMPORTS:
        print(import_row(statement, [imported(statement) for _ in range(arguments.rounds)]))
    if arguments.compilations:
        print()
        print("| compilation | seconds in all | functions | signatures | Numba | LLVM |")
        print("|---|---|---|---|---|---|")
        for number in range(arguments.compilations):
            print(compilation_row(number + 1, **compilation()), flush=True)


def peers() -> dict[str, str]:
    """The programs that import what is installed of the others."""
    return {
        script: script for package, script in PEERS.items() if importlib.util.find_spec(package)
    }


def imported(statement: str) -> tuple[float, bool]:
    """Seconds that an import takes when NumPy is there, in a new process; if it loads Numba."""
    seconds, loaded = run("-c", IMPORT.format(statement)).split()
    return float(seconds), loaded == "1"


def compilation() -> dict[str, float]:
    """As `benchmarks.compilation` measures it, in a new process and into a new cache."""
    with tempfile.TemporaryDirectory() as cache:
        return json.loads(run(COMPILATION, FASTMNIST_CACHE=cache))


def row(name: str, taken: Taken, ours: float) -> str:
    """One line of the first table."""
    peaks = [peak for peak in taken.results if peak is not None]
    memory = f"{statistics.median(peaks):.0f} MB" if peaks else "not known"
    return f"| {name} | {taken.spread('s', 2)} | {taken.median / ours:.2f} | {memory} |"


def import_row(statement: str, found: list[tuple[float, bool]]) -> str:
    """One line of the table of imports."""
    taken = Taken([seconds for seconds, _ in found])
    return f"| `{statement}` | {taken.spread()} | {'yes' if found[0][1] else 'no'} |"


def compilation_row(
    number: int, seconds: float, functions: int, signatures: int, numba: float, llvm: float
) -> str:
    """One line of the last table; loading and saving are in none of the parts."""
    parts = f"{numba:.1f} ({numba / seconds:.0%}) | {llvm:.1f} ({llvm / seconds:.0%})"
    return f"| {number} | {seconds:.1f} | {functions} | {signatures} | {parts} |"


if __name__ == "__main__":
    main()
