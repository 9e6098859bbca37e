"""How much faster the kernels are than the reference: ``python -m benchmarks.ratios``.

Epochs of both, in turn, in one process and with the same number of threads, so that whatever else
the machine does slows both alike. First it is verified that they compute the same thing. Prints
the README's table, in Markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from importlib.metadata import version
from itertools import chain

import numpy as np
from llvmlite.binding import get_host_cpu_name

from benchmarks import THREADS, workloads

CASES = (  # network, samples in a batch
    ("784-10-10", 32),
    ("784-10-10", 128),
    ("784-128-10", 32),
    ("784-128-10", 128),
    ("784-800-10", 128),
)
REST = 0.1  # seconds; OpenBLAS's threads go on spinning for a while after their last product


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=11, help="epochs of each (default: 11)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES, help="in an epoch")
    arguments = parser.parse_args()
    print(conditions(arguments.images, arguments.rounds))
    print()
    print("| network | batch | reference | kernels | ratio of medians | of the fastest |")
    print("|---|---|---|---|---|---|")
    for network, batch in CASES:
        print(row(network, batch, arguments.images, arguments.rounds), flush=True)


def conditions(images: int, rounds: int) -> str:
    """What the figures belong to, one sentence."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba"))
    return (
        f"One epoch of plain SGD over {images:,} images ({workloads.data_name()}), float32, "
        f"{THREADS} threads each: median (fastest to slowest) of {rounds}, taken in turn. "
        f"{os.cpu_count()} processors, {get_host_cpu_name()}; Python {platform.python_version()}, "
        f"{packages}."
    )


def row(network: str, batch: int, images: int, rounds: int) -> str:
    """One line of the table."""
    verify_gradients(network, batch)
    seconds: dict[str, list[float]] = {backend: [] for backend in workloads.BACKENDS}
    losses = {}
    for _ in range(rounds):
        for backend in workloads.BACKENDS:
            epoch = workloads.epoch(network, backend, images, batch)
            before = workloads.epoch(network, backend, images // 5, batch)
            time.sleep(REST)
            before()  # untimed: as in a training of many epochs, no cache is cold
            started = time.perf_counter()
            losses[backend] = epoch()
            seconds[backend].append(time.perf_counter() - started)
    verify_losses(network, losses["reference"], losses["numba"])
    reference, kernels = seconds["reference"], seconds["numba"]
    ratio = statistics.median(reference) / statistics.median(kernels)
    of_fastest = min(reference) / min(kernels)
    return (
        f"| {network} | {batch} | {spread(reference)} | {spread(kernels)} "
        f"| {ratio:.1f} | {of_fastest:.1f} |"
    )


def spread(seconds: list[float]) -> str:
    """The median, and the fastest and the slowest."""
    middle, least, most = statistics.median(seconds), min(seconds), max(seconds)
    return f"{1e3 * middle:.1f} ms ({1e3 * least:.1f} to {1e3 * most:.1f})"


def verify_gradients(network: str, batch: int) -> None:
    """Stop unless the gradients of one batch agree within 32 rounding steps for each backend."""
    (_, wanted), (_, got) = (
        workloads.loss_and_gradients(network, backend, batch)() for backend in workloads.BACKENDS
    )
    for w, g in zip(chain(*wanted), chain(*got), strict=True):
        steps = np.abs(g - w).max() / (np.finfo(np.float32).eps * np.abs(w).max())
        if not steps <= 64:
            raise SystemExit(f"{network}: gradients differ by {steps:.0f} rounding steps")


def verify_losses(network: str, reference: float, kernels: float) -> None:
    """Stop unless both epochs went alike: to 1 in 1000, when a rounding may switch a ReLU over.

    784-128-10 in batches of 32: NumPy in float32 gave 0.29053, the kernels and NumPy in float64
    0.29047. Where nothing is switched over, the losses agree to 1 in 10 million.
    """
    if not abs(kernels - reference) <= 1e-3 * abs(reference):
        raise SystemExit(f"{network}: losses differ: reference {reference}, kernels {kernels}")


if __name__ == "__main__":
    main()
