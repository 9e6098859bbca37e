"""The comparison with other libraries: ``python -m benchmarks.peers --help``."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import time
from pathlib import Path

import numpy as np

from benchmarks import THREADS, workloads
from benchmarks.conditions import machine, versions
from benchmarks.peers import CONTENDERS, KERNELS, OURS
from benchmarks.peers.problem import Problem
from benchmarks.peers.report import Row, header, save
from benchmarks.peers.turns import contenders

NEEDS = {"with_pytorch": "torch", "with_jax": "jax", "with_scikit_learn": "sklearn"}
PACKAGES = ("torch", "jax", "scikit-learn")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="Time an epoch of fastmnist, PyTorch, JAX and scikit-learn, in turns.",
    )
    parser.add_argument("--networks", nargs="+", default=workloads.NETWORKS, metavar="784-128-10")
    parser.add_argument("--batches", nargs="+", type=int, default=workloads.BATCHES, metavar="N")
    parser.add_argument(
        "--densities", nargs="+", type=float, metavar="X", help="random pixels instead of MNIST"
    )
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=f"beside {KERNELS}"
    )
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each (default: 7)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES, help="in an epoch")
    parser.add_argument("--output", type=Path, default=Path("peers"), metavar="FOLDER")
    arguments = parser.parse_args()

    # whoever is chosen is shown in times of the kernels
    chosen = dict.fromkeys([KERNELS, *(arguments.only or CONTENDERS)])
    names = [name for name in chosen if installed(name)]
    data = "random pixels" if arguments.densities else workloads.data_name()
    about = conditions(data, arguments.images, arguments.rounds)
    print(about["sentence"], end="\n\n")
    print(header(names), flush=True)
    rows = []
    for network in arguments.networks:
        for batch in arguments.batches:
            for density in arguments.densities or [None]:
                problem = Problem(network, batch, arguments.images, density)
                rows.append(compare(problem, names, arguments.rounds))
                print(rows[-1].markdown(names), flush=True)
    files = save(rows, about, arguments.output)
    print(f"\nSaved in {arguments.output}: {', '.join(files)}")


def installed(name: str) -> bool:
    """Whether the library of a contender is there; if not, it is said."""
    package = NEEDS.get(CONTENDERS[name].split(":")[0])
    if package is None or importlib.util.find_spec(package):
        return True
    print(f"without {name}: {package} is not installed (pip install --group peers)")
    return False


def compare(problem: Problem, names: list[str], rounds: int) -> Row:
    """Verify that all reach the same loss in their first epoch, then time some more of each."""
    peak = sgemm_peak()
    with contenders(names, problem) as ready:
        losses = {contender.name: contender.loss for contender in ready}
        verify(problem, losses)
        seconds: dict[str, list[float]] = {contender.name: [] for contender in ready}
        for _ in range(rounds):
            for contender in ready:
                seconds[contender.name].append(contender.epoch())
    density = float((problem.pixels != 0).mean())
    loss = next(iter(losses.values()))
    return Row(problem.network, problem.batch, density, loss, problem.flops, peak, seconds)


def verify(problem: Problem, losses: dict[str, float]) -> None:
    """Stop unless all first epochs went alike, to 1 in 1000: some ReLU may round the other way."""
    wanted = losses.get(OURS[1], next(iter(losses.values())))
    for name, loss in losses.items():
        if not abs(loss - wanted) <= 1e-3 * abs(wanted):
            raise SystemExit(f"{problem.network}: {name} reaches loss {loss}, not {wanted}")


def sgemm_peak(size: int = 2048, rounds: int = 5) -> float:
    """Operations a second of the machine's own product of matrices, at its best."""
    A, B = np.random.default_rng(0).random((2, size, size), np.float32)
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        A @ B
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def conditions(data: str, images: int, rounds: int) -> dict[str, object]:
    """What the figures belong to."""
    from llvmlite.binding import get_host_cpu_name

    sentence = (
        f"One epoch of plain SGD over {images:,} images ({data}), float32, "
        f"{THREADS} threads: milliseconds, median (fastest to slowest) of {rounds}, in turns. "
        f"{machine(*PACKAGES)}"
    )
    return {
        "sentence": sentence,
        "data": data,
        "images": images,
        "rounds": rounds,
        "threads": THREADS,
        "processor": get_host_cpu_name(),
        "python": platform.python_version(),
        "versions": versions("numpy", "numba", *PACKAGES),
    }


if __name__ == "__main__":
    main()
