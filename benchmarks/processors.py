"""Epochs with code for other processors beside this one's: ``python -m benchmarks.processors``.

Each processor in a process of its own, as `NUMBA_CPU_NAME` makes it, taking turns epoch by epoch.
Another checkout of the package can take part, to compare two commits. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from benchmarks.timing import in_turns
from fastmnist import kernels

ROOT = Path(__file__).parent.parent

NATIVE = "native"
ROWS = ("sparse", "dense")

# The package may be another checkout's; this file and the workloads are always these.
SERVE = """
import sys
package, here, images, threads = sys.argv[1:]
sys.path.insert(0, package)
import fastmnist
sys.path.insert(0, here)
from benchmarks import processors
processors.serve(int(images), int(threads))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--processors", nargs="+", default=(NATIVE, "haswell"), metavar="NAME")
    parser.add_argument("--also", type=Path, metavar="CHECKOUT", help="time its package, too")
    parser.add_argument("--networks", nargs="+", default=workloads.NETWORKS, metavar="784-128-10")
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--rounds", type=int, default=11, help="epochs of each (default: 11)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES, help="in an epoch")
    arguments = parser.parse_args()
    print(
        f"One epoch of plain SGD over {arguments.images:,} images, batch {workloads.BATCH}, "
        f"{arguments.threads} threads: fastest of {arguments.rounds}, in turns, and in times of "
        f"the first. Sparse rows: {workloads.data_name()}; dense: random pixels without zeros. "
        f"{machine()}"
    )
    print()
    packages = {"": ROOT} | ({f", {arguments.also.name}": arguments.also} if arguments.also else {})
    with tempfile.TemporaryDirectory() as cache, contextlib.ExitStack() as running:
        contenders = {
            f"{processor}{suffix}": running.enter_context(
                started(processor, package.resolve(), arguments, cache)
            )
            for processor in arguments.processors
            for suffix, package in packages.items()
        }
        print(f"| network | rows | {' | '.join(contenders)} |")
        print(f"|{'---|' * (2 + len(contenders))}", flush=True)
        for rows in arguments.rows:
            for network in arguments.networks:
                cells = " | ".join(compared(contenders, network, rows, arguments.rounds))
                print(f"| {network} | {rows} | {cells} |", flush=True)


def compared(
    contenders: dict[str, subprocess.Popen[str]], network: str, rows: str, rounds: int
) -> list[str]:
    """How long an epoch takes each of them."""
    turns = {}
    for name, process in contenders.items():
        turns[name] = lambda process=process: partial(one_turn, process, network, rows)
        one_turn(process, network, rows)  # it has compiled
    taken = in_turns(turns, rounds)
    fastest = [min(each.results) for each in taken.values()]
    return [f"{1e3 * seconds:.1f} ms ({seconds / fastest[0]:.2f})" for seconds in fastest]


def started(
    processor: str, package: Path, arguments: argparse.Namespace, cache: str
) -> subprocess.Popen[str]:
    """A process that trains with the code for a processor, whenever it is sent a line."""
    command = [sys.executable, "-c", SERVE, str(package), str(ROOT)]
    command += [str(arguments.images), str(arguments.threads)]
    environment = os.environ | {"FASTMNIST_CACHE": str(Path(cache, processor))}
    if processor != NATIVE:
        # of the features alone that the processor has: by default Numba adds this machine's
        environment |= {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


def one_turn(process: subprocess.Popen[str], network: str, rows: str) -> float:
    """Seconds of an epoch."""
    process.stdin.write(f"{network} {rows}\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit(f"a process ended early: {process.wait()}")
    return float(answer)


def serve(images: int, threads: int) -> None:
    """Train whenever a line comes in; print the seconds."""
    for line in sys.stdin:
        network, form = line.split()
        rows = kernels.prepare(pixels(form, images))
        call = workloads.epoch(network, images=images, rows=rows, threads=threads)
        started = time.perf_counter()
        call()
        print(time.perf_counter() - started, flush=True)


def pixels(form: str, images: int) -> np.ndarray:
    return workloads.pixels(images) if form == "sparse" else workloads.random_pixels(1, images)


if __name__ == "__main__":
    main()
