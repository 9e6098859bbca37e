"""What each trick of the kernels gives: ``python -m benchmarks.ablations``.

Each is switched off in a process of its own, which compiles the kernels anew, and these processes
train in turns. Prints a table in Markdown. One thread, so that nothing depends on how work divides.
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
from typing import Any

import numba

import fastmnist as fm
from benchmarks import workloads
from benchmarks.conditions import machine
from benchmarks.timing import in_turns

ROOT = Path(__file__).parent.parent

NETWORKS = ("784-10-10", "784-128-10", "784-800-10")


@numba.njit
def _no_prefetch(array, offset):
    pass


@numba.njit
def _known(number):
    return number


# Each as names in the kernels' modules and what they become.
ABLATIONS: dict[str, dict[str, Any]] = {
    "everything on": {},
    "zeros multiplied like other numbers": {"DENSE": -1.0},
    "rows not fetched from memory ahead": {"prefetch": _no_prefetch},
    "sums of 64 columns in registers, not of 128": {"WIDE": 64},
    "all rows of W at a time, not 128": {"BAND": 2**15},
    "32 rows of W": {"BAND": 32},
    "loops over lists unrolled by the compiler": {"opaque": _known},
    "32 samples pass through together, not 128": {"CHUNK": 32, "TURNED": 40},
    "512 samples": {"CHUNK": 512, "TURNED": 520},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="784-128-10")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each (default: 7)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES, help="in an epoch")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--only", choices=ABLATIONS, help="serve this one, for another process")
    arguments = parser.parse_args()
    if arguments.only:
        serve(arguments)
        return
    print(
        f"One epoch of plain SGD over {arguments.images:,} images ({workloads.data_name()}), batch "
        f"{arguments.batch:,}, 1 thread: fastest of {arguments.rounds}, in turns. {machine()}"
    )
    print()
    print(f"| switched off | {' | '.join(arguments.networks)} |")
    print(f"|{'---|' * (1 + len(arguments.networks))}")
    with tempfile.TemporaryDirectory() as cache, contextlib.ExitStack() as running:
        turns = {}
        for number, name in enumerate(ABLATIONS):
            process = running.enter_context(started(name, arguments, Path(cache, str(number))))
            turns[name] = lambda process=process: partial(one_turn, process)
            one_turn(process)  # it has compiled
        taken = in_turns(turns, arguments.rounds)
    fastest = {
        name: [min(times) for times in zip(*each.results, strict=True)]
        for name, each in taken.items()
    }
    for name, seconds in fastest.items():
        pairs = zip(seconds, fastest["everything on"], strict=True)
        cells = [f"{1e3 * mine:.1f} ms ({mine / all_on:.2f})" for mine, all_on in pairs]
        print(f"| {name} | {' | '.join(cells)} |")


def started(name: str, arguments: argparse.Namespace, cache: Path) -> subprocess.Popen[str]:
    """A process that trains without `name`, whenever it is sent a line."""
    command = [
        *(sys.executable, "-m", "benchmarks.ablations", "--only", name),
        *("--images", str(arguments.images), "--batch", str(arguments.batch)),
        *("--networks", *arguments.networks),
    ]
    environment = os.environ | {"FASTMNIST_CACHE": str(cache)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, encoding="utf-8"
    )


def one_turn(process: subprocess.Popen[str]) -> list[float]:
    """Seconds of an epoch of each network."""
    process.stdin.write("\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit(f"{process.args} ended early")
    return [float(seconds) for seconds in answer.split()]


def serve(arguments: argparse.Namespace) -> None:
    """Train with something switched off whenever a line comes in; print the seconds."""
    patch(ABLATIONS[arguments.only])
    for _ in sys.stdin:
        print(*(epoch(name, arguments) for name in arguments.networks), flush=True)


def patch(changes: dict[str, Any]) -> None:
    """Change names wherever the kernels use them, before anything is compiled."""
    assert fm.kernels
    for module in [m for name, m in sys.modules.items() if name.startswith("fastmnist.kernels")]:
        for name in changes.keys() & vars(module).keys():
            setattr(module, name, changes[name])


def epoch(network: str, arguments: argparse.Namespace) -> float:
    call = workloads.epoch(network, images=arguments.images, batch=arguments.batch, threads=1)
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
